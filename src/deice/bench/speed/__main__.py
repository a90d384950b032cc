"""The tables without the command line's libraries: python -m deice.bench.speed --out DIR --rows cnn --minutes 8."""

import argparse
import sys
from pathlib import Path

from deice.bench.legs import as_command
from deice.bench.speed.legs import run
from deice.bench.speed.rows import SPEED, STREAM, Plan


def main(words: list[str] | None = None) -> int:
    """Run a leg; 0 done, 2 the input is at fault, 3 rows failed or gave wrong results."""
    parser = argparse.ArgumentParser(prog="python -m deice.bench.speed", description=__doc__)
    parser.add_argument("--out", "-o", type=Path, required=True, help="folder of rows and tables")
    parser.add_argument("--door", choices=(SPEED, STREAM), default=SPEED)
    parser.add_argument("--rows", default="", help="or how their names begin, as cnn,split")
    parser.add_argument("--minutes", type=float, help="length of this leg; 0: tables only")
    parser.add_argument("--scale", default="full", help="full, or small to try")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--count", type=int, help="micrographs from file to file")
    parser.add_argument("--size", type=int, nargs=2, help="their rows and columns")
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="a folder in memory")
    parser.add_argument("--disk", type=Path, help="a folder on the disk")
    parser.add_argument("--topaz", help="the python of Topaz's environment")
    parser.add_argument("--no-compiled", dest="compiled", action="store_false")
    given = vars(parser.parse_args(words))
    out = given.pop("out")
    given |= {"rows": tuple(filter(None, given["rows"].split(","))), "size": given["size"] and tuple(given["size"])}
    return as_command(lambda: run(out, Plan(**given)))


if __name__ == "__main__":
    sys.exit(main())
