"""The flags of deice train that stand over its recipe."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True)
class Flags:
    """What differs between runs; everything else stands in the recipe.

    Parameters
    ----------
    target
        Folder of targets, named as the inputs: the pair is learnt in this direction only.
    scheme
        noise2noise (halves), noise2void (single images), supervised (clean images, or --target),
        segmentation (--target: a folder of labels; for deice segment);
        of tomograms also missing_wedge (halves), isonet and self2self (single ones);
        with settings where wanted: noise2void:share=0.02.
    net
        unet or residual_cnn, with settings where wanted: unet:size=16,depth=4; or list, to see what each costs. At
        the dose of cryo-EM the receptive field decides: take a unet.
    loss
        mse, l1, charbonnier, l2, fourier, ssim, gradient, multiscale, or several by weight: mse+0.1*fourier.
    epochs
        Length of the run: so many times the data.
    steps
        Length of the run in steps.
    minutes
        Length of the run in minutes.
    batch
        Windows a step.
    patch
        Pixels along each axis of a training window.
    lr
        Peak learning rate.
    axes
        zyx for volumes whose header does not say so.
    tilt_range
        First and last tilt in degrees, -60,60, for missing_wedge and isonet; as the .tlt, .rawtlt or .mdoc file
        beside each tomogram says, if not given.
    order
        random (local disks) or window (network disks: whole files, a few at a time).
    normaliser
        standard, percentile or none.
    precision
        auto, fp32, bf16 or fp16.
    seed
        Same seed, same run.
    """

    target: Path | None = None
    scheme: str | None = None
    net: str | None = None
    loss: str | None = None
    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None
    batch: int | None = None
    patch: int | None = None
    lr: float | None = None
    axes: Literal["zyx"] | None = None
    tilt_range: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    order: str | None = None
    normaliser: str | None = None
    precision: str | None = None
    seed: int | None = None

    def tables(self, inputs: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """The flags in the recipe's tables."""
        from deice.io.tilts import parse_tilt_range
        from deice.recipe import parse_component

        return {
            "data": {"inputs": list(inputs) or None, "target": str(self.target) if self.target else None,
                     "axes": self.axes, "window": self.patch, "order": self.order, "normaliser": self.normaliser,
                     "tilt_range": parse_tilt_range(self.tilt_range) if self.tilt_range is not None else None},
            "scheme": parse_component(self.scheme) if self.scheme else {},
            "net": parse_component(self.net) if self.net else {},
            "training": {"epochs": self.epochs, "steps": self.steps, "minutes": self.minutes,
                         "batch": self.batch, "lr": self.lr, "loss": self.loss, "precision": self.precision,
                         "seed": self.seed},
        }


NO_FLAGS = Flags()
