"""Methods: whatever turns a case into a denoised picture, behind one question: `answers`.

fitted with the truth in hand: noisy, pointwise, gaussian, wiener (radial), tegunov
filters with their parameters: gaussian:sigma=3, lowpass:cutoff=20, wiener:defocus=1.5,strength=1
pretrained: the packaged model, given the average of all frames
models: a run's folder or a .safetensors file, given the halves, as `deice denoise` is; with @full, given the average of
    all frames; with @halves, given each half by itself, and the mean of both answers taken
peers: topaz:unet, topaz:unet-small, topaz:fcnn; of volumes topaz:unet-3d-10a, topaz:unet-3d-20a; with cutoff=4, outlier
    pixels cut first; with whole=1, not in patches
"""

import difflib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from deice.bench.cases import Case, Pictures
from deice.bench.cost import Cost, metered
from deice.bench.tegunov import best_tegunov
from deice.checkpoint import MODEL, Model, load_model
from deice.errors import RecipeFault
from deice.filters import FILTERS
from deice.filters.fitted import best_gaussian, radial_wiener
from deice.image import Image
from deice.inference import denoise
from deice.metrics import align
from deice.peers import INSTALL, denoise_by_topaz, refuse_unknown_model
from deice.pretrained import FOLDER, PRETRAINED, load_packaged
from deice.recipe import parse_component
from deice.schemes import Noise2Noise

AS_GIVEN, FULL, HALVES = "", "@full", "@halves"
SHORT = {"sigma_pixels": "sigma", "highpass_nyquist": "highpass"}  # as the command line names them
FITTED: dict[str, Callable[[Tensor, Pictures], Tensor]] = {
    "noisy": lambda image, _: image,
    "pointwise": lambda image, known: align(image, known.reference),
    "gaussian": lambda image, known: best_gaussian(image, known.reference)[0],
    "wiener": lambda image, known: radial_wiener(image, known.reference),
    "tegunov": lambda image, known: best_tegunov(image, known.reference, known.pixel_size)[0],
}


@dataclass(frozen=True, eq=False)
class Answer:
    """image: the estimate (*space).  halves: each half denoised by itself.  cost: of the estimate alone."""

    image: Tensor
    halves: tuple[Tensor, Tensor] | None
    cost: Cost


class Method(Protocol):
    """What denoises."""

    def answers(self, cases: Sequence[Case], device: torch.device) -> Iterator[tuple[Pictures, Answer]]:
        """Each case, opened, with its answer."""
        ...


@dataclass(frozen=True)
class Filtering:
    """A function of one picture and of what is known of it; each half is filtered as if it were the picture."""

    function: Callable[[Tensor, Pictures], Tensor]

    def answers(self, cases: Sequence[Case], device: torch.device) -> Iterator[tuple[Pictures, Answer]]:
        """On the CPU, whatever the device."""
        for case in cases:
            known = case.open()
            with metered(torch.device("cpu")) as cost:
                image = self.function(known.noisy, known)
            halves = known.halves and (self.function(known.halves[0], known), self.function(known.halves[1], known))
            yield known, Answer(image, halves, cost)


@dataclass(frozen=True, eq=False)
class Learnt:
    """A trained model, on both halves where it learnt from halves, or as FULL or HALVES say."""

    model: Model
    given: str = AS_GIVEN

    def answers(self, cases: Sequence[Case], device: torch.device) -> Iterator[tuple[Pictures, Answer]]:
        """The estimate, and each half denoised by itself."""
        of_halves = isinstance(self.model.scheme, Noise2Noise) and not self.model.scheme.directed
        for case in cases:
            known = case.open()
            with metered(device) as cost:
                if known.halves and self.given == HALVES:
                    image = torch.stack([self._denoised((half,), known, device) for half in known.halves]).mean(0)
                elif known.halves and of_halves and self.given == AS_GIVEN:
                    image = self._denoised(known.halves, known, device)
                else:
                    image = self._denoised((known.noisy,), known, device)
            pair = known.halves and [self._denoised((half,), known, device) for half in known.halves]
            yield known, Answer(image, (pair[0], pair[1]) if pair else None, cost)

    def _denoised(self, views: Sequence[Tensor], known: Pictures, device: torch.device) -> Tensor:
        stacked = np.stack([view.numpy() for view in views])
        answer = denoise(Image(stacked, known.geometry), self.model, device=str(device))
        return torch.from_numpy(answer.views[0])


@dataclass(frozen=True)
class Packaged:
    """The packaged model for pictures or for volumes, as the cases are."""

    def answers(self, cases: Sequence[Case], device: torch.device) -> Iterator[tuple[Pictures, Answer]]:
        """As a model does that is given the average of all frames."""
        for case in cases:
            yield from Learnt(load_packaged(case.open().noisy.ndim), FULL).answers([case], device)


@dataclass(frozen=True)
class Topaz:
    """Topaz's Python, and a pretrained name or a trained file; `cutoff` in standard deviations, 0: its default.

    whole: not in patches.
    """

    python: Path
    model: str
    cutoff: float = 0.0
    whole: bool = False

    def answers(self, cases: Sequence[Case], device: torch.device) -> Iterator[tuple[Pictures, Answer]]:
        """All pictures and halves in one process."""
        given = (p.numpy() for known in (case.open() for case in cases) for p in (known.noisy, *(known.halves or ())))
        found = denoise_by_topaz(self.python, self.model, given, cuda=device.type == "cuda", cutoff=self.cutoff,
                                 whole=self.whole)
        for case in cases:
            known = case.open()
            answer = next(found)
            halves = [torch.from_numpy(next(found).image) for _ in known.halves or ()]
            yield known, Answer(torch.from_numpy(answer.image), (halves[0], halves[1]) if halves else None,
                                Cost(answer.seconds, answer.bytes))


def split_methods(text: str) -> list[str]:
    """"a,b:x=1,y=2,c" → ["a", "b:x=1,y=2", "c"]: what is key=value without a name belongs to the name before it."""
    methods: list[str] = []
    for piece in filter(None, (piece.strip() for piece in text.split(","))):
        if "=" in piece and ":" not in piece and methods:
            methods[-1] += f",{piece}"
        else:
            methods.append(piece)
    return methods


def method_of(text: str, topaz: Path | None, truth: bool) -> Method:
    """The method that `text` names; RecipeFault for what it does not know or cannot do without a `truth`."""
    if text == "noisy" or (truth and text in FITTED):
        return Filtering(FITTED[text])
    name, _, settings = text.partition(":")
    if name == "topaz":
        return topaz_of(settings, topaz)
    if text == PRETRAINED:
        return Packaged()
    path = Path(without_given(text))
    if path.suffix == ".safetensors" or path.is_dir():
        return Learnt(load_model(path), given_of(text))
    if name not in FILTERS:
        known = ["noisy", *FILTERS, *(FITTED if truth else ()), PRETRAINED, "topaz"]
        near = difflib.get_close_matches(name, known, 1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise RecipeFault(f"method {text!r} is unknown; expected one of {', '.join(dict.fromkeys(known))}, a run's "
                          f"folder or a .safetensors model{hint}")
    return _filter(text)


def given_of(text: str) -> str:
    """"run@full" → "@full": what a model is given."""
    return next((given for given in (FULL, HALVES) if text.endswith(given)), AS_GIVEN)


def without_given(text: str) -> str:
    """"run@full" → "run"."""
    return text.removesuffix(given_of(text))


def weights_of(text: str) -> list[str]:
    """Hashes of the files that a trained method's answers depend on: another model under the same name is another."""
    of_topaz = text.startswith("topaz:")
    path = Path(text.removeprefix("topaz:").partition(",")[0] if of_topaz else without_given(text))
    files = sorted(FOLDER.glob("*.safetensors")) if text == PRETRAINED else [path / MODEL if path.is_dir() else path]
    return [hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest() for file in files if file.is_file()]


def _filter(text: str) -> Filtering:
    table = parse_component(text)
    name = table.pop("name")
    known = {short_of(field.name): field.name for field in fields(FILTERS[name])}  # ty: ignore[invalid-argument-type]
    for key in table:
        if key not in known and key not in known.values():
            raise RecipeFault(f"{text}: unknown setting {key!r}; expected {', '.join(known)}")
    chosen = FILTERS[name](**{known.get(key, key): value for key, value in table.items()})
    return Filtering(lambda image, pictures: chosen.apply(image, pictures.pixel_size))


def short_of(field: str) -> str:
    """A filter's field as the command line names it."""
    return SHORT.get(field, field)


def topaz_of(settings: str, python: Path | None) -> Topaz:
    """"unet,cutoff=4" → that method; RecipeFault where Topaz is not known or a setting is unknown."""
    if python is None:
        raise RecipeFault(f"topaz:{settings}: Topaz is not known here; expected --topaz PYTHON or the variable "
                          f"DEICE_TOPAZ_PYTHON ({INSTALL})")
    model, *rest = settings.split(",")
    table: dict[str, Any] = parse_component(f"topaz:{','.join(rest)}")
    cutoff, whole = table.pop("cutoff", 0.0), table.pop("whole", 0)
    table.pop("name")
    if table or not isinstance(cutoff, int | float) or whole not in (0, 1):
        raise RecipeFault(f"topaz:{settings}: expected a model and at most cutoff=NUMBER and whole=1, as "
                          "topaz:unet,cutoff=4")
    refuse_unknown_model(model)
    return Topaz(python, model, float(cutoff), bool(whole))
