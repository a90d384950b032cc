"""deice verify: the fast path against the plain reference."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def verify(
    model: Path,
    *,
    device: str = "auto",
    json: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
) -> None:
    """Check that a model computes what its net is said to compute, on this machine.

    Example: deice verify run --json verified.json

    The network as denoise and train run it is compared with an independent reference of a few lines with the same
    weights: the answers, the output of each layer, and the loss and gradients of a training step. Also the time of a
    step by both. Exit code 1, with a line that says what differs, where they do not agree.

    Parameters
    ----------
    model
        A run's folder or a .safetensors model.
    device
        auto, cpu or cuda.
    json
        Write every figure to this file, "-" for stdout.
    """
    from dataclasses import asdict

    from deice.checkpoint import load_model
    from deice.cli.figures import write_json
    from deice.cli.options import listen
    from deice.errors import VerificationFault
    from deice.verification import verify
    from deice.verification.timing import time_steps

    listen()
    loaded = load_model(model)
    found = verify(loaded, device)
    timings = time_steps(loaded, device)
    write_json({**asdict(found), "timings": [asdict(timing) for timing in timings]}, json)
    if json != "-":
        print("\n".join(_lines(found, timings)))
    if found.faults:
        raise VerificationFault(f"{model}: {'; '.join(found.faults)}: the fast path is not what the reference is; "
                                "please report it with this table")


def _lines(found, timings) -> list[str]:
    """The figures as text: layer by layer, then overall, then the times."""
    answers, step = found.answers, found.step
    rows = [f"{'layer':24}{'weights':>16}{'output':>12}{'gradient':>12}"]
    rows += [f"{layer.name:24}{_times(layer.weights):>16}{layer.forward:12.1e}{layer.gradient:12.1e}"
             for layer in found.layers]
    rows += [
        "",
        f"{found.net}, pictures of {_times(found.shape)}, {found.machine}",
        f"answers, largest difference in float64      {answers.in_float64:9.1e}   limit 1.0e-06",
        f"answers, largest difference in fp32         {answers.difference:9.1e}   limit {answers.limit:.1e}",
        f"  rounding alone, of the reference          {answers.reference_rounding:9.1e}",
        f"  rounding alone, of the fast path          {answers.fast_rounding:9.1e}",
        f"loss, relative difference                   {step.loss:9.1e}",
        f"gradients, of the largest of their tensor   {step.gradient:9.1e}   limit 1.0e-03",
    ]
    rows += [f"{of.precision}: answers differ by {of.answer:.1e} of their rms, gradients by {of.gradient:.1e} of theirs"
             for of in found.reduced]
    rows += [f"a training step of {_times(took.shape)}, {took.precision}: {took.fast_ms:.4g} ms, "
             f"reference in fp32 {took.reference_ms:.4g} ms, ratio {took.ratio:.2f}" for took in timings]
    return [*rows, "" if found.faults else "verified"]


def _times(sizes: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in sizes)
