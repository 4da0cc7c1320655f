"""Holders in processes of their own, stopped past their lease: what they write then is refused, every time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

HOLDERS = 5
"""Processes."""
LEASE = 0.5
ACQUISITIONS = 1_000
"""Of all of them together."""
STALLS = 8
"""How often each of them is stopped past its lease."""


class Stage:
    """The processes, and what they said, in the order in which it was heard."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.news = threading.Condition()
        self.ready = 0
        self.stopped: dict[str, tuple[int, int]] = {}
        self.done = 0
        self.excused: set[int] = set()
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.threads: list[threading.Thread] = []

    def start(self, name: str, *arguments: str) -> None:
        program = Path(__file__).with_name("holder_process.py")
        process = subprocess.Popen(
            [sys.executable, str(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes[name] = process
        thread = threading.Thread(target=self._listen, args=(name, process))
        thread.start()
        self.threads.append(thread)

    def go(self) -> None:
        with self.news:
            assert self.news.wait_for(lambda: self.ready == HOLDERS, 30)
        for process in self.processes.values():
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

    def _listen(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            event = {**json.loads(line), "name": name}
            with self.news:
                self._note(event)
                self.news.notify_all()

    def _note(self, event: dict[str, Any]) -> None:
        self.said.append(event)
        if event["what"] == "ready":
            self.ready += 1
        elif event["what"] == "done":
            self.done += 1
        elif event["what"] == "stalls":
            self.stopped[event["name"]] = (event["token"], self.processes[event["name"]].pid)
        elif event["what"] == "wrote":
            # A later holder has written: whoever was stopped before goes on, and is too late.
            for name, (token, pid) in list(self.stopped.items()):
                if token < event["token"]:
                    del self.stopped[name]
                    os.kill(pid, signal.SIGCONT)
        if self.stopped and len(self.stopped) + self.done == HOLDERS:
            # Nobody is left to write after the last one: it may, and the others will be too late.
            name = max(self.stopped, key=lambda each: self.stopped[each])
            token, pid = self.stopped.pop(name)
            self.excused.add(token)
            os.kill(pid, signal.SIGCONT)

    def end(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        for thread in self.threads:
            thread.join()
        for process in self.processes.values():
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()


@pytest.mark.timeout(250)
@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_contended_acquisitions_with_stalled_holders(
    redis_url: str,
    redis_prefix: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    store: str,
) -> None:
    """Stale tokens are refused by the mutator every time, and the line is fair within the number of waiters."""
    in_file = f"sqlite:///{tmp_path}/ledger.db"
    store_url = in_file if store == "sqlite" else request.getfixturevalue("postgres_url")
    stage = Stage()
    try:
        for number in range(HOLDERS):
            stage.start(
                f"holder-{number}",
                f"{redis_url}?prefix={redis_prefix}",
                store_url,
                f"holder-{number}",
                str(ACQUISITIONS // HOLDERS),
                str(STALLS),
                str(LEASE),
            )
        stage.go()
        for process in stage.processes.values():
            assert process.wait(timeout=200) == 0
    finally:
        stage.end()
    by_what: dict[str, list[dict[str, Any]]] = {}
    for event in stage.said:
        by_what.setdefault(event["what"], []).append(event)
    granted = by_what["granted"]
    assert len({event["token"] for event in granted}) == len(granted) == ACQUISITIONS

    stalled = {event["token"] for event in by_what["stalls"]}
    refused = {event["token"] for event in by_what["refused"]}
    assert len(stalled) == STALLS * HOLDERS
    assert len(stage.excused) < len(stalled) // 2
    stalled -= stage.excused
    assert stalled <= refused, "what a holder wrote after its lease was taken"
    assert {event["kind"] for event in by_what["refused"]} == {"storage.fencing.stale"}
    assert "failed" not in by_what
    # Whoever was refused had lost its lease; nobody else had, unless this machine stalled it, too.
    assert stalled <= {event["token"] for event in by_what["lost"]}
    wrote = {event["token"] for event in by_what["wrote"]}
    assert wrote | refused == {event["token"] for event in granted}

    for event in granted:
        overtaken_by = [
            other
            for other in granted
            if other["asked"] > event["asked"] and other["token"] < event["token"] and other["name"] != event["name"]
        ]
        assert len(overtaken_by) <= HOLDERS, f"{event} was overtaken by {overtaken_by}"
