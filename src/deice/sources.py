"""Sources: scenes opened for training, each with its normalisation and the region that windows may be cut from."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from deice.errors import PairFault, RecipeFault, UserError
from deice.image import Image
from deice.ops.normalise import NORMALISERS, Affine, Statistics, all_finite, replace_not_finite, statistics
from deice.ops.tiles import blocks

log = logging.getLogger(__name__)
SPREAD = 64
MEASURED = 1 << 22  # elements of an image, in evenly spread slabs: a training set of a terabyte must open quickly


@dataclass(frozen=True)
class Source:
    """One scene: `views`, each (*space) and sliceable, `affines` that normalise them, `region` (start, stop) per axis.

    `packed`: the views are (n, *space), n pictures that are cut one at a time.
    """

    name: str
    views: tuple[Any, ...]
    affines: tuple[Affine, ...]
    region: tuple[tuple[int, int], ...]
    packed: bool = False

    @property
    def extent(self) -> tuple[int, ...]:
        """The size of the region along each axis."""
        return tuple(stop - start for start, stop in self.region)

    def cut(self, origin: Sequence[int], window: Sequence[int], into: np.ndarray) -> None:
        """Grey values of the window at `origin` go `into` (v, *window) of any type, as they are."""
        cut = tuple(slice(int(o), int(o) + w) for o, w in zip(origin[-len(window) :], window))
        if self.packed:
            cut = (int(origin[0]), *cut)
        for view, row in zip(self._plain, into):
            np.copyto(row, view[cut], casting="unsafe")

    def mend(self, window: np.ndarray) -> None:
        """Replace in place what is not finite of the grey values of a window (v, *window)."""
        for view, affine, row in zip(self._plain, self.affines, window):
            if view.dtype.kind == "f" and not all_finite(row):
                row[...] = replace_not_finite(row, affine.offset)

    @cached_property
    def _plain(self) -> tuple[Any, ...]:
        """The views; mapped ones as arrays like any other, which are cut in half the time."""
        return tuple(view.view(np.ndarray) if isinstance(view, np.ndarray) else view for view in self.views)

    def read(self, origin: Sequence[int], window: Sequence[int]) -> np.ndarray:
        """The normalised window at `origin`: (v, *window) float32."""
        rows = np.empty((len(self.views), *window), np.float32)
        self.cut(origin, window, rows)
        self.mend(rows)
        for affine, row in zip(self.affines, rows):
            affine.apply_in_place(row)
        return rows

    def resident(self) -> "Source":
        """The same scene read whole into memory, in file order."""
        return replace(self, views=tuple(np.array(view[...]) for view in self.views))


def source_of(name: str, images: Sequence[Image], normaliser: str, directed: bool = False) -> Source:
    """One scene from its views (arrays of equal shape).

    `directed`: the last view is a target in the same grey scale as the input, so it is normalised by the input's
    statistics and the answer comes back in the target's grey values.
    """
    views = tuple(image.views[i] for image in images for i in range(image.views.shape[0]))
    shapes = {tuple(view.shape) for view in views}
    if len(shapes) > 1:
        raise PairFault(f"{name}: the views have different sizes {sorted(shapes)}; they must show the same field")
    if normaliser not in NORMALISERS:
        raise RecipeFault(f"normaliser is {normaliser!r}; expected one of {', '.join(NORMALISERS)}")
    found = [check_varies(name, view) for view in views]
    if normaliser == "standard":  # which is what was measured already
        affines = [Affine(of.mean, of.sd) for of in found]
    else:
        affines = [NORMALISERS[normaliser](view, MEASURED) for view in views]
    if directed:
        affines[-1] = affines[0]
    region = tuple((0, size) for size in views[0].shape)
    if len(region) == 3:
        region = _without_padding(name, views[0])
    return Source(name, views, tuple(affines), region)


def _without_padding(name: str, volume: Any) -> tuple[tuple[int, int], ...]:
    """The region of `volume` (z, y, x) between the constant planes at its faces, such as programs pad volumes with."""
    region = []
    for axis, size in enumerate(volume.shape):
        start, stop = 0, size
        while start < stop - 1 and _is_constant(volume, axis, start):
            start += 1
        while stop > start + 1 and _is_constant(volume, axis, stop - 1):
            stop -= 1
        region.append((start, stop))
    kept = prod(stop - start for start, stop in region) / prod(volume.shape)
    if kept < 1:
        log.warning("%s: constant planes at its faces, %.3g %% of it; training leaves them out", name, 100 * (1 - kept))
    return tuple(region)


def _is_constant(volume: Any, axis: int, index: int) -> bool:
    """Whether one plane has nothing but one value, by at most `SPREAD` values along each of its axes."""
    cut = [slice(None, None, max(1, size // SPREAD)) for size in volume.shape]
    cut[axis] = slice(index, index + 1)
    values = np.asarray(volume[tuple(cut)])
    return bool((~np.isfinite(values) | (values == values.flat[0])).all())


def with_labels(source: Source) -> Source:
    """`source` whose last view holds labels: whole numbers, which are not normalised. RecipeFault for others."""
    some = np.asarray(source.views[-1][next(blocks(source.views[-1].shape))])
    if some.dtype.kind == "f" and not np.array_equal(some, np.rint(some)):
        broken = some[some != np.rint(some)][0]
        raise RecipeFault(f"{source.name}: the target holds {broken:.4g}; expected labels, which are whole numbers: "
                          "give the folder of label volumes by --target")
    return replace(source, affines=(*source.affines[:-1], Affine()))


def holds_label(source: Source, labels: Sequence[int]) -> bool:
    """Whether one of `labels` occurs in the last view of `source`."""
    view = source.views[-1]
    return any(np.isin(np.asarray(view[block]), labels).any() for block in blocks(view.shape))


def packed_source(name: str, views: Sequence[Any]) -> Source:
    """Packed pictures, each view (n, *space): they were normalised when they were packed."""
    return Source(name, tuple(views), (Affine(),) * len(views), tuple((0, size) for size in views[0].shape), True)


def check_varies(name: str, view: Any) -> Statistics:
    """The statistics of an image, by a sample of it; one without any finite or any varying value is refused."""
    found = statistics(view, MEASURED)
    if not found.count:
        raise UserError(f"{name}: no finite value in the image; expected a picture, check how the file was written")
    if not found.varies:
        raise UserError(f"{name}: every value is {found.mean:g}; expected a picture that varies")
    return found


def split_sources(
    sources: Sequence[Source], fraction: float, window: Sequence[int], gap: int, seed: int
) -> tuple[list[Source], list[Source]]:
    """Training and validation sources, by image; of a lone image by regions with `gap` pixels between them."""
    if not 0 < fraction < 1:
        raise RecipeFault(f"validation fraction is {fraction}; expected a number between 0 and 1")
    if len(sources) > 1:
        held_out = max(1, round(fraction * len(sources)))
        order = np.random.default_rng(seed).permutation(len(sources)).tolist()
        return [sources[i] for i in sorted(order[held_out:])], [sources[i] for i in sorted(order[:held_out])]
    return _split_region(sources[0], fraction, window, gap)


def _split_region(
    source: Source, fraction: float, window: Sequence[int], gap: int
) -> tuple[list[Source], list[Source]]:
    """The end of the axis with most windows is held out; in a short image the gap takes half of what is spare."""
    whole = (1, *window) if source.packed else tuple(window)
    axis = int(np.argmax([size / w for size, w in zip(source.extent, whole)]))
    start, stop = source.region[axis]
    held_out = max(whole[axis], round(fraction * (stop - start)))
    spare = stop - start - held_out - whole[axis]
    gap = 0 if source.packed else min(gap, spare // 2)
    if spare < 0:
        raise RecipeFault(
            f"{source.name}: an axis of {stop - start} pixels cannot hold a training and a validation window of "
            f"{whole[axis]} each; use a smaller --patch (at most {(stop - start) // 2})"
        )
    parts = []
    for span in ((start, stop - held_out - gap), (stop - held_out, stop)):
        parts.append([replace(source, region=source.region[:axis] + (span,) + source.region[axis + 1 :])])
    return parts[0], parts[1]


def fit_window(sources: Sequence[Source], window: Sequence[int], stride: int) -> tuple[int, ...]:
    """`window` cut down to the smallest source, as a multiple of the net's stride.

    A lone image is cut into training and validation along its longest axis: a third of that holds the window. A world
    that is drawn has no sources, and gives what is asked for.
    """
    extents = [source.extent[1:] if source.packed else source.extent for source in sources]
    smallest = [min(sizes) for sizes in zip(*extents)] or list(window)
    if len(sources) == 1 and not sources[0].packed:
        smallest[int(np.argmax(smallest))] //= 3
    fitted = tuple(min(w, size) // stride * stride for w, size in zip(window, smallest))
    if not all(fitted):
        raise RecipeFault(f"windows of {'×'.join(map(str, window))} do not fit images of "
                          f"{'×'.join(map(str, smallest))}: the network needs multiples of {stride}")
    return fitted


def windows_in(source: Source, window: Sequence[int]) -> int:
    """How many windows of one epoch a source counts for: its area over the window's."""
    return max(1, prod(source.extent) // prod(window))
