"""deice pack: images to the headerless .bin pairs of the streaming format."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def pack(
    *inputs: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    target: Path | None = None,
    patch: int = 512,
    stride: int | None = None,
    normalize: Literal["percentile", "standard", "none"] = "percentile",
    test_fraction: float = 0.1,
    seed: int = 0,
    axes: Literal["zyx"] | None = None,
    overwrite: bool = False,
    json: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
) -> None:
    """Images to the headerless .bin pairs of the streaming format.

    Writes train_input.bin, train_target.bin, test_input.bin, test_target.bin (float32, sample after sample,
    split by image) and deice.json, which describes them. Halves (name_EVN and name_ODD) become input and
    target; single images without --target give input files only. Training needs no packing: `deice train`
    reads the images themselves.

    Example: deice pack halves/*.mrc -o packed --patch 512 --stride 256

    Parameters
    ----------
    inputs
        Files, globs or folders.
    out
        Folder of the .bin files.
    target
        Folder with a target of the same name for every input.
    patch
        Size of a sample in pixels on every axis (volumes give cubes).
    stride
        Pixels from one patch to the next, the patch size unless given; the last patch ends at the edge.
    normalize
        percentile: over the 95th percentile of the positive values, clipped to [0, 1];
        standard: mean 0, sd 1; each image by itself.
    test_fraction
        Share of the images (not of the patches) that goes into the test files.
    seed
        Chooses the images of the test files.
    axes
        zyx where a file does not say that it is a volume.
    overwrite
        Replace packed files that stand in the folder.
    json
        Write counts and sizes to this file; - for stdout.
    """
    from deice import packing
    from deice.cli.figures import write_json
    from deice.cli.progress import progress, say
    from deice.scenes import expand, group, match

    options = packing.Packing(patch, stride, normalize, test_fraction, seed)
    paths = expand(inputs)
    plan = packing.plan(match(paths, target) if target else group(paths), options, axes)
    counts = {split: sum(entry.samples for entry in entries) for split, entries in plan.splits.items()}
    names = ", ".join(f"{split}: {count} samples" for split, count in counts.items())
    if len(plan.roles) == 1:
        say("no target is known: input files only")
    if not overwrite and packing.is_packed(plan, out):
        say(f"{out} is complete ({names}), nothing to do")
    else:
        shape = "×".join(str(size) for size in plan.sample_shape)
        say(f"{names} of {shape}, {plan.bytes / 1e9:.3g} GB in {out}")
        with progress("pack", plan.samples, "samples") as bar:
            for entry in packing.pack(plan, out):
                bar.advance(entry.samples)
    write_json({"samples": counts, "sample_shape": plan.sample_shape, "bytes": plan.bytes}, json)
