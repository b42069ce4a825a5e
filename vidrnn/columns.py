"""What the columns of the tables mean, in words: for docs/reference.md and `vidrnn columns`."""

_COMMON = {
    "camera_id": "the camera: the first folder below the footage, or `default`",
    "video_id": "the file, as a path below the footage",
    "frame_index": "of the source's frames, from 0, in order of presentation",
    "pts": "presentation time in ticks of the file's time base",
    "time_seconds": "seconds since the file's first frame",
    "recorded_at": "when it was recorded, UTC; null where neither name nor container says so",
    "onset_pts": "where it begins, in ticks",
    "offset_pts": "where it is over, in ticks",
    "onset_seconds": "where it begins, in seconds since the file's first frame",
    "offset_seconds": "where it is over, likewise",
    "onset_frame": "its first frame",
    "offset_frame": "the first frame after it",
    "x0": "left edge of the box, pixels",
    "y0": "upper edge",
    "x1": "right edge, excluded",
    "y1": "lower edge, excluded",
    "track_id": "the object, a number within the file",
    "num_videos": "how many files it is about",
}
_OWN = {
    "videos": {
        "sha256": "of the file's bytes; of a folder of pictures, of their names and bytes",
        "codec": "FFmpeg's name of it",
        "width": "pixels of the picture as displayed; null for features that somebody else computed",
        "height": "likewise",
        "rotation": "degrees by which the stored picture is turned counter-clockwise for display",
        "time_base_num": "seconds a tick, numerator",
        "time_base_den": "and denominator",
        "num_frames": "frames that could be decoded",
        "num_undecodable": "packets that could not",
        "duration_seconds": "as decoded, else as the container claims",
        "recorded_at": "of the first frame, UTC; null where neither name nor container says so",
        "recorded_at_source": "`name`, `container` or `none`",
        "trains": "whether `index.train` takes it",
        "scored": "whether `index.test` takes it",
        "status": "`ok`, `partial` or `unreadable`",
        "message": "what happened, in words; mostly empty",
    },
    "frames": {
        "score_raw": "how unusual the frame is, in nats, before the last average",
        "score": "averaged over `score.smoothing_seconds`, causally; alarms use it",
        "alarm": "whether the score is above the threshold, or the camera itself has an incident",
        "valid": "false during warm-up, which raises no alarm",
    },
    "events": {
        "onset_pts": "where its score began to rise to the first alarm, at most 2 s before that, in ticks",
        "event_id": "16 hex digits of a hash of the file's sha256 and the onset; the same in every run",
        "kind": "`unusual`, `camera_moved`, `camera_covered` or `signal_lost`",
        "recorded_at": "of the onset, UTC; null where the file's is unknown",
        "peak_seconds": "where the score is highest",
        "peak_score": "and how high",
        "rarity": "false alarms an hour that ordinary footage is expected to raise at this score; less is rarer",
        "x0": "left edge of the box at the peak, pixels; null without pictures",
        "track_ids": "objects that touch the box while it lasts",
        "reason": "what was unusual, in words",
        "reason_quantity": "its name in short: `speed`, `direction`, `size`, `shape`, `camera`, …",
        "reason_expected_low": "lowest value to be expected",
        "reason_expected_high": "highest value to be expected",
        "reason_seen": "and the value seen",
        "model_version": "of the model that scored it",
    },
    "detections": {
        "objectness": "how sure it is, in [0, 1); 0 where the object is hidden and its place bridged",
        "score": "of the highest cell that it covers",
    },
    "tracks": {
        "num_frames": "analysed frames in which it is",
        "path": "the centre of its box in each of them, pixels",
        "mean_speed": "picture heights a second",
        "peak_score": "the highest score of its detections",
    },
    "segments": {
        "segment_id": "16 hex digits of a hash, the same in every run",
        "recorded_at": "of the onset, UTC; null where the file's is unknown",
        "start": "how it begins: `start` of the file, `cut`, `fade`, `dissolve` or `change` of what goes on",
        "boundary_score": "how far its beginning stands out, from 1; null at the start of a file",
        "group": "segments of a file with the same number show the same scene",
        "key_pts": "of the frame that is most like all of it, in ticks",
        "key_seconds": "likewise in seconds",
        "key_frame": "likewise its number",
    },
    "embeddings": {
        "recorded_at": "of the onset, UTC; null where the file's is unknown",
        "vector": "of length 1; the product of two says how alike two moments of a camera are",
    },
    "health": {
        "night": "a local date, as 2026-03-01",
        "hours": "of footage",
        "brightness": "mean of the picture, 0 to 1",
        "contrast": "its spread, in levels of 0 to 255",
        "sharpness": "by how much its edges are steeper than they are once blurred; 0 is a blur, about 1 is sharp",
        "framing": "correlation of the mean picture with that of the nights before",
        "frame_rate": "frames a second",
        "score_median": "of the frames that may raise alarms",
        "score_high": "their 99th percentile",
        "ok": "whether all is as in the nights before",
        "message": "what is not, in words",
    },
    "promotions": {
        "candidate_version": "of the model that was trained",
        "champion_version": "of the one in use before; null where there was none",
        "measure": "what was compared",
        "candidate_value": "of the candidate",
        "champion_value": "of the champion",
        "difference_low": "lower end of the interval of candidate less champion",
        "difference_high": "its upper end",
        "promoted": "whether the candidate is the model now",
        "reason": "why, in words",
    },
    "metrics": {
        "camera_id": "the camera, or `*` for all of them",
        "name": "of the measure",
        "value": "null where it is undefined",
        "low": "lower end of its interval",
        "high": "upper end",
    },
}


def describe(table: str, column: str) -> str:
    """What a column of a table means.

    Raises:
        KeyError: nobody has written it down; a test sees to it that this does not happen.
    """
    own = _OWN[table]
    return own[column] if column in own else _COMMON[column]
