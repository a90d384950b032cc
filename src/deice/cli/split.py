"""deice split: movies to even, odd and full averages."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def split(
    *movies: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    gain: Path | None = None,
    gain_rot: Literal[0, 1, 2, 3] = 0,
    gain_flip: Literal[0, 1, 2] = 0,
    estimate_gain: bool = False,
    align: bool = False,
    eer_frames: int | None = None,
    eer_superres: Literal[0, 1, 2] = 0,
    pixel_size: float | None = None,
    float16: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    json: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
) -> None:
    """Movies to even, odd and full averages, frame by frame in the memory of a few frames.

    Example: deice split movies/ -o halves --gain gain.mrc --gain-rot 1 --align

    Writes DIR/STEM_EVN.mrc (frames 0, 2, 4 …), DIR/STEM_ODD.mrc (frames 1, 3, 5 …) and DIR/STEM.mrc (all
    frames): averages per frame. Hot and dead pixels are replaced by draws from their neighbourhood. Finished outputs
    are skipped.

    Parameters
    ----------
    movies
        Files, globs or folders: MRC, TIFF or EER.
    out
        Folder of the averages.
    gain
        Gain reference (.mrc, .tif, .gain, .dm4) that the frames are multiplied by; 0 marks a defect.
    gain_rot
        Turn the gain by so many times 90 degrees clockwise.
    gain_flip
        Then flip the gain: 1 upside down, 2 left to right.
    estimate_gain
        Estimate the fixed pattern that all the movies share and divide it out; writes DIR/gain_estimated.mrc, which
        --gain takes later (without rotation or flip) and which is used again where it exists.
    align
        Find the whole frames' drift and undo it.
    eer_frames
        Sum an EER file's fractions into so many frames.
    eer_superres
        Grid of an EER file: 0 for 4k, 1 for 8k, 2 for 16k.
    pixel_size
        Å per pixel, where the header does not know or lies.
    float16
        Write 16-bit floating point (MRC mode 12).
    seed
        Of the draws for defects: same seed, same result.
    overwrite
        Split again what is finished.
    json
        Write the figures (frames, pixels replaced, shifts) to this file; - for stdout.
    """
    from deice.cli.figures import write_json
    from deice.cli.options import listen
    from deice.cli.progress import progress, say
    from deice.movies import Splitting, raise_failures, split_files
    from deice.scenes import expand

    listen()
    how = Splitting(
        gain, gain_rot, gain_flip, estimate_gain, align, eer_frames, eer_superres, pixel_size, float16, seed, overwrite
    )
    files = expand(movies)
    outcomes = []
    with progress("splitting", len(files), "movies") as bar:
        for outcome in split_files(files, out, how):
            outcomes.append(outcome)
            bar.advance()
    write_json([outcome.report() for outcome in outcomes], json)
    skipped = sum(outcome.skipped for outcome in outcomes)
    if skipped:
        say(f"{skipped} finished before, skipped (--overwrite splits them again)")
    raise_failures(outcomes)
