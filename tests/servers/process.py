"""A server process of the tests' own: started, killed, stopped, paused, and never left behind."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

HOST = "127.0.0.1"
PATIENCE = 240.0
"""Seconds after which a server that is not ready, or not gone, counts as broken."""

EPHEMERAL = 32_768
"""Where the ports begin that outgoing connections get: a server that is down could lose its port to one of them."""

# Reads until the tests' process is gone, however it went, and then ends the server and its children.
GUARD = 'cat >/dev/null; kill -STOP $0; kill -KILL $0 $(ps -o pid= --ppid $0); rm -rf "$1"'


def free_port() -> int:
    """A TCP port that nobody listens on."""
    while True:
        port = random.randint(20_000, EPHEMERAL - 1)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def poll(done: Callable[[], bool], what: str, timeout: float = PATIENCE) -> None:
    """Wait for another process, which cannot tell us: look every 20 ms.

    Raises:
        TimeoutError: Not done after ``timeout`` seconds.
    """
    end = time.monotonic() + timeout
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(0.02)


class Process:
    """One child process with all its descendants.

    A guard, which is another process, ends them and removes their folder if the tests' own process dies.

    Args:
        command: What to run.
        environment: All of its environment.
        folder: The working directory: a temporary one, which goes when they go.
        log: Where its output is appended.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        self._guard = subprocess.Popen(
            ["sh", "-c", GUARD, str(self._process.pid), str(folder)],
            stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, not its children."""
        self._process.send_signal(number)

    def send_all(self, number: signal.Signals) -> None:
        """Send it and its descendants a signal."""
        for pid in self.family():
            _signal(pid, number)

    def kill(self) -> None:
        """End it with its descendants, now; returns when they are gone."""
        self._release_guard()
        if self.running:
            self.send(signal.SIGSTOP)  # so that it makes no more children while we count them
        _, *family = self.family()
        self._process.kill()
        self._process.wait()
        for pid in family:
            _signal(pid, signal.SIGKILL)
        poll(lambda: not any(map(_is_alive, family)), "the end of a killed server's children")

    def wait(self) -> None:
        """Wait for its end, after a signal that asks for it."""
        try:
            self._process.wait(PATIENCE)
        finally:
            self.kill()

    def _release_guard(self) -> None:
        self._guard.kill()
        self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()

    def family(self) -> list[int]:
        """The process ids of itself and its descendants."""
        parents = {int(entry.name): _parent(entry) for entry in Path("/proc").iterdir() if entry.name.isdecimal()}
        family = [self._process.pid]
        for member in family:
            family += [pid for pid, parent in parents.items() if parent == member]
        return family


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _state(process: Path) -> list[str]:
    """What ``/proc/PID/stat`` says after the command's name: the state, the parent, …"""
    try:
        return (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["X", "0"]


def _parent(process: Path) -> int:
    return int(_state(process)[1])


def _is_alive(pid: int) -> bool:
    return _state(Path("/proc", str(pid)))[0] not in "ZX"


class PrivateServer(ABC):
    """A server from the installed binaries, in a folder of its own, on a port of its own.

    A context manager: started on entering; killed, with its folder removed, on leaving.

    Args:
        options: Settings, by the names that the server's own configuration gives them.
        folder: Where its data live, say a small file system; a temporary folder if not said.
    """

    name: ClassVar[str]

    def __init__(self, options: Mapping[str, str] | None = None, *, folder: Path | None = None) -> None:
        self.options = dict(options or {})
        self.port = free_port()
        # Not pytest's folder: that one is closed to the users that some servers must run as.
        self.folder = Path(tempfile.mkdtemp(prefix=f"understudy-{self.name}-", dir=folder))
        self._process: Process | None = None
        self._prepared = False

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL that clients connect to; the same after a restart."""

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """Why it cannot be started on this machine; None if it can."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The command line that runs it in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers its clients."""

    def prepare(self) -> None:  # noqa: B027 -- not abstract: most have nothing to do
        """What is done once, before the first start."""

    def environment(self) -> dict[str, str]:
        """The environment it runs in: nothing of the caller's that could change what it does."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}

    def request_stop(self, process: Process) -> None:
        """Ask it to end by itself."""
        process.send(signal.SIGTERM)

    @property
    def running(self) -> bool:
        """Whether there is a process, ready or paused."""
        return self._process is not None and self._process.running

    @property
    def log(self) -> str:
        """The last lines it printed."""
        path = self.folder / "output"
        return "\n".join(path.read_text(errors="replace").splitlines()[-30:]) if path.exists() else ""

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            RuntimeError: It runs already, or ended before it was ready; the text ends with what it printed.
        """
        if self.running:
            raise RuntimeError(f"{self.name} is running")
        if not self._prepared:
            self.prepare()
            self._prepared = True
        process = Process(self.command(), self.environment(), self.folder, self.folder / "output")
        self._process = process
        try:
            poll(lambda: not process.running or self.is_ready(), f"start of {self.name}")
        except BaseException:
            process.kill()
            raise
        if not process.running:
            process.kill()
            raise RuntimeError(f"{self.name} ended before it was ready:\n{self.log}")

    def kill(self) -> None:
        """SIGKILL: whatever it had not written is gone. Returns when the process is."""
        self._current().kill()

    def stop(self) -> None:
        """Let it end in good order. Returns when the process is gone."""
        process = self._current()
        self.request_stop(process)
        process.wait()

    def restart(self) -> None:
        """Stop it in good order and start it again; its port and its data stay."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, and nothing answers."""
        self._current().send_all(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it goes on where it was paused."""
        self._current().send_all(signal.SIGCONT)

    def ensure_running(self) -> None:
        """Start it if it is down, resume it if it was paused."""
        if self.running:
            self.resume()
        else:
            self.start()

    def close(self) -> None:
        """Kill it and remove its folder."""
        if self._process is not None:
            self._process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _current(self) -> Process:
        if self._process is None or not self._process.running:
            raise RuntimeError(f"{self.name} is not running")
        return self._process


def talk(port: int, says: bytes, expected: bytes, timeout: float = 1.0) -> bool:
    """Whether what listens on a port answers ``says`` with something that begins with ``expected``."""
    try:
        with socket.create_connection((HOST, port), timeout=timeout) as connection:
            connection.sendall(says)
            return connection.recv(len(expected)) == expected
    except OSError:
        return False
