"""Run pykka's own test suite, unedited, on Understudy's actors and futures: ``make conformance``.

The suite comes from the source distribution of the pykka that is installed; it is downloaded once and kept
in the virtual environment. Every run is a process of its own, for each of the two dispatchers that run plain
functions.

Environment:
    CONFORMANCE_RUNS: how many runs per dispatcher, 10 unless said.
"""

# ruff: noqa: T201 - a command prints
import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(sys.prefix) / "conformance"
DISPATCHERS = ("pool", "thread")
PATIENCE = 300.0
"""Seconds after which a run counts as hung."""


def main(arguments: list[str]) -> int:
    """Run the suite; ``arguments`` go to pytest. Returns the exit status."""
    suite = fetch(version("pykka"))
    runs = int(os.environ.get("CONFORMANCE_RUNS", "10"))
    clean = True
    for dispatcher in DISPATCHERS:
        outcomes = [run_once(suite, dispatcher, arguments) for _ in range(runs)]
        clean &= report(dispatcher, outcomes)
    return 0 if clean else 1


def fetch(pykka_version: str) -> Path:
    """Download and unpack pykka's source distribution, unless that was done before."""
    folder = CACHE / f"pykka-{pykka_version}"
    if not (folder / "tests" / "conftest.py").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        print(f"Fetching the source distribution of pykka {pykka_version} ...", flush=True)
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-qq"]
        options = ["--no-deps", "--no-binary", "pykka", "--dest", str(CACHE)]
        subprocess.run([*command, *options, f"pykka=={pykka_version}"], check=True)
        with tarfile.open(CACHE / f"pykka-{pykka_version}.tar.gz") as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # the first 3.11s have none
            archive.extractall(CACHE)
    return folder


def run_once(suite: Path, dispatcher: str, arguments: list[str]) -> tuple[bool, int]:
    """Run the suite in a process of its own; its output is shown if it fails.

    Returns:
        whether every test passed, and how many did.
    """
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "UNDERSTUDY_CONFORMANCE_DISPATCHER": dispatcher}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "us_runtime", "-p", "no:cacheprovider"]
    options = ["--rootdir", str(suite), "--config-file", str(suite / "pyproject.toml"), "--timeout", "60"]
    try:
        done = subprocess.run(
            [*command, *options, "tests", *arguments],
            cwd=suite,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as hung:
        print(hung.output, f"hung for {PATIENCE:.0f} seconds", flush=True)
        return False, 0
    if done.returncode:
        print(done.stdout, flush=True)
    passed = re.search(r"(\d+) passed", done.stdout)
    return done.returncode == 0, int(passed.group(1)) if passed else 0


def report(dispatcher: str, outcomes: list[tuple[bool, int]]) -> bool:
    """Print one dispatcher's line; returns whether every run was clean."""
    good = sum(clean for clean, _ in outcomes)
    counts = sorted({passed for _, passed in outcomes})
    print(f"{dispatcher}: {good} of {len(outcomes)} runs, {' or '.join(map(str, counts))} passed each", flush=True)
    return good == len(outcomes) and len(counts) == 1 and counts[0] > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
