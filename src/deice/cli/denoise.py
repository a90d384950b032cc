"""deice denoise: files to denoised files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number


@Parameter(name="*")
@dataclass(frozen=True)
class FilterParameters:
    """Parameters of the classical methods.

    Parameters
    ----------
    sigma
        gaussian: standard deviation in pixels.
    cutoff
        lowpass: resolution in Å at which half is kept.
    strength
        wiener: strength of the deconvolution.
    falloff
        wiener: how fast the signal is taken to fall with frequency.
    highpass
        wiener: fraction of Nyquist below which the signal is taken to fade.
    defocus
        wiener: defocus in µm.
    convention
        wiener: tegunov (10^(3·strength)) or isonet (10^strength).
    voltage
        wiener: kV.
    cs
        wiener: spherical aberration in mm.
    amplitude_contrast
        wiener: 0 to 1.
    phase_shift
        wiener: degrees.
    phase_flipped
        wiener: the phases were corrected before.
    """

    sigma: float | None = None
    cutoff: float | None = None
    strength: float | None = None
    falloff: float | None = None
    highpass: float | None = None
    defocus: float | None = None
    convention: Literal["tegunov", "isonet"] | None = None
    voltage: float | None = None
    cs: float | None = None
    amplitude_contrast: float | None = None
    phase_shift: float | None = None
    phase_flipped: Annotated[bool | None, Parameter(negative="")] = None

    def named(self) -> dict[str, Any]:
        """The parameters that were given, under the filters' own names."""
        names = {"sigma": "sigma_pixels", "highpass": "highpass_nyquist", "cs": "spherical_aberration"}
        return {names.get(key, key): value for key, value in vars(self).items() if value is not None}


@Parameter(name="*")
@dataclass(frozen=True)
class TrainingParameters:
    """How long a scheme is trained on the very input.

    Parameters
    ----------
    recipe
        TOML file with the whole configuration.
    minutes
        Minutes an input (5 if nothing else is said).
    steps
        Steps an input.
    seed
        Same seed, same result.
    """

    recipe: Path | None = None
    minutes: float | None = None
    steps: int | None = None
    seed: int | None = None


def denoise(
    *inputs: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    model: Annotated[str | None, Parameter(name=["--model", "-m"])] = None,
    device: str = "auto",
    max_memory: str | None = None,
    precision: str = "auto",
    tile: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    axes: Literal["zyx"] | None = None,
    pixel_size: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    float16: bool = False,
    denoised_halves: Path | None = None,
    overwrite: bool = False,
    filters: FilterParameters = FilterParameters(),
    training: TrainingParameters = TrainingParameters(),
) -> None:
    """Denoise files with a model, a classical filter, or a scheme trained on the very input.

    Example: deice denoise halves/ -m run -o denoised

    Writes DIR/NAME.mrc for each input NAME; two halves give one output under their stem. Finished outputs are skipped.
    Extract particles from the raw data, never from denoised pictures.

    Parameters
    ----------
    inputs
        Files, globs or folders.
    out
        Folder of the denoised files.
    model
        A run's folder or a .safetensors model; gaussian, lowpass or wiener; or noise2void, trained on each input.
    device
        auto, cpu or cuda.
    max_memory
        Cap of the GPU's memory, or on the CPU of the process's own: 8GB.
    precision
        auto, fp32, bf16 or fp16.
    tile
        Pixels along each axis of a tile (what the memory allows, if not given).
    axes
        zyx for volumes whose header does not say so.
    pixel_size
        Å per pixel, where the header does not know or lies.
    float16
        Write 16-bit floating point (MRC mode 12).
    denoised_halves
        Folder for each half denoised by itself, as deice measure needs them for the removed noise.
    overwrite
        Denoise again what is finished.
    """
    from deice.batch import denoise_files, finish
    from deice.cli.options import listen
    from deice.cli.progress import progress
    from deice.devices import choose_device, parse_bytes
    from deice.errors import RecipeFault
    from deice.inference import Conditions, choose_estimator
    from deice.scenes import expand, group
    from deice.schemes import SCHEMES
    from deice.untrained import Untrained

    listen()
    if model is None:
        raise RecipeFault("no model; expected -m RUN or a .safetensors file, gaussian, lowpass, wiener, or noise2void")
    conditions = Conditions(choose_device(device), precision, parse_bytes(max_memory) if max_memory else None, tile)
    files = expand(inputs)
    scenes = group(files)
    if model not in SCHEMES and training != TrainingParameters():
        raise RecipeFault(f"--recipe, --minutes, --steps and --seed train a scheme; {model} is trained already")
    if model in SCHEMES and filters.named():
        raise RecipeFault(f"{', '.join(filters.named())}: parameters of a classical filter; {model} has none of them")
    if model in SCHEMES:
        estimator = Untrained.of(model, training.recipe, out / "runs", device, vars(training))
    else:
        estimator = choose_estimator(model, filters.named())
    outcomes = []
    with progress("denoising", len(scenes)) as bar:
        for outcome in denoise_files(scenes, out, estimator, conditions, inputs=files, overwrite=overwrite,
                                     halves=denoised_halves, axes=axes,
                                     pixel_size=pixel_size, float16=float16):
            outcomes.append(outcome)
            bar.advance()
        finish(outcomes)
