"""The network on a scene: tile after tile, each normalised, estimated, brought back to grey values and blended.

Tiled equals whole for every net whose statistics are fixed: the halo holds all that an output pixel sees, origins lie
on the net's pooling grid, and grey values are normalised by the statistics of the whole image.
"""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from deice.checkpoint import Model
from deice.conditions import Conditions
from deice.devices import autocast, choose_precision, is_out_of_memory, place, put
from deice.ops.normalise import Affine, replace_not_finite
from deice.ops.tiles import Span, add_tile, core_of, grid, read_tile
from deice.random_estimates import drawing_for
from deice.tile_sizes import BLEND, at_once, choose_cores, halved

log = logging.getLogger(__name__)


def estimate_into(
    canvas: Any, views: Sequence[Any], affines: Sequence[Affine], model: Model, conditions: Conditions
) -> None:
    """Add to `canvas` (*space), which must hold zeros, the estimate from `views`, each (*space) with its affine.

    Views on the device, all finite, with a canvas there too: then nothing leaves it. Or anything that is sliced, with
    an array as canvas: then no more than a tile is held. Tiles are halved where memory runs out.
    """
    model = replace(model, module=place(model.module, model.axes, conditions.device).eval())
    cores = choose_cores(canvas.shape, model, len(views), conditions)
    while True:
        try:
            for tile in grid(canvas.shape, cores, model.halo, model.net.stride, BLEND):
                conditions.check()
                core = estimate_tile(views, affines, tile, model, conditions)
                add_tile(canvas, tile, core if isinstance(canvas, Tensor) else core.cpu().numpy())
            return
        except RuntimeError as error:
            smaller = halved(cores, model.net.stride)
            if not is_out_of_memory(error) or smaller == cores:
                raise
            log.warning("out of memory with tiles of %s; trying %s", _times(cores), _times(smaller))
            cores = smaller
            canvas[...] = 0
            torch.cuda.empty_cache()


@torch.no_grad()
def estimate_tile(
    views: Sequence[Any], affines: Sequence[Affine], tile: Sequence[Span], model: Model, conditions: Conditions
) -> Tensor:
    """The core of one tile, on the device, in grey values, or of probability: the mean over the views."""
    blocks = (_finite_tile(view, tile, affine, conditions.device) for view, affine in zip(views, affines))
    batch = torch.stack([affine.apply(block) for block, affine in zip(blocks, affines)])[None]
    precision = choose_precision(conditions.precision, conditions.device)

    def net(pictures: Tensor) -> Tensor:
        answers = []
        for picture in pictures.split(at_once(tile, model, conditions)):
            with autocast(conditions.device, precision):
                answers.append(model.module(put(picture)).float())
        return answers[0] if len(answers) == 1 else torch.cat(answers)

    with drawing_for(tile, model.module, conditions.device) if model.draws else nullcontext():
        estimate = model.scheme.estimate(net, batch)
    answers = core_of(estimate, tile)[0]
    if model.segments:
        return answers.mean(0)
    grey = [affine.undo(answer) for affine, answer in zip(affines, answers)]
    return grey[0] if len(grey) == 1 else torch.stack(grey).mean(0)


def _finite_tile(view: Any, tile: Sequence[Span], affine: Affine, device: torch.device) -> Tensor:
    """A tile with its halo, float32, on the device; the views that lie there already are finite."""
    block = read_tile(view, tile)
    if isinstance(block, Tensor):
        return block
    return torch.from_numpy(replace_not_finite(block, affine.offset)).to(device)


def _times(sizes: Sequence[int]) -> str:
    return "×".join(str(size) for size in sizes)
