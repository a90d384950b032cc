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
        wiener: strength of the deconvolution (deconvstrength elsewhere); 1.
    falloff
        wiener: how fast the signal is taken to fall with frequency (snrfalloff elsewhere); 1.
    highpass
        wiener: fraction of Nyquist below which the signal is taken to fade (highpassnyquist elsewhere); 0.02.
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
    tilt_range
        First and last tilt in degrees, -60,60, for isonet and missing_wedge; as the .tlt, .rawtlt or .mdoc file
        beside each tomogram says, if not given.
    """

    recipe: Path | None = None
    minutes: float | None = None
    steps: int | None = None
    seed: int | None = None
    tilt_range: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None

    def settings(self) -> dict[str, Any]:
        """What the recipe is to be told."""
        from deice.io.tilts import parse_tilt_range

        return vars(self) | {"tilt_range": parse_tilt_range(self.tilt_range) if self.tilt_range is not None else None}


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
    uncertainty: bool = False,
    calibration: bool | None = None,
    overwrite: bool = False,
    filters: FilterParameters = FilterParameters(),
    training: TrainingParameters = TrainingParameters(),
) -> None:
    """Denoise files with the packaged model, one of your own, a classical filter, or a scheme trained on the input.

    Example: deice denoise micrographs/*.mrc -o denoised

    Writes DIR/NAME.mrc for each input NAME, DIR/NAME.zarr for OME-Zarr; two halves give one output under their stem.
    Finished outputs are skipped.
    A scheme trained on the input also leaves DIR/NAME.png, its central planes before and after, and DIR/runs/NAME.
    Extract particles from the raw data, never from denoised pictures.

    Parameters
    ----------
    inputs
        Files, globs or folders; a folder NAME.zarr is one input.
    out
        Folder of the denoised files.
    model
        A run's folder, a .safetensors or .onnx model; pretrained (if nothing is said), the one in this package for
        pictures or volumes; gaussian, lowpass or wiener; or a scheme that is trained on each input: noise2void,
        self2self, recorrupted, f2fd, isonet; on halves noise2noise, missing_wedge.
    device
        auto, cpu, cuda (all GPUs share the files), or one of them: cuda:1.
    max_memory
        Cap of each GPU's memory, or on the CPU of the process's own: 8GB.
    precision
        auto, fp32, bf16 or fp16.
    tile
        Pixels along each axis of a tile (what the memory allows, if not given).
    axes
        zyx for volumes whose header does not say so.
    pixel_size
        Å per pixel, where the header does not know or lies.
    float16
        Write 16-bit floating point (in MRC, mode 12).
    denoised_halves
        Folder for each half denoised by itself, as deice measure needs them for the removed noise.
    uncertainty
        Write DIR/NAME_uncertainty.mrc too: the standard error of each pixel, in the input's grey values. For models
        that are calibrated.
    calibration
        Judge the model's answer by the picture itself, and keep of each frequency what it bears out, beside a linear
        filter's part. The usual for pretrained.
    overwrite
        Denoise again what is finished.
    """
    from deice.batch import denoise_files, finish
    from deice.cli.options import listen
    from deice.cli.progress import progress, say
    from deice.conditions import Conditions
    from deice.devices import choose_devices, keep_freed_memory, parse_bytes
    from deice.errors import RecipeFault
    from deice.estimators import choose_estimator
    from deice.filters import FILTERS
    from deice.pretrained import PRETRAINED
    from deice.scenes import expand, group
    from deice.schemes import SCHEMES
    from deice.untrained import Untrained

    listen()
    model = model or PRETRAINED
    devices = choose_devices(device)
    if devices[0].type == "cpu":
        keep_freed_memory()
    conditions = Conditions(devices[0], precision, parse_bytes(max_memory) if max_memory else None, tile,
                            calibration=calibration, uncertainty=uncertainty)
    files = expand(inputs)
    scenes = group(files)
    untrained = model.partition(":")[0] in SCHEMES
    if not untrained and training != TrainingParameters():
        raise RecipeFault("--recipe, --minutes, --steps, --seed and --tilt-range train a scheme; "
                          f"{model} is trained already")
    if model in FILTERS and (precision != "auto" or tile is not None):
        raise RecipeFault(f"--precision and --tile are of networks; {model} takes the picture whole, in fp32")
    if untrained and filters.named():
        raise RecipeFault(f"{', '.join(filters.named())}: parameters of a classical filter; {model} has none of them")
    if untrained:
        estimator = Untrained.of(model, training.recipe, out / "runs", device, training.settings(),
                                 conditions.max_memory)
    else:
        estimator = choose_estimator(model, filters.named(), axes_of(scenes, axes) if model == PRETRAINED else 2)
    refuse_without_calibration(estimator, conditions)
    if model == PRETRAINED and any(len(scene.files) > 1 for scene in scenes):
        say("halves: a model trained on them is better than the packaged one (deice train HALVES -o RUN, or in minutes "
            "--from pretrained)")
    outcomes = []
    with progress("denoising", len(scenes)) as bar:
        for outcome in denoise_files(scenes, out, estimator, conditions, inputs=files, overwrite=overwrite,
                                     halves=denoised_halves, devices=devices, axes=axes,
                                     pixel_size=pixel_size, float16=float16):
            outcomes.append(outcome)
            if outcome.state == "written" and model in SCHEMES:
                picture_of(outcome, axes)
            bar.advance()
        finish(outcomes)


def axes_of(scenes: list[Any], axes: str | None) -> int:
    """2 for pictures, 3 for volumes: as the first scene that can be opened is."""
    from contextlib import suppress

    from deice.errors import UserError
    from deice.scenes import open_views

    for scene in scenes:
        with suppress(UserError):
            return len(open_views(scene, axes)[0].space)
    return 2


def refuse_without_calibration(estimator: Any, conditions: Any) -> None:
    """RecipeFault where calibration or uncertainty is asked of what has none."""
    from deice.calibrating import calibrates
    from deice.checkpoint import Model
    from deice.errors import RecipeFault

    if not isinstance(estimator, Model) and (conditions.calibration or conditions.uncertainty):
        raise RecipeFault("--calibration and --uncertainty are of trained networks; expected -m pretrained or a run")
    if conditions.uncertainty and not calibrates(estimator, conditions):
        raise RecipeFault("--uncertainty is told by the calibration; expected a calibrated model, or --calibration")


def picture_of(outcome: Any, axes: str | None) -> None:
    """DIR/NAME.png: the central planes of one scene before and after."""
    from deice.io import read
    from deice.report.before_after import write_before_after
    from deice.scenes import open_views

    before, after = open_views(outcome.scene, axes)[0], read(outcome.path, axes=axes)
    write_before_after(outcome.path.with_suffix(".png"), before.views[0], after.views[0])
