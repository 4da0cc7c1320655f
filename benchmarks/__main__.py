"""``make bench``: print the ratios of medians, then the million.

python -m benchmarks [--rounds N] [--actors N] [--only pairs|million|import] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

from . import importing, million, pairs


def main() -> int:
    """Run the measurements and print them."""
    parser = argparse.ArgumentParser(
        prog="make bench", description="Understudy and pykka in turn; a million supervised actors; what imports cost."
    )
    parser.add_argument("--rounds", type=int, default=7, help="how often each side is measured (%(default)s)")
    parser.add_argument("--actors", type=int, default=1_000_000, help="how many actors at once (%(default)s)")
    parser.add_argument("--only", choices=["pairs", "million", "import"], help="only this part")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args()
    print(f"CPython {platform.python_version()}, {platform.machine()}, switch interval {sys.getswitchinterval()} s")
    figures: dict[str, Any] = {}
    if options.only in (None, "pairs"):
        figures["pairs"] = pairs.measure_and_print(options.rounds)
    if options.only in (None, "import"):
        figures["import"] = importing.measure_and_print(options.rounds)
    if options.only in (None, "million"):
        figures["million"] = million.measure_and_print(options.actors)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
