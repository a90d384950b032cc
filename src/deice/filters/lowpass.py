"""The low-pass filter with a smooth edge."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.ops.cosine import filter_mirrored


@dataclass(frozen=True)
class LowPass:
    """Keep what is coarser than `cutoff` Å.

    The gain falls as a raised cosine from 1 to 0 over `edge` × the cut-off frequency, and is 1/2 at the
    cut-off: a sharp edge would ring.
    """

    cutoff: float | None = None
    edge: float = 0.2

    def __post_init__(self):
        if self.cutoff is not None and not 0 < self.cutoff < math.inf:
            raise RecipeFault(f"a low-pass at {self.cutoff} Å; expected a length above 0")
        if not 0 <= self.edge < 2:
            raise RecipeFault(f"an edge of {self.edge} of the cut-off frequency; expected 0 to below 2")

    def apply(self, image: Tensor, pixel_size: float | None = None) -> Tensor:
        """Low-pass `image` (*space) of `pixel_size` Å → (*space).

        RecipeFault without a cut-off or a pixel size, and for a cut-off beyond Nyquist.
        """
        if self.cutoff is None:
            raise RecipeFault("a low-pass without a cut-off; expected one in Å: give --cutoff")
        if pixel_size is None:
            raise RecipeFault("a low-pass in Å for an image of unknown pixel size: give --pixel-size")
        if self.cutoff < 2 * pixel_size:
            raise RecipeFault(
                f"a low-pass at {self.cutoff:g} Å; expected at least {2 * pixel_size:g} Å (Nyquist) "
                f"for pixels of {pixel_size:g} Å: raise --cutoff"
            )
        cutoff = pixel_size / self.cutoff
        return filter_mirrored(image, lambda radius: lowpass_gain(radius, cutoff, self.edge), image.ndim)


def lowpass_gain(frequency: Tensor, cutoff: float, edge: float) -> Tensor:
    """1 below, 0 above `cutoff` (cycles per pixel), raised cosine over `edge`·cutoff; frequency of any
    shape."""
    start, width = cutoff * (1 - edge / 2), max(cutoff * edge, 1e-12)
    return 0.5 + 0.5 * torch.cos(math.pi * ((frequency - start) / width).clamp(0, 1))
