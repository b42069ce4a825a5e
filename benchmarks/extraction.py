"""Features of a folder from nothing, timed: python -m benchmarks.extraction VIDEOS OUT.

A module of its own, and run as one: the processes of the stage import again what started them, and with all that
benchmarks.speed imports they would take seconds to start that the stage itself does not take.
"""

import json
import sys
import time
from pathlib import Path

from vidrnn.extract import extract_features
from vidrnn.index import index_videos
from vidrnn.params import load_params

if __name__ == "__main__":
    videos, out = map(Path, sys.argv[1:])
    params = load_params()
    index = index_videos(videos, params.index, "UTC", out / "memory.json")
    start = time.perf_counter()
    extract_features(videos, index, params.features, out / "features")
    print(json.dumps({"seconds": time.perf_counter() - start}))
