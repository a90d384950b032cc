"""The tables without the command line's libraries: python -m deice.bench.rivals --out DIR --parallel 8 --minutes 9."""

import argparse
import sys
from pathlib import Path

from deice.bench.legs import as_command
from deice.bench.rivals.legs import run
from deice.bench.rivals.rows import Plan


def main(words: list[str] | None = None) -> int:
    """Run a leg; 0 done, 2 the input is at fault, 3 rows failed."""
    usual = Plan()
    parser = argparse.ArgumentParser(prog="python -m deice.bench.rivals", description=__doc__)
    parser.add_argument("--out", "-o", type=Path, required=True, help="folder of scenes, rows and tables")
    parser.add_argument("--minutes", type=float, help="length of this leg; 0: tables only")
    parser.add_argument("--scenes", type=int, default=usual.scenes)
    parser.add_argument("--size", type=int, nargs=3, default=usual.size, help="voxels along z, y, x")
    parser.add_argument("--levels", type=float, nargs="+", default=usual.levels, help="signal/noise ratios")
    parser.add_argument("--methods", default="", help="of the table, as raw,f2fd; without it all")
    parser.add_argument("--budget", type=float, default=usual.budget, help="seconds of training of ours")
    parser.add_argument("--parallel", type=int, default=usual.parallel, help="rows at a time")
    parser.add_argument("--device", default=usual.device, help="auto, cpu or cuda")
    parser.add_argument("--segmenter", type=float, default=usual.segmenter, help="seconds of each net for membranes")
    parser.add_argument("--seed", type=int, default=usual.seed)
    words_given = parser.parse_args(words)
    settings = vars(words_given)
    out = settings.pop("out")
    settings |= {"size": tuple(settings["size"]), "levels": tuple(settings["levels"]),
                 "methods": tuple(filter(None, settings["methods"].split(",")))}
    return as_command(lambda: run(out, Plan(**settings)))


if __name__ == "__main__":
    sys.exit(main())
