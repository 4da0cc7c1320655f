"""``make bench-services``: the service actors on their servers, and the bare clients, in turn; ratios of medians.

python -m benchmarks.services [--rounds N] [--only PART] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from pathlib import Path
from typing import Any

PARTS = ("broker", "mutator", "cache", "lock")
"""Each is a module ``services_<part>`` with a function ``measure_and_print(rounds)`` that returns its figures."""


def main() -> int:
    """Run the measurements and print them."""
    parser = argparse.ArgumentParser(prog="make bench-services", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is measured (%(default)s)")
    parser.add_argument("--only", choices=PARTS, help="only this part")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args()
    print(f"CPython {platform.python_version()}, {platform.machine()}")
    figures: dict[str, Any] = {}
    for part in PARTS:
        if options.only in (None, part):
            print(f"{part}:")
            figures[part] = importlib.import_module(f"benchmarks.services_{part}").measure_and_print(options.rounds)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
