"""Plates: how much each voxel lies in a dark sheet, by a bank of second derivatives of elongated Gaussians.

A plate of the bank averages along a sheet, over `along`, and takes the second derivative across it, over `across`: the
Hessian's quadratic form n·H·n of an elongated Gaussian, for every normal n of the bank. With along = across it is
the Hessian of a round one (Sato et al., Med. Image Anal. 2 (1998) 143-168). What the plates answer is gathered in the
orientation tensor Σ R² n nᵀ, whose two largest eigenvalues differ in a sheet, are alike in a line and all alike in a
ball: their gap says "sheet" (the stick saliency of Medioni, Lee & Tang's tensor voting, 2000).
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

UPPER = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))  # the entries of a symmetric tensor that are kept


def half_sphere(count: int) -> Tensor:
    """(count, 3) unit normals z, y, x, spread evenly over half the sphere (a Fibonacci spiral)."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    height, turn = 1 - index / count, index * math.pi * (3 - math.sqrt(5))
    radius = (1 - height**2).sqrt()
    return torch.stack([height, radius * torch.sin(turn), radius * torch.cos(turn)], dim=1)


def plate_responses(block: Tensor, across: float, along: float, normals: Tensor) -> Iterator[Tensor]:
    """across² · ∂²/∂n² of `block` (z, y, x) for each n of `normals` (n, 3); (z, y, x) each.

    The block is smoothed by a Gaussian of σ = `across` voxels along n and `along` voxels perpendicular to it, so the
    answer is positive in the middle of a dark sheet. It repeats itself: cut off what lies nearer to its faces than the
    Gaussian reaches.
    """
    z, y, x = (f.to(block) for f in _frequencies(block.shape))
    spectrum, whole = torch.fft.rfftn(block), z**2 + y**2 + x**2
    for normal in normals.tolist():
        squared = (normal[0] * z + normal[1] * y + normal[2] * x) ** 2
        # one exponential: the factors of two would overflow
        gain = torch.exp(-(along**2) / 2 * whole + (along**2 - across**2) / 2 * squared) * (-(across**2) * squared)
        yield torch.fft.irfftn(spectrum * gain, s=block.shape)


def _frequencies(shape: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """z, y, x in radians per voxel of a half transform, shaped to broadcast."""
    z, y, x = torch.fft.fftfreq(shape[0]), torch.fft.fftfreq(shape[1]), torch.fft.rfftfreq(shape[2])
    return 2 * math.pi * z[:, None, None], 2 * math.pi * y[:, None], 2 * math.pi * x


def sheetness(block: Tensor, across: float, along: float, normals: Tensor, core: tuple[slice, ...]) -> Tensor:
    """How much each voxel of `block`[`core`] lies in a dark sheet: 0 nowhere, 1 in the middle of an ideal one.

    block: (z, y, x), in units of the ideal sheet's depth, which has a Gaussian profile of σ = `across` voxels.
    """
    tensor = block.new_zeros((6, *block[core].shape))
    for normal, response in zip(normals.tolist(), plate_responses(block, across, along, normals)):
        power = response[core].clamp_min(0).square()
        for entry, (a, b) in zip(tensor, UPPER):
            entry.add_(power, alpha=normal[a] * normal[b])
    return (eigenvalue_gap(tensor) / _gap_of_ideal(across, along, normals)).sqrt()


def response_to_plane(angle: Tensor, width: float, across: float, along: float) -> Tensor:
    """What a plate answers in the middle of a dark plane of depth 1, a Gaussian of σ = `width` voxels in profile.

    angle: between the two normals, in radians. Of all the plate's Gaussian only its projection on the plane's normal
    counts, of variance s² = across² cos² + along² sin²; hence across² cos² · width / (width² + s²)^(3/2).
    """
    cosine = torch.cos(angle)
    variance = (across * cosine) ** 2 + (along * torch.sin(angle)) ** 2
    return (across * cosine) ** 2 * width / (width**2 + variance) ** 1.5


def _gap_of_ideal(across: float, along: float, normals: Tensor) -> float:
    """The eigenvalue gap in the middle of an ideal sheet, on average over the sheet's normals."""
    gaps = []
    for sheet in normals:
        angle = torch.arccos((normals @ sheet).clamp(-1, 1))
        power = response_to_plane(angle, across, across, along).square()
        gaps.append(eigenvalue_gap(torch.stack([(power * normals[:, a] * normals[:, b]).sum() for a, b in UPPER])))
    return float(torch.stack(gaps).mean())


def eigenvalue_gap(tensor: Tensor) -> Tensor:
    """The largest less the second eigenvalue of symmetric 3×3 tensors (6, …), entries as in `UPPER`; (…).

    Closed form: Smith, Communications of the ACM 4 (1961) 168.
    """
    zz, yy, xx, zy, zx, yx = tensor
    mean = (zz + yy + xx) / 3
    a, b, c = zz - mean, yy - mean, xx - mean
    spread = ((a**2 + b**2 + c**2 + 2 * (zy**2 + zx**2 + yx**2)) / 6).sqrt()
    determinant = a * (b * c - yx**2) - zy * (zy * c - yx * zx) + zx * (zy * yx - b * zx)
    cosine = (determinant / (2 * spread**3).clamp_min(torch.finfo(tensor.dtype).tiny)).clamp(-1, 1)
    angle = torch.arccos(cosine) / 3
    return 2 * math.sqrt(3) * spread * torch.sin(math.pi / 3 - angle)
