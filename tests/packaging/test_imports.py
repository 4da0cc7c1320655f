"""What an import brings with it: nothing that the program has not asked for."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import understudy
from understudy import messages

CLIENTS = {"aio_pika", "asyncpg", "cryptography", "google", "pika", "psycopg", "psycopg_pool", "redis", "sqlite3"}
HEAVY = {"asyncio", "rich", "pytest", "hypothesis", "concurrent", "multiprocessing", "socket", "ssl", "email", "http"}
CODEC = {"orjson", "json", "understudy.messages.codec", "understudy.messages.catalogue", "understudy.messages.response"}
SERVICES = {f"understudy.actors.{service}" for service in ("broker", "mutator", "cache", "lock", "errorlog")}

FACES = [understudy, messages]


def loaded_by(statement: str) -> set[str]:
    """The modules that are there after a statement in a new interpreter."""
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_the_package_alone_loads_next_to_nothing() -> None:
    """Its names are imported when they are used."""
    loaded = loaded_by("import understudy")
    ours = {name for name in loaded if name.partition(".")[0] == "understudy"}
    assert ours == {"understudy", "understudy.messages", "understudy.messages.lazy"}
    assert not loaded & {*CLIENTS, *HEAVY, *CODEC, "pykka", "msgspec", "logging", "dataclasses", "inspect"}


@pytest.mark.parametrize(
    "statement",
    [
        "from understudy import ActorSystem, Actor, Message, handles",
        "from understudy import Supervisor, DynamicSupervisor, Child, Backoff, Mailbox",
        "from understudy import ActorError, ErrorKind, Refusal, MailboxFull",
        "from understudy import ActorSystem, Actor\nwith ActorSystem('bank') as system: system.spawn(Actor).stop()",
    ],
)
def test_what_most_programs_import_brings_no_client_no_loop_no_service_and_no_codec(statement: str) -> None:
    """Whoever awaits, stores, publishes or fails pays for that then."""
    loaded = loaded_by(statement)
    assert not loaded & {*CLIENTS, *HEAVY, *CODEC, *SERVICES}


def test_the_service_actors_bring_no_client() -> None:
    """A backend imports its own when a URL asks for it."""
    loaded = loaded_by("from understudy import Broker, Mutator, Accessor, Cache, Lock, ErrorLog")
    assert not loaded & {*CLIENTS, "rich", "pytest", "hypothesis"}


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_the_names_of_a_face_are_all_there(face: Any) -> None:
    """In ``dir`` and by ``from … import *``, and each is the one of the module that defines it."""
    assert set(face.__all__) <= set(dir(face))
    assert sorted(set(face.__all__)) == sorted(face.__all__)
    for name in face.__all__:
        assert getattr(face, name) is not None
    namespace: dict[str, Any] = {}
    exec(f"from {face.__name__} import *", namespace)
    assert set(face.__all__) <= set(namespace)


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_a_face_shows_type_checkers_what_it_shows_the_program(face: Any) -> None:
    """The imports that only they read, the table of homes and ``__all__`` agree."""
    tree = ast.parse(Path(face.__file__).read_text(encoding="utf-8"))
    (switch,) = [node for node in tree.body if isinstance(node, ast.If)]
    package = face.__name__
    read_by_checkers = {
        (alias.asname or alias.name): (node.module or "").removeprefix(f"{package}.")
        for node in switch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    (table,) = [node for node in ast.walk(ast.Module(switch.orelse, [])) if isinstance(node, ast.Dict)]
    homes: dict[str, tuple[str, ...]] = ast.literal_eval(table)
    shown = {name: home for home, names in homes.items() for name in names}
    assert shown == read_by_checkers
    assert set(face.__all__) - {"__version__"} == set(shown)
    for name, home in shown.items():
        assert getattr(face, name) is getattr(importlib.import_module(f"{package}.{home}"), name)


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_a_name_that_a_face_does_not_have_is_an_attribute_error(face: Any) -> None:
    """As in any module."""
    with pytest.raises(AttributeError, match=f"module '{face.__name__}' has no attribute 'ActorSytem'"):
        face.ActorSytem  # noqa: B018
    with pytest.raises(ImportError):
        exec(f"from {face.__name__} import ActorSytem")


def test_every_error_is_a_public_name() -> None:
    """So that a program can catch it."""
    from understudy.messages import errors

    ours = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.ActorError)
    }
    assert ours <= set(understudy.__all__)
    assert ours <= set(messages.__all__)
