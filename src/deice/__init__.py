"""deice: denoising of cryo-EM movies, micrographs and tomograms, with the evidence of what was removed.

The verbs of the command line, for arrays and paths; each is imported only when first used.

>>> import deice
>>> denoised = deice.denoise("micrograph.mrc", "run/model.safetensors")   # an Image; also takes arrays
"""

from importlib import import_module

from deice.version import __version__

_VERBS = {
    "Image": "deice.image",
    "Geometry": "deice.image",
    "read": "deice.io",
    "write": "deice.io",
    "split": "deice.movies",
    "simulate": "deice.worlds",
    "train": "deice.training",
    "denoise": "deice.inference",
    "segment": "deice.membranes",
    "measure": "deice.judgement",
}
__all__ = [*_VERBS, "__version__"]


def __getattr__(name: str):
    if name not in _VERBS:
        raise AttributeError(f"module 'deice' has no attribute {name!r}")
    return getattr(import_module(_VERBS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
