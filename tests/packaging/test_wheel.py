"""The wheel, not the checkout: what is in it, and what it does in an environment that holds nothing else."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from understudy import __version__

ROOT = Path(__file__).parents[2]
# A checkout's own litter: none of it may decide what is built, and setuptools adds to it where it builds.
LITTER = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.timeout(600),  # a build, a virtual environment and an install from the package index
]

Run = Callable[..., subprocess.CompletedProcess[str]]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program, away from the checkout and from whatever this process's environment points Python at."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "UNDERSTUDY_"))}
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def must_run(*command: str | Path, cwd: Path) -> None:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist, and the wheel that was built from the sdist."""
    copy = tmp_path_factory.mktemp("build") / "any-name"
    shutil.copytree(ROOT, copy, ignore=LITTER)
    out = copy.parent / "out"
    must_run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy, cwd=copy.parent)
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Iterator[zipfile.ZipFile]:
    """The built wheel, open."""
    [path] = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """What the wheel tells an installer."""
    return Parser().parsestr(wheel.read(f"{DIST_INFO}/METADATA").decode())


@pytest.fixture(scope="module")
def run_installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a program of a clean environment that holds the wheel and what it asks for."""
    home = tmp_path_factory.mktemp("installed")
    must_run(sys.executable, "-m", "venv", home / "venv", cwd=home)
    programs = home / "venv" / "bin"
    pip_install = (programs / "python", "-m", "pip", "--no-input", "install", "-qq")
    must_run(*pip_install, "-c", ROOT / "constraints.txt", *built.glob("*.whl"), cwd=home)
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    return lambda program, *arguments: run(programs / program, *arguments, cwd=elsewhere)


# --- what is in it ------------------------------------------------------------------------------------------

DIST_INFO = f"understudy-{__version__}.dist-info"


def modules_of_the_package() -> set[str]:
    """The modules of every listed package, as the wheel names them."""
    declared = configparser.ConfigParser(interpolation=None)
    declared.read(ROOT / "setup.cfg", encoding="utf-8")
    folders = [Path(*name.split(".")[1:]) for name in declared["options"]["packages"].split()]
    return {
        f"understudy/{(folder / path.name).as_posix()}" for folder in folders for path in (ROOT / folder).glob("*.py")
    }


def test_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    about = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
    assert set(wheel.namelist()) == (
        modules_of_the_package() | {"understudy/py.typed"} | {f"{DIST_INFO}/{name}" for name in about}
    )


def test_wheel_installs_one_name_and_it_is_ours(wheel: zipfile.ZipFile) -> None:
    assert wheel.read(f"{DIST_INFO}/top_level.txt").split() == [b"understudy"]
    assert {name.partition("/")[0] for name in wheel.namelist()} == {"understudy", DIST_INFO}
    inside = {name.split("/")[1] for name in wheel.namelist() if name.startswith("understudy/")}
    assert inside == {
        "__init__.py",
        "__main__.py",
        "py.typed",
        "messages",
        "actors",
        "supervisors",
        "console",
        "testing",
    }


def test_wheel_declares_its_command_and_its_pytest_plugin(wheel: zipfile.ZipFile) -> None:
    entry_points = configparser.ConfigParser()
    entry_points.read_string(wheel.read(f"{DIST_INFO}/entry_points.txt").decode())
    assert {section: dict(entry_points[section]) for section in entry_points.sections()} == {
        "console_scripts": {"understudy": "understudy.console.cli:main"},
        "pytest11": {"understudy": "understudy.testing.plugin"},
    }


def test_wheel_tells_its_licence_and_its_pythons(metadata: Message) -> None:
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"


def test_wheel_asks_for_no_client_library_unless_an_extra_is_named(metadata: Message) -> None:
    asked = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {line.partition(">")[0].strip() for line in asked} == {"msgspec", "orjson", "pykka", "rich"}


def test_sdist_unpacks_into_one_folder_and_holds_the_licence(built: Path) -> None:
    [path] = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = archive.getnames()
    assert {name.partition("/")[0] for name in names} == {f"understudy-{__version__}"}
    assert f"understudy-{__version__}/LICENSE" in names


# --- what it does -------------------------------------------------------------------------------------------

# A client library is imported when its backend is constructed, and rich when something is drawn. They are
# refused here, as on a machine that lacks them, and every request is noted: an excused import is an import.
NOT_AT_IMPORT = (
    "aio_pika",
    "asyncpg",
    "cronsim",
    "google",
    "hypothesis",
    "pika",
    "psycopg",
    "psycopg_pool",
    "pytest",
    "redis",
    "rich",
)
REFUSE_AND_NOTE = f"""
import importlib, json, pkgutil, sys

asked = []

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {NOT_AT_IMPORT!r}:
            asked.append(name)
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Refuse())
"""
IMPORT_THE_FACE = REFUSE_AND_NOTE + "import understudy; print(json.dumps(asked))"
IMPORT_EVERYTHING = f"""{REFUSE_AND_NOTE}
import understudy
for module in pkgutil.walk_packages(understudy.__path__, "understudy."):
    if module.name not in ("understudy.__main__", "understudy.testing.plugin"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as missing:
            if missing.name not in asked:
                raise
            print(json.dumps([module.name, missing.name]))
"""
BACKENDS = (
    (re.compile(r"\.rabbitmq\."), {"pika"}),
    (re.compile(r"\.postgres"), {"psycopg", "psycopg_pool"}),
    (re.compile(r"\.redis|\.(cache|lock)\.(scripts|listening)$"), {"redis"}),
    (re.compile(r"\.tasks\.redis\."), {"google"}),
)
"""Modules that are imported when a URL asks for what they do, and their client libraries."""


def test_installed_wheel_is_what_gets_imported(run_installed: Run) -> None:
    done = run_installed("python", "-c", "import understudy; print(understudy.__version__, understudy.__file__)")
    assert done.stderr == ""
    version, file = done.stdout.split(maxsplit=1)
    assert version == __version__
    assert "site-packages" in file


def test_importing_the_package_asks_for_no_client_library(run_installed: Run) -> None:
    done = run_installed("python", "-c", IMPORT_THE_FACE)
    assert done.stderr == ""
    assert json.loads(done.stdout) == []


def test_no_module_asks_for_a_client_library_but_the_backends_for_their_own(run_installed: Run) -> None:
    done = run_installed("python", "-c", IMPORT_EVERYTHING)
    assert done.stderr == ""
    asked = [json.loads(line) for line in done.stdout.splitlines()]
    assert asked
    wrong = [(name, client) for name, client in asked if client not in clients_of(name)]
    assert wrong == []


def clients_of(module: str) -> set[str]:
    return {client for pattern, clients in BACKENDS if pattern.search(module) for client in clients}


def test_every_public_name_can_be_had(run_installed: Run) -> None:
    done = run_installed(
        "python", "-W", "error", "-c", "from understudy import *; import understudy; understudy.__all__"
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", [("understudy",), ("python", "-m", "understudy")], ids=" ".join)
def test_command_explains_itself(run_installed: Run, command: tuple[str, ...]) -> None:
    done = run_installed(*command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: understudy" in done.stdout
    assert "run" in done.stdout


def test_installed_requirements_agree_with_each_other(run_installed: Run) -> None:
    done = run_installed("python", "-m", "pip", "check")
    assert done.returncode == 0, done.stdout
