"""Views of bodies, and many copies of them pasted into fields at once: no loop over particles."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deice.ops.fourier import frequency_radius, from_half_transform, half_transform
from deice.worlds.drawn.bodies import Bodies
from deice.worlds.drawn.settings import taken
from deice.worlds.matter import residue_form

FINEST = 128  # pixels along a view
LEVELS = (128, 64, 32, 16, 8)
STARTS = np.cumsum([0, *(n * n for n in LEVELS)])
STEPS = 2.0**20  # of the potential: whole numbers add up to the same bits in any order


@dataclass(frozen=True, eq=False)
class Copies:
    """What is pasted where; each (n,), of the host.

    sample: field.  view: picture of a body.  side: pixels of that picture's side in the field.  y, x: of the centre,
    in pixels of the field, beyond it where the copy is larger.
    angle: radians.  weight: factor.
    """

    sample: np.ndarray
    view: np.ndarray
    side: np.ndarray
    y: np.ndarray
    x: np.ndarray
    angle: np.ndarray
    weight: np.ndarray


def draw_views(bodies: Bodies, chosen: np.ndarray, blur: np.ndarray, generator: torch.Generator) -> Tensor:
    """Projected potentials in V Å of the bodies `chosen` (v,), each turned at random: (v, all levels), flat pyramids.

    blur: (v,) Å, standard deviation.  generator: of the bodies' device.
    """
    device = bodies.sites.device
    count, first = taken(np.stack([bodies.count[chosen], bodies.first[chosen]]), device)
    voxel, width = taken(np.stack([bodies.side[chosen] / FINEST, blur]).astype(np.float32), device)
    total = int(bodies.count[chosen].sum())
    views = torch.arange(len(chosen), device=device)
    view = torch.repeat_interleave(views, count, output_size=total)
    within = torch.arange(total, device=device) - (count.cumsum(0) - count)[view]
    site = first[view] + within
    turns = _rotations(len(chosen), device, generator)[:, :2]
    places = (turns[view] * bodies.sites[site][:, None]).sum(2) / voxel[view, None] + FINEST / 2
    field = torch.zeros(len(chosen) * FINEST * FINEST, dtype=torch.int64, device=device)
    corner = places.floor().clamp(0, FINEST - 2)
    beyond = (places - corner).clamp(0, 1)
    index = (view * FINEST + corner[:, 0].long()) * FINEST + corner[:, 1].long()
    weights = bodies.weights[site]
    for dy in (0, 1):
        for dx in (0, 1):
            share = (beyond[:, 0] if dy else 1 - beyond[:, 0]) * (beyond[:, 1] if dx else 1 - beyond[:, 1])
            field.index_add_(0, index + dy * FINEST + dx, (share * weights * STEPS).round().long())
    counts = field.reshape(-1, FINEST, FINEST).float() / STEPS
    frequency = frequency_radius((FINEST, FINEST), device) / voxel[:, None, None]
    form = residue_form(frequency) * torch.exp(-2 * math.pi**2 * width[:, None, None] ** 2 * frequency**2)
    finest = from_half_transform(half_transform(counts, 2) * form, (FINEST, FINEST)) / voxel[:, None, None] ** 2
    return _pyramid(finest)


def _pyramid(pictures: Tensor) -> Tensor:
    """(v, FINEST, FINEST) → (v, all levels), each level the means of 2 × 2 pixels of the one before."""
    levels = [pictures.flatten(1)]
    for _ in LEVELS[1:]:
        pictures = torch.nn.functional.avg_pool2d(pictures[:, None], 2)[:, 0]
        levels.append(pictures.flatten(1))
    return torch.cat(levels, 1)


def _rotations(count: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """(count, 3, 3) uniform over SO(3), from normal quaternions (Shoemake 1992)."""
    quaternions = torch.randn(count, 4, device=device, generator=generator)
    w, x, y, z = (quaternions / quaternions.norm(dim=1, keepdim=True)).T
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]  # fmt: skip
    return torch.stack(rows, 1).reshape(-1, 3, 3)


def paste(views: Tensor, copies: Copies, fields: int, size: int) -> Tensor:
    """The copies added up in periodic fields: (fields, size, size), of the device of `views`.

    Each pixel under a copy looks up the view, at the level whose pixels are about as large, linearly between four.
    """
    device = views.device
    shown = np.minimum(np.ceil(copies.side), size)
    total = int((shown.astype(np.int64) ** 2).sum())
    level = np.clip(np.floor(np.log2(FINEST / np.maximum(copies.side, 1)) + 0.5), 0, len(LEVELS) - 1).astype(int)
    start = copies.view * views.shape[1] + STARTS[level]
    whole = np.stack([shown, copies.sample, start, np.array(LEVELS)[level]]).astype(np.int64)
    extent, sample, start, side = taken(whole, device)
    real = np.stack([copies.y, copies.x, copies.angle, copies.side, copies.weight]).astype(np.float32)
    real = taken(real, device)
    copy = torch.repeat_interleave(torch.arange(len(shown), device=device), extent**2, output_size=total)
    within = torch.arange(total, device=device) - ((extent**2).cumsum(0) - extent**2)[copy]
    wide = extent[copy]
    row, column = within // wide, within % wide
    # one larger than the field is seen in part, and fades at the field's edges only
    middle = torch.where(extent == size, size / 2, real[:2])
    corner = (middle - (extent - 1) / 2).round()
    offset = corner - real[:2]
    cosine, sine = (real[2].cos() / real[3])[copy], (real[2].sin() / real[3])[copy]
    down, right = row + offset[0][copy], column + offset[1][copy]
    v, u = cosine * down - sine * right, sine * down + cosine * right
    value = _looked_up(views.flatten(), start[copy], side[copy], v, u)
    value = value * torch.where(wide == size, _fading(row, size) * _fading(column, size), 1.0)
    y, x = (row + corner[0].long()[copy]) % size, (column + corner[1].long()[copy]) % size
    field = torch.zeros(fields * size * size, dtype=torch.int64, device=device)
    field.index_add_(0, (sample[copy] * size + y) * size + x, (value * real[4][copy] * STEPS).round().long())
    return field.reshape(fields, size, size).float() / STEPS


def _fading(place: Tensor, size: int) -> Tensor:
    """1 in a field of `size` pixels, towards 0 in the outer eighth: a cut edge would go through the lens as a cross."""
    return (8 / size * torch.minimum(place + 1, size - place)).clamp(max=1)


def _looked_up(flat: Tensor, start: Tensor, wide: Tensor, v: Tensor, u: Tensor) -> Tensor:
    """Values at (v, u), in sides from the centre, of pictures `wide` pixels wide that begin at `start`; 0 outside."""
    y, x = (v + 0.5) * wide - 0.5, (u + 0.5) * wide - 0.5
    top, left = y.floor(), x.floor()
    below, beside = y - top, x - left
    value = torch.zeros_like(v)
    for dy in (0, 1):
        for dx in (0, 1):
            row, column = top.long() + dy, left.long() + dx
            inside = (row >= 0) & (row < wide) & (column >= 0) & (column < wide)
            share = (below if dy else 1 - below) * (beside if dx else 1 - beside)
            value += torch.where(inside, flat[start + (row * wide + column).clamp(0) * inside] * share, 0.0)
    return value
