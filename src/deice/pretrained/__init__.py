"""The packaged models: `micrographs.safetensors` for pictures, `tomograms.safetensors` for volumes, a card beside each.

They learnt from simulations alone, so what they say of pictures is calibrated on the very picture
(`deice.calibration`); of volumes it is not, because the noise of a reconstruction is another in each direction.
`unlike_in_size` and `unlike_in_noise` say in which way an image is unlike all that they learnt from.
"""

from pathlib import Path

import torch

from deice.calibration import cut_off, shells_of
from deice.checkpoint import Model, load_model
from deice.errors import RecipeFault
from deice.ops.cosine import cosine_transform
from deice.ops.noise import neighbour_correlation

PRETRAINED = "pretrained"  # what `-m` and `--from` call them
FOLDER = Path(__file__).parent
NAMES = {2: "micrographs", 3: "tomograms"}
ALONE = {2: "noise2void", 3: "recorrupted"}  # the scheme that learns from one image
PIXELS = {2: (0.5, 15.0), 3: (4.0, 20.0)}  # Å: what they learnt from
CORRELATED = 0.25  # of direct neighbours in the noise: more was not learnt from
SAMPLE = 1024  # pixels of a picture's middle, along each axis, that remarks are made on


def packaged(axes: int) -> Path:
    """The packaged model for images of `axes` axes; RecipeFault where this package has none."""
    if axes not in NAMES:
        raise RecipeFault(f"an image of {axes} axes; expected pictures or volumes")
    path = FOLDER / f"{NAMES[axes]}.safetensors"
    if not path.is_file():
        raise RecipeFault(f"this package has no pretrained model of {NAMES[axes]}; train one (deice train HALVES -o "
                          f"RUN) and give -m RUN, or give a scheme, as -m {ALONE[axes]}")
    return path


def load_packaged(axes: int) -> Model:
    """The packaged model for images of `axes` axes."""
    return load_model(packaged(axes))


def unlike_in_size(pixel_size: float | None, axes: int) -> str | None:
    """What there is to say of a pixel size in Å that the packaged model for `axes` axes did not learn from."""
    least, most = PIXELS[axes]
    if pixel_size is None:
        return f"the header gives no pixel size; the packaged model learnt from {least:g} to {most:g} Å per pixel"
    if not least <= pixel_size <= most:
        return (f"{pixel_size:.3g} Å per pixel; the packaged model learnt from {least:g} to {most:g} Å: look at what "
                "was removed, or train on your own data")
    return None


def unlike_in_noise(picture: torch.Tensor) -> str | None:
    """What there is to say of a `picture` (y, x) whose noise cannot be told well."""
    middle = picture[tuple(slice((n - min(n, SAMPLE)) // 2, (n + min(n, SAMPLE)) // 2) for n in picture.shape)].cpu()
    shells = shells_of(middle.shape)
    empty = cut_off(shells.means(cosine_transform(middle - middle.mean(), middle.ndim) ** 2), shells)
    if empty < 0.45:
        return (f"filtered before: nothing is left beyond {empty:.1f} cycles per pixel, so what is noise is hard to "
                "tell; denoise the picture as it was before")
    if max(neighbour_correlation(middle)) > CORRELATED:
        return ("the noise of neighbouring pixels is correlated, as after interpolation: what is noise is hard to "
                "tell; halves of the exposure tell it")
    return None
