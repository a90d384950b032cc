"""The classical denoisers: frozen parameters with `apply(image (*space), pixel_size in Å) → (*space)`.

All are linear, act on two and three axes alike, mirror the image at its edges (nothing wraps around) and
keep its mean: filter(a·x + b) = a·filter(x) + b. Non-finite pixels are the caller's to mend. `fitted` holds
those which see the truth, for the tables.
"""

from typing import Protocol

from torch import Tensor

from deice.filters.gaussian import Gaussian
from deice.filters.lowpass import LowPass
from deice.filters.wiener import Wiener


class Filter(Protocol):
    """What every classical denoiser answers."""

    def apply(self, image: Tensor, pixel_size: float | None, /) -> Tensor:
        """Denoise `image` (*space) → (*space); `pixel_size` in Å."""
        ...


FILTERS: dict[str, type[Filter]] = {"gaussian": Gaussian, "lowpass": LowPass, "wiener": Wiener}

__all__ = ["FILTERS", "Filter", "Gaussian", "LowPass", "Wiener"]
