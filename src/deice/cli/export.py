"""deice export: models to other programs, and theirs to ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True)
class Dumps:
    """How weight dumps lie in their files, and what no such file says.

    Parameters
    ----------
    order
        Weight dumps: c (last index of out, in, y, x fastest) or fortran (first index fastest).
    mirrored
        Weight dumps: kernels turned by 180°, as cuDNN's convolution mode has them.
    net
        Read dumps into unet or residual_cnn, with settings where wanted: residual_cnn:depth=7,width=16.
    scheme
        Read dumps as trained by this scheme (noise2noise, if not given).
    normaliser
        Read dumps as trained on grey values normalised by standard (if not given), percentile or none.
    axes
        Read dumps as a net of pictures (2, if not given) or of volumes (3).
    pixel_size
        Read dumps as trained at this pixel size in Å.
    """

    order: Literal["c", "fortran"] | None = None
    mirrored: Annotated[bool | None, Parameter(negative="")] = None
    net: str | None = None
    scheme: str | None = None
    normaliser: Literal["standard", "percentile", "none"] | None = None
    axes: Literal[2, 3] | None = None
    pixel_size: float | None = None


def export(
    model: Path,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    dumps: Dumps = Dumps(),
    json: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
) -> None:
    """Write a model as ONNX or as headerless weight dumps, or make a model of such dumps.

    Example: deice export run -o model.onnx

    FILE.onnx is checked in onnxruntime against PyTorch before it appears, and deice denoise takes it as a model.
    FILE.safetensors is a model as deice train writes it. Any other name is a folder of weight dumps, two float32 files
    a layer, as the CUDA Fortran programs write them: docs/export.md.

    Parameters
    ----------
    model
        A run's folder, a .safetensors model, or a folder of weight dumps (with --net and --order).
    out
        FILE.onnx, FILE.safetensors, or a new folder for weight dumps (with --order).
    json
        Write what was checked to this file; - for stdout.
    """
    from deice.cli.figures import write_json
    from deice.cli.options import listen
    from deice.cli.progress import say
    from deice.export import export as write

    listen()
    figures = write(model, out, {name: value for name, value in vars(dumps).items() if value is not None})
    said = f"{figures['parameters']} parameters"
    if "differences" in figures:
        sizes = ", ".join(figures["differences"])
        said += f"; onnxruntime and PyTorch differ by at most {max(figures['differences'].values()):.1e} ({sizes})"
    if "files" in figures:
        said += f" in {len(figures['files'])} files"
    say(f"{out}: {said}")
    write_json(figures, json)
