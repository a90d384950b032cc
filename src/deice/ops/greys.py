"""Brightness and contrast: grey values moved by a random straight line, all views of a sample alike."""

import torch
from torch import Tensor


def random_greys(
    views: Tensor, contrast: float, brightness: float, generator: torch.Generator, share: tuple[int, int] = (0, 1)
) -> Tensor:
    """a·views + b of `views` (b, v, *space): a in 1 ± `contrast`, b in ± `brightness`, drawn for each sample.

    One line for all views of a sample, input and target: the noise stays independent and of mean 0, so what is learnt
    is the same denoiser at other grey scales. With the standard normaliser it is not needed, as every image comes to
    the network with mean 0 and standard deviation 1; it helps where grey scales differ (normalisers none and
    percentile), and it varies the signal over the noise where noise is added afterwards (supervised).
    `share` (rank, world): the samples are every `world`-th of a batch, beginning with number `rank`.
    """
    rank, world = share
    drawn = torch.rand((2, world * len(views)), generator=generator, device=generator.device)
    draws = 2 * drawn[:, rank::world].to(views.device) - 1
    shape = (-1, *(1,) * (views.ndim - 1))
    return views * (1 + contrast * draws[0]).reshape(shape) + (brightness * draws[1]).reshape(shape)
