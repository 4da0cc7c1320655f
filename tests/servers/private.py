"""RabbitMQ, PostgreSQL and Redis from the installed binaries, for tests that stop, kill or starve one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .process import HOST, PATIENCE, PrivateServer, Process, free_port, poll, talk

DEBIAN_RABBITMQ = Path("/usr/lib/rabbitmq/bin")
DEBIAN_POSTGRES = "/usr/lib/postgresql/*/bin"


class PrivateRabbitMQ(PrivateServer):
    """A RabbitMQ node with a name, a port mapper (epmd) and a cookie of its own.

    ``options`` are lines of ``rabbitmq.conf``. User guest, password guest, virtual host ``/``.
    """

    name = "rabbitmq"

    def __init__(self, options: Mapping[str, str] | None = None, *, folder: Path | None = None) -> None:
        super().__init__(options, folder=folder)
        self.node = f"understudy-{self.port}@localhost"
        self._distribution_port, self._mapper_port = free_port(), free_port()
        self._mapper: Process | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{HOST}:{self.port}"

    @classmethod
    def missing(cls) -> str | None:
        if not _rabbitmq_program("rabbitmq-server").exists():
            return "rabbitmq-server is not installed"
        return None if shutil.which("epmd") else "epmd (of Erlang) is not installed"

    def prepare(self) -> None:
        settings = {
            "listeners.tcp.1": f"{HOST}:{self.port}",
            "vm_memory_high_watermark.absolute": "1GB",
            "disk_free_limit.absolute": "1MB",
            **self.options,
        }
        (self.folder / "rabbitmq.conf").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
        (self.folder / "enabled_plugins").write_text("[].\n")

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": f"{self.folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{self.folder}/log",
            "RABBITMQ_CONFIG_FILE": f"{self.folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{self.folder}/enabled_plugins",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ALLOW_INPUT": "1",  # with -noinput: the process is the node itself, not a shell around it
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def command(self) -> Sequence[str]:
        return [str(_rabbitmq_program("rabbitmq-server")), "-noinput"]

    def start(self) -> None:
        if self._mapper is None:
            # Ours, in the foreground: a node that finds none starts a daemon, which would stay behind.
            command = ["epmd", "-port", str(self._mapper_port), "-address", HOST]
            self._mapper = Process(command, super().environment(), self.folder, Path(os.devnull))
            poll(lambda: talk(self._mapper_port, b"\0\x01n", b"\0"), "start of epmd")
        super().start()

    def is_ready(self) -> bool:
        return talk(self.port, b"AMQP\0\0\x09\x01", b"\x01\0\0")  # the first bytes of Connection.Start

    def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` on this node; returns what it prints."""
        command = [str(_rabbitmq_program("rabbitmqctl")), "-q", "-n", self.node, *arguments]
        return run(command, self.environment())

    def raise_memory_alarm(self) -> None:
        """Make it believe that its memory is used up: publishers are blocked."""
        self.control("set_vm_memory_high_watermark", "absolute", "1")

    def clear_memory_alarm(self) -> None:
        """Let publishers go on."""
        self.control("set_vm_memory_high_watermark", "absolute", "1GB")

    def raise_disk_alarm(self) -> None:
        """Make it believe that its disk is full: publishers are blocked."""
        self.control("set_disk_free_limit", "1000000GB")

    def clear_disk_alarm(self) -> None:
        """Let publishers go on."""
        self.control("set_disk_free_limit", "1MB")

    def close(self) -> None:
        super().close()
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper = None


class PrivatePostgres(PrivateServer):
    """A PostgreSQL server that trusts everybody on the loopback; ``options`` are settings as for ``-c``."""

    name = "postgres"

    @property
    def url(self) -> str:
        return f"postgresql://postgres@{HOST}:{self.port}/postgres"

    @classmethod
    def missing(cls) -> str | None:
        return None if _postgres_program("postgres") else "PostgreSQL's server is not installed"

    def prepare(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        make = [str(_postgres_program("initdb")), "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8"]
        run([*_as_postgres(), *make, "-D", f"{self.folder}/data"], self.environment())

    def command(self) -> Sequence[str]:
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",  # what a killed process wrote, the system keeps; only a power cut would not
            **self.options,
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [*_as_postgres(), str(_postgres_program("postgres")), "-D", f"{self.folder}/data", *options]

    def is_ready(self) -> bool:
        # The start of a session of user "postgres" without a password: answered with R (authentication ok).
        words = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0"
        return talk(self.port, (len(words) + 4).to_bytes(4, "big") + words, b"R")

    def request_stop(self, process: Process) -> None:
        process.send(signal.SIGINT)  # "fast": ends the sessions, writes everything


class PrivateRedis(PrivateServer):
    """A Redis server that keeps everything it has acknowledged; ``options`` are directives of ``redis.conf``."""

    name = "redis"

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @classmethod
    def missing(cls) -> str | None:
        return None if shutil.which("redis-server") else "redis-server is not installed"

    def command(self) -> Sequence[str]:
        settings = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            **self.options,
        }
        options = [word for key, value in settings.items() for word in (f"--{key}", value)]
        return ["redis-server", *options]

    def is_ready(self) -> bool:
        return talk(self.port, b"PING\r\n", b"+PONG")


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, timeout: float = PATIENCE) -> str:
    """Run a program to its end; returns what it prints.

    Raises:
        RuntimeError: It failed; the text says what it printed.
        subprocess.TimeoutExpired: It took longer than ``timeout`` seconds.
    """
    done = subprocess.run(
        command, env=environment, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=timeout,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _rabbitmq_program(name: str) -> Path:
    """Debian's programs on PATH change the user; what they wrap does not."""
    return DEBIAN_RABBITMQ / name if DEBIAN_RABBITMQ.exists() else Path(shutil.which(name) or name)


def _postgres_program(name: str) -> str | None:
    folders = sorted(Path("/").glob(DEBIAN_POSTGRES.removeprefix("/")))
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, folders)]))


def _as_postgres() -> list[str]:
    """PostgreSQL refuses to run as root."""
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
    return user if os.geteuid() == 0 else []
