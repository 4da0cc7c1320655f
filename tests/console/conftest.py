"""Running ``python -m understudy`` as a process, and talking to it through pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PRELUDE = '''
import asyncio, os, sys, threading
from understudy import *

def say(*words):
    print(*words, flush=True)

class Go(Message[None]):
    number: int = 0

class Member(Actor):
    """Says what it does; ``Go`` is handled when a line comes in."""

    def __init__(self, label="member"):
        super().__init__()
        self.label = label

    def on_start(self):
        say(self.label, "starts")

    def on_stop(self):
        say(self.label, "stops")

    @handles
    def go(self, message: Go) -> None:
        say(self.label, "begins", message.number)
        sys.stdin.readline()
        say(self.label, "ends", message.number)

class Waiting(Member):
    """Tells itself to go."""

    def __init__(self, label="member", times=1):
        super().__init__(label)
        self.times = times

    def on_start(self):
        super().on_start()
        for number in range(self.times):
            self.actor_ref.tell(Go(number))

class Crashing(Member):
    """Crashes as soon as it handles something."""

    def on_start(self):
        super().on_start()
        self.actor_ref.tell(Go())

    @handles
    def go(self, message: Go) -> None:
        raise RuntimeError("crashed as ordered")
'''


class Command:
    """A running ``understudy`` command."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "understudy", *arguments],
            cwd=directory,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []

    def read_until(self, text: str) -> str:
        """Read what it prints, up to the first line that contains ``text``, which is returned."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return self.lines[-1]
        raise AssertionError(f"{text!r} never came:\n{self.output}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def write_line(self) -> None:
        """Let one ``Go`` be handled."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def wait(self) -> int:
        """Wait for its end; returns the exit status."""
        assert self._process.stdout is not None
        self.lines += [line.rstrip("\n") for line in self._process.stdout]
        return self._process.wait(60)

    @property
    def output(self) -> str:
        """What it printed so far, as far as it was read."""
        return "\n".join(self.lines)

    def said(self) -> list[str]:
        """What the members said."""
        return [
            line
            for line in self.lines
            if line.split(" ")[-1] in ("starts", "stops") or " begins " in line or " ends " in line
        ]

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.wait(60)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


Start = Callable[..., Command]


@pytest.fixture(name="start")
def new_start(tmp_path: Path) -> Iterator[Start]:
    """Runs ``understudy`` with arguments, in a directory with a module ``shop`` that ends in the given text."""
    commands: list[Command] = []

    def start(declaration: str, *arguments: str) -> Command:
        (tmp_path / "shop.py").write_text(PRELUDE + declaration)
        commands.append(Command(tmp_path, *(arguments or ("run", "shop:tree"))))
        return commands[-1]

    yield start
    for command in commands:
        command.close()
