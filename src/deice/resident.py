"""Images that the device holds whole: copied there once as they are stored, measured and denoised there, copied back.

What a picture of 57 million pixels costs on a GPU is its copies: one to pinned memory, one to the device, one back.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deice.checkpoint import Model
from deice.conditions import Conditions
from deice.image import Image
from deice.io.statistics import Statistics as Figures
from deice.ops.normalise import Statistics, finite_statistics, replace_not_finite, statistics
from deice.ops.tiles import blocks

SHARE = {"cpu": 8, "cuda": 2}  # images in flight may hold one part in so many of the memory left
MEASURED = ("standard", "none")  # normalisers that mean and standard deviation suffice for
AS_STORED = ("uint8", "int8", "int16", "int32", "float16", "float32")  # torch takes the others as float32


def held_bytes(image: Image) -> int:
    """What the device holds of an image: each view as float32, and as it is stored; their average; the answer."""
    views, stored = image.views.shape[0], image.views.dtype.itemsize
    copies = views * (4 if stored == 4 else 4 + stored) + (4 if views > 1 else 0) + 4
    return prod(image.space) * copies


def fits(image: Image, model: Model, conditions: Conditions) -> bool:
    """Whether the device may hold the image whole, beside those in flight."""
    if getattr(model.scheme, "kept_for_estimate", 0) or model.recipe.data.normaliser not in MEASURED:
        return False
    return conditions.in_flight * held_bytes(image) <= conditions.memory_left() // SHARE[conditions.device.type]


def loaded(image: Image, device: torch.device) -> list[Tensor]:
    """Each view (*space) in the host's memory, in the type that it is stored in; pinned for a GPU."""
    return [_loaded(image.views[number], device) for number in range(image.views.shape[0])]


def _loaded(view: Any, device: torch.device) -> Tensor:
    name = view.dtype.newbyteorder("=").name
    held = torch.empty(tuple(view.shape), dtype=getattr(torch, name if name in AS_STORED else "float32"),
                       pin_memory=device.type == "cuda")
    array = held.numpy()
    for block in blocks(view.shape):
        array[block] = view[block]
    return held


def uploaded(views: Sequence[Tensor], device: torch.device) -> tuple[list[Tensor], list[Statistics]]:
    """Each view on the device as float32, its statistics, and neighbours' values in place of those not finite."""
    pictures = [view.to(device, non_blocking=True).float() for view in views]
    found = [finite_statistics(picture) for picture in pictures]
    for number, measured in enumerate(found):
        if not measured.count:
            array = views[number].numpy()
            found[number] = statistics(array)
            pictures[number] = torch.from_numpy(replace_not_finite(array, found[number].mean)).to(device)
    return pictures, found


def downloaded(answer: Tensor, float16: bool) -> tuple[np.ndarray, Figures | None]:
    """The answer as float32 or float16 in the host's memory, and its figures; None of them if some are not finite."""
    stored = answer.half() if float16 else answer
    found = finite_statistics(stored.float())
    host = torch.empty(stored.shape, dtype=stored.dtype, pin_memory=stored.is_cuda)
    host.copy_(stored, non_blocking=True)
    if stored.is_cuda:
        torch.cuda.current_stream(stored.device).synchronize()
    if not found.count:
        return host.numpy(), None
    lowest, highest = (float(end) for end in stored.aminmax())
    return host.numpy(), Figures(lowest, highest, found.mean, found.sd, 0, 0)
