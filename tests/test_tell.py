"""What people are told of a night, through real channels on this machine."""

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tell import ADDRESSES, COMMAND, tell

EVENT = {"event_id": "1", "camera_id": "gate", "video_id": "gate/a.mp4", "recorded_at": None, "kind": "unusual"}
FOUND: dict[str, Any] = {"state": "completed", "message": "", "report": "/r.html", "new_events": [], "no_footage": []}
FOUND["new_in_older_footage"] = 3
FOUND["new_events"] = [{**EVENT, "reason": f"moves fast {k}"} for k in range(12)]
FAILED: dict[str, Any] = {"state": "failed", "message": "the lens cap is on", "new_events": []}
STOPPED: dict[str, Any] = {**FAILED, "state": "stopped", "message": "the night was stopped"}
QUIET: dict[str, Any] = {**FOUND, "new_events": []}
AWAY = {"camera_id": "yard", "message": "no footage since 2026-03-02 00:10 UTC"}
SILENT: dict[str, Any] = {**QUIET, "no_footage": [AWAY]}


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address, and what is sent there."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"json://127.0.0.1:{server.server_port}/night", got
        server.shutdown()


def test_a_webhook_and_a_command(
    webhook: tuple[str, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, got = webhook
    program = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"
    monkeypatch.setenv(COMMAND, f"{sys.executable} -c '{program}' '{tmp_path / 'told by command.json'}'")
    monkeypatch.setenv(ADDRESSES, address)
    log: list[str] = []
    for status in (QUIET, FOUND, SILENT, SILENT | {"new_events": FOUND["new_events"][:1]}, STOPPED, FAILED):
        tell(status, log.append)
    assert log == []
    assert [(message["title"], message["message"].splitlines()[0]) for message in got] == [
        ("vidrnn: 12 new events", "gate  gate/a.mp4  moves fast 0"),
        ("vidrnn: no footage of yard", "yard: no footage since 2026-03-02 00:10 UTC"),
        ("vidrnn: no footage of yard; 1 new event", "yard: no footage since 2026-03-02 00:10 UTC"),
        ("vidrnn: the night was stopped", "the night was stopped"),
        ("vidrnn: the night failed", "the lens cap is on"),
    ]
    older = "and 3 in footage of earlier nights, which did not find them"
    assert got[0]["message"].splitlines()[-3:] == ["and 2 more", older, "/r.html"]
    assert json.loads((tmp_path / "told by command.json").read_text()) == FAILED


def test_what_does_not_work_is_a_line_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND, "false")
    monkeypatch.setenv(ADDRESSES, "json://127.0.0.1:1/night nonsense")
    log: list[str] = []
    tell(FAILED, log.append)
    assert [line.split()[1] for line in log] == [COMMAND, "not"]


def test_nothing_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COMMAND, raising=False)
    monkeypatch.delenv(ADDRESSES, raising=False)
    log: list[str] = []
    tell(FAILED, log.append)
    assert log == []
