"""Noise that is white along one axis of a volume and coloured across it, as that of a back-projection."""

import torch
from torch import Tensor


def noise_spectrum(windows: Tensor, axis: int, above: float) -> Tensor:
    """Power of the noise of `windows` (b, z, y, x) at each frequency across `axis` (1, 2 or 3): size 1 along it.

    Taken to be what is found, on average, at frequencies along `axis` of at least `above` cycles per voxel. Edges are
    tapered, or the signal's low frequencies would leak into it. Not smoothed over frequencies, however few values each
    has: their errors cancel from window to window, those of smoothing add up to a bias larger than a weak signal.
    """
    size = windows.shape[axis]
    high = torch.fft.fftfreq(size, device=windows.device).abs() >= min(above, (size // 2) / size)
    taper = torch.ones((), device=windows.device)
    for a in (1, 2, 3):
        hann = torch.hann_window(windows.shape[a] + 2, periodic=False, device=windows.device)[1:-1]
        taper = taper * (hann / hann.square().mean().sqrt()).reshape([-1 if a == b else 1 for b in (1, 2, 3)])
    spectrum = torch.fft.fftn((windows - windows.mean((1, 2, 3), keepdim=True)) * taper, dim=(1, 2, 3))
    power = spectrum.index_select(axis, high.nonzero()[:, 0]).abs().square().mean(axis, keepdim=True)
    return power / windows[0].numel()


def noise_with(spectrum: Tensor, white: Tensor, axis: int) -> Tensor:
    """`white` noise (b, z, y, x) of unit variance → noise of the power `spectrum` across `axis`, white along it."""
    across = tuple(a for a in (1, 2, 3) if a != axis)
    return torch.fft.ifftn(torch.fft.fftn(white, dim=across) * spectrum.sqrt(), dim=across).real
