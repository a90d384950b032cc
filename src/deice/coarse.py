"""Coarse to fine: a run begins with windows of binned images, which show more of the scene and less of the noise.

Binned by 2, an image has half the pixels along each axis, and its white noise falls by √2 for each: grey values are
normalised anew, by its own statistics, or the network would learn at a scale that it never meets. Views stay
independent, since each is binned by itself.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.ops.normalise import NORMALISERS, SAMPLE, Affine
from deice.ranks import ALONE, Ranks
from deice.recipe import Recipe
from deice.sources import Source
from deice.stream import Stream, make_order


@dataclass(frozen=True)
class Binned:
    """`image` (*space), sliceable, as the means of blocks of `factor` pixels along each axis, computed when sliced.

    What is left over at the end of an axis is not seen.
    """

    image: Any
    factor: int
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """The size along each axis."""
        return tuple(size // self.factor for size in self.image.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.image.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        """A block, cut by slices without a step (one, several, or ...)."""
        given = () if key is ... else key if isinstance(key, tuple) else (key,)
        spans = [cut.indices(size)[:2] for cut, size in zip(given, self.shape)]
        spans += [(0, size) for size in self.shape[len(spans) :]]
        block = np.asarray(self.image[tuple(slice(a * self.factor, b * self.factor) for a, b in spans)], np.float32)
        for axis, (start, stop) in enumerate(spans):
            split = (*block.shape[:axis], stop - start, self.factor, *block.shape[axis + 1 :])
            block = block.reshape(split).mean(axis + 1)
        return block


def coarser(source: Source, octaves: int, normaliser: str, directed: bool) -> Source:
    """`source` binned by 2^`octaves` and normalised anew; what was not normalised before is not now.

    `directed`: the last view is a target, normalised as the input is.
    """
    factor = 2**octaves
    views = tuple(Binned(view, factor) for view in source.views)
    limit = SAMPLE // factor ** len(source.region)
    affines = [affine if affine == Affine() else NORMALISERS[normaliser](view, limit)
               for view, affine in zip(views, source.affines)]
    if directed:
        affines[-1] = affines[0]
    return replace(source, views=views, affines=tuple(affines), region=_binned_region(source, factor))


def _binned_region(source: Source, factor: int) -> tuple[tuple[int, int], ...]:
    """Blocks that lie in the region with all of their pixels, so that training sees nothing of the validation's."""
    return tuple((-(-start // factor), stop // factor) for start, stop in source.region)


def coarse_window(sources: Sequence[Source], window: Sequence[int], stride: int, octaves: int) -> tuple[int, ...]:
    """`window` cut down, in multiples of `stride`, to what the smallest source holds of it when binned.

    Raises RecipeFault where that is nothing, and for packed windows, of which there is no more to see.
    """
    if octaves and any(source.packed for source in sources):
        raise RecipeFault("coarse training needs images that larger windows can be cut from, but the input is packed "
                          "windows; leave coarse out, or give the images themselves")
    if not octaves:
        return tuple(window)
    regions = [_binned_region(source, 2**octaves) for source in sources]
    smallest = [min(stop - start for start, stop in spans) for spans in zip(*regions)]
    fitted = tuple(min(w, size) // stride * stride for w, size in zip(window, smallest))
    if min(fitted) < 1:
        raise RecipeFault(f"coarse = {octaves}: the smallest image has {'×'.join(map(str, smallest))} pixels when "
                          f"halved {octaves} times, and the network needs multiples of {stride}; use a smaller coarse")
    return fitted


def coarse_to_fine(
    sources: Sequence[Source], recipe: Recipe, device: torch.device,
    position: Callable[[], int], level: Callable[[], int], ranks: Ranks = ALONE,
) -> Generator[Tensor]:
    """This rank's part (b, v, *window) of batches without end; `level` says before each how often it is halved,
    `position` its number."""
    data, settings = recipe.data, recipe.training
    directed = getattr(recipe.scheme, "directed", False)
    while True:
        octaves = level()
        shown = [coarser(source, octaves, data.normaliser, directed) for source in sources] if octaves else sources
        window = coarse_window(sources, data.window, recipe.network.stride, octaves)
        order = make_order(data.order, shown, window, settings.batch * settings.accumulate, settings.seed)
        batches = Stream(shown, order, device, position(), ranks, data.threads).batches()
        try:
            while level() == octaves:
                yield next(batches)
        finally:
            batches.close()
