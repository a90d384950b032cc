"""The command line: one verb, one file, imported only when called; the only place that prints."""

import os
import sys

# verb → its line in `deice --help`; its module is deice.cli.<verb>
VERBS = {
    "demo": "The whole road on simulated movies, on a laptop's CPU: simulate, split, train, denoise, measure, report.",
    "info": "What a file is, and what it can serve as.",
    "simulate": "Micrographs, movies and tomograms with a known truth.",
    "split": "Movies to even/odd/full averages, frame by frame.",
    "pack": "Images to the headerless .bin pairs of the streaming format.",
    "train": "Train a denoiser on movie halves, tomogram halves, pairs or single images.",
    "denoise": "Denoise files with a model, a classical filter or a scheme trained on the very input.",
    "segment": "Membranes in tomograms: labels, probability, and scores against a truth.",
    "measure": "Figures of quality against truth or between halves.",
    "compare": "Several methods on the same files: one table.",
    "export": "A model as ONNX or weight dumps, and a model of weight dumps.",
    "verify": "Whether a model computes what its net is said to compute, on this machine.",
    "report": "One self-contained HTML page of a run.",
    "fetch": "A data set of EMPIAR to disk; cut short, it goes on where it was.",
    "bench": "The tables of docs/benchmarks, on this machine.",
}


def build_app(called: str | None = None):
    """The command-line application with every verb registered by its import path.

    The docstring of the verb that is `called` is its help; for the others a line is enough, and nothing is imported.
    """
    from cyclopts import App

    from deice.version import __version__

    app = App(
        name="deice",
        help="Denoising of cryo-EM movies, micrographs and tomograms, with the evidence of what was removed.\n\n"
        "Extract particles from the raw data, never from denoised pictures: "
        "denoised pictures are to see, pick and segment in.",
        version=__version__,
    )
    for verb, line in VERBS.items():
        app.command(f"deice.cli.{verb}:{verb}", name=verb, help=None if verb == called else line)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run one verb; exit code 0 done, 2 the user's input is at fault, 3 part of a batch failed, 1 our fault."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    from cyclopts import CycloptsError

    from deice.errors import BatchFailure, RankLost, SaidElsewhere, UserError, VerificationFault

    words = sys.argv[1:] if arguments is None else arguments
    try:
        build_app(next(iter(words), None))(words, exit_on_error=False, print_error=False, result_action="return_value")
    except SaidElsewhere:
        return 2
    except UserError as error:
        return _fail(2, error)
    except CycloptsError as error:
        return _fail(2, error) if is_first_rank() else 2
    except BatchFailure as failure:
        for name, reason in failure.failures:
            print(f"deice: {name}: {_one_line(reason)}", file=sys.stderr)
        return _fail(3, failure)
    except RankLost as loss:
        return _fail(1, loss) if str(loss) else 1
    except VerificationFault as fault:
        return _fail(1, fault)
    except KeyboardInterrupt:
        return _fail(130, "interrupted") if is_first_rank() else 130
    except BrokenPipeError:
        return 1
    return 0


def is_first_rank() -> bool:
    """Whether this process is the one of those that torchrun started that speaks for all of them; alone, it is."""
    return os.environ.get("RANK", "0") == "0"


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def _fail(code: int, message: object) -> int:
    print(f"deice: {_one_line(message)}", file=sys.stderr)
    return code
