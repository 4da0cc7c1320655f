"""setup.cfg against the folders that exist, and against the versions that CI uses. Nothing is built here."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
OUTSIDE = {"tests", "examples", "benchmarks", "docs", "build", "dist"}

setup_cfg = configparser.ConfigParser(interpolation=None)
setup_cfg.read(ROOT / "setup.cfg", encoding="utf-8")


def listed_packages() -> list[str]:
    return setup_cfg["options"]["packages"].split()


def packages_that_exist() -> set[str]:
    """Every folder of the package that holds a module, by the name it is imported under."""
    rooms = (room for room in ROOT.iterdir() if is_room(room))
    modules = (module.relative_to(ROOT) for room in rooms for module in room.rglob("*.py"))
    return {"understudy"} | {".".join(("understudy", *module.parent.parts)) for module in modules}


def is_room(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".") and folder.name not in OUTSIDE


def declared_requirements() -> list[Requirement]:
    """Every dependency the project names, in the base or in an extra."""
    blocks = [setup_cfg["options"]["install_requires"], *setup_cfg["options.extras_require"].values()]
    declared = [line for block in blocks for line in block.splitlines()]
    return [Requirement(line) for line in declared if line and not line.startswith("%(")]


def pinned_versions() -> dict[str, Version]:
    """What constraints.txt holds every install to."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = re.findall(r"^([\w.-]+)==(\S+)$", text, flags=re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


def test_every_folder_with_code_is_a_listed_package() -> None:
    listed = listed_packages()
    assert len(listed) == len(set(listed))
    assert set(listed) == packages_that_exist()


@pytest.mark.parametrize("package", listed_packages())
def test_every_listed_package_says_what_it_is(package: str) -> None:
    face = ROOT.joinpath(*package.split(".")[1:], "__init__.py")
    assert face.read_text(encoding="utf-8").startswith('"""')


def test_the_root_holds_no_module_that_would_land_in_the_wheel() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("requirement", declared_requirements(), ids=str)
def test_every_dependency_has_a_lower_bound_and_no_other(requirement: Requirement) -> None:
    assert [bound.operator for bound in requirement.specifier] == [">="]


@pytest.mark.parametrize("requirement", declared_requirements(), ids=str)
def test_the_version_ci_uses_satisfies_what_is_declared(requirement: Requirement) -> None:
    assert pinned_versions()[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("extra", ["rabbitmq", "postgres", "redis", "encryption", "cron", "test", "dev"])
def test_each_promised_extra_exists(extra: str) -> None:
    assert setup_cfg.has_option("options.extras_require", extra)


def test_the_build_and_the_suite_ask_for_the_same_setuptools() -> None:
    build_system = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    [bound] = [str(r.specifier) for r in declared_requirements() if r.name == "setuptools"]
    assert f'requires = ["setuptools{bound}"]' in build_system
