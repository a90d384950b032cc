"""deice measure: figures of quality against truth or between halves."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

HALVES = {
    "even_odd_before": "even/odd correlation",
    "even_odd_after": "even/odd correlation, denoised halves",
    "removed_noise_correlation": "correlation of the removed noise",
    "frc_before": "mean FRC between halves",
    "frc_after": "mean FRC between denoised halves",
    "frc_before_0.143": "FRC 0.143 between halves at Å",
    "frc_after_0.143": "FRC 0.143 between denoised halves at Å",
}


def measure(
    *images: str,
    truth: Path | None = None,
    halves: Path | None = None,
    denoised_halves: Path | None = None,
    noisy: Path | None = None,
    pixel_size: float | None = None,
    axes: Literal["zyx"] | None = None,
    json: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    csv: Path | None = None,
) -> None:
    """Figures of quality: PSNR, SSIM, RMSE, correlation, edges and FRC/FSC against a truth, and what two halves say.

    Against a truth, the table holds what a denoiser must beat: the noisy input, its best pointwise rescale, the best
    Gaussian and a radial Wiener filter, the last two fitted with the truth in hand. Between halves: even/odd
    correlation and FRC/FSC before and after, and the correlation of the removed noise, which is 0 where only noise
    was removed. A correlation after denoising rises with any smoothing: it proves nothing without the removed noise.

    Example: deice measure demo/denoised --truth demo/truth --halves demo/halves --json figures.json

    Parameters
    ----------
    images
        The images to judge: files, globs or folders.
    truth
        Folder of noiseless images with the same file names.
    halves
        Folder of the raw halves, NAME_EVN and NAME_ODD (or _half1, _half2, or even/ and odd/).
    denoised_halves
        Folder of the halves denoised one by one, named alike.
    noisy
        Folder of the noisy inputs with the same file names; without it, the mean of the halves.
    pixel_size
        Å per pixel, where the header does not say or is wrong.
    axes
        What three axes are where a header does not say: zyx, a volume.
    json
        Write every figure and curve to this file, "-" for stdout.
    csv
        Write one line per image to this file.
    """
    from deice.cli.figures import write_json, write_text
    from deice.cli.options import listen
    from deice.errors import RecipeFault
    from deice.judgement import as_csv, markdown, measure

    if truth is None and halves is None and json is None:
        raise RecipeFault("nothing to measure against; expected --truth or --halves (or --json: power spectra alone)")
    listen()
    figures = measure(images, truth, halves, denoised_halves, noisy, pixel_size, axes)
    write_json(figures, json)
    if csv is not None:
        write_text(csv, as_csv(figures))
    if json == "-":
        return
    if "methods" in figures:
        print(markdown(figures))
    for name, value in figures.get("halves", {}).items():
        if name in HALVES and value is not None:
            error = figures["halves"]["se"].get(name)
            print(f"{HALVES[name]:45} {value:8.4g}" + ("" if error is None else f" ± {error:.2g}"))
