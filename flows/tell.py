"""Tell people how a night went. Without the two settings below nothing leaves this machine.

`VIDRNN_TELL_COMMAND` is a command that gets the status of the night as JSON on its standard input.
`VIDRNN_TELL_URLS` are addresses that Apprise understands, separated by blanks: `mailto://…`, `json://host/path` for a
webhook, `slack://…`. They are settings of the environment, not of params.yaml, because they hold passwords.
"""

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from typing import Any

from apprise import Apprise
from footage import told

COMMAND, ADDRESSES = "VIDRNN_TELL_COMMAND", "VIDRNN_TELL_URLS"
COMMAND_SECONDS = 60.0
SHOWN = 10  # events in a message
NAMED = 3  # cameras in its title


def tell(status: dict[str, Any], log: Callable[[str], None]) -> None:
    """Tell of a night that failed, was stopped, found new events or got no footage of a camera.

    What cannot be told is a line of the log, and no failure.
    """
    if status["state"] == "completed" and not status["new_events"] and not status["no_footage"]:
        return
    if command := os.environ.get(COMMAND):
        try:
            text = json.dumps(status)
            subprocess.run(shlex.split(command), input=text, text=True, check=True, timeout=COMMAND_SECONDS)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            log(f"warning: {COMMAND} did not work: {error}")
    if addresses := os.environ.get(ADDRESSES, "").split():
        sender = Apprise()
        understood = [sender.add(address) for address in addresses]
        if not sender.notify(title=title_of(status), body=body_of(status)) or not all(understood):
            log(f"warning: not every address of {ADDRESSES} could be told")


def title_of(status: dict[str, Any]) -> str:
    """One line."""
    if status["state"] != "completed":
        return f"vidrnn: the night {'was stopped' if status['state'] == 'stopped' else 'failed'}"
    said, count = [], len(status["new_events"])
    if silent := [row["camera_id"] for row in status["no_footage"]]:
        said.append(f"no footage of {', '.join(silent) if len(silent) <= NAMED else f'{len(silent)} cameras'}")
    if count:
        said.append(f"{count} new event{'s' if count > 1 else ''}")
    return f"vidrnn: {'; '.join(said)}"


def body_of(status: dict[str, Any]) -> str:
    """What went wrong, or who gave no footage and the first of the new events."""
    if status["state"] != "completed":
        return str(status["message"])
    lines = told(status["no_footage"])
    lines += [
        f"{event['camera_id']}  {event['recorded_at'] or event['video_id']}  {event['reason'] or event['kind']}"
        for event in status["new_events"][:SHOWN]
    ]
    if (more := len(status["new_events"]) - SHOWN) > 0:
        lines.append(f"and {more} more")
    if older := status["new_in_older_footage"]:
        lines.append(f"and {older} in footage of earlier nights, which did not find {'it' if older == 1 else 'them'}")
    return "\n".join([*lines, status["report"]])
