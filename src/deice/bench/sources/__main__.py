"""The tables without the command line's libraries: python -m deice.bench.sources --out DIR --parallel 6 --minutes 9."""

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from deice.bench.legs import as_command
from deice.bench.sources.legs import Plan, do_row, run


def main(words: list[str] | None = None) -> int:
    """Run a leg, or with --row one row of it; 0 done, 2 the input is at fault, 3 rows failed."""
    parser = argparse.ArgumentParser(prog="python -m deice.bench.sources", description=__doc__)
    parser.add_argument("--out", "-o", type=Path, required=True, help="folder of pictures, rows and tables")
    parser.add_argument("--only", default="", help="tables, or how their names begin, as v29,v32")
    parser.add_argument("--minutes", type=float, help="length of this leg")
    parser.add_argument("--scale", default="full", help="full, or small to try")
    parser.add_argument("--parallel", type=int, default=1, help="rows at a time")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--workers", type=int, default=1, help="scenes drawn at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the rows that run end with the leg
    return as_command(lambda: _leg(given))


def _leg(given: argparse.Namespace) -> dict[str, Any]:
    """What is left after the leg; of one row by itself nothing is said."""
    plan = Plan(tuple(filter(None, given.only.split(","))), given.minutes, given.scale, given.parallel, given.device,
                given.workers, given.seed)
    if given.row:
        do_row(given.out, given.row, plan)
        return {"left": []}
    return run(given.out, plan)


if __name__ == "__main__":
    sys.exit(main())
