"""Puts a trained run into the package: package_model.py RUN micrographs|tomograms [--hardware "one NVIDIA H200"]

Writes src/deice/pretrained/NAME.safetensors, its weights in float16, and beside it the card NAME.md: recipe, seed,
length and validation as the run recorded them. What follows "## Figures" on the card is written by hand and kept.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from deice.checkpoint import appearing, load_model, metadata_of
from deice.nets import parameters
from deice.pretrained import FOLDER, NAMES, PIXELS
from deice.recipe import to_toml
from deice.runs import METRICS
from deice.version import __version__

LARGEST = 16 << 20  # bytes
LIMITS = {
    2: """- Calibration takes back contrast that a picture does not bear out at a frequency; it cannot tell one
  particle from another. Of lone pictures the noise is told from the upper half of the frequencies: badly where a
  picture was filtered or interpolated before, or is binned so far that it has signal everywhere. Halves tell it
  rightly.""",
    3: "- Its answers are not calibrated. It does not fill the missing wedge.",
}
CALIBRATED = {2: "; what it says of a picture is calibrated on that picture", 3: ""}
FIGURES = "## Figures"
CARD = """# The packaged model of {name}

A denoiser for {what} that learnt from simulations alone: no measured picture entered its training. deice uses it where
no model is named (`deice denoise FILES -o DIR`){calibrated}.

## What it learnt from

Windows drawn afresh for every step (`src/deice/worlds/drawn/`): {least:g} to {most:g} Å per pixel, many bodies,
lenses, cameras and kinds of noise, wider than any microscope. `deice train --recipe recipes/pretrained_{name}.toml
-o run` trains such a model; this one was trained by

```toml
{recipe}
```

## How

| | |
|---|---|
| parameters | {parameters:,}, stored as float16 ({megabytes:.1f} MB) |
| hardware | {hardware} |
| time | {minutes:.0f} minutes |
| steps | {steps:,}, {share:.0f} % of the run that the recipe asks for |
| kept | the best by validation: step {best:,}, loss {validation:.5g} |
| seed | {seed} |
| made by | deice {version} |

## Limits

- **Extract particles from the raw data**, never from denoised pictures.
- It has seen no real specimen. Look at what was removed.
{limits}
- Who has halves has a better model in minutes: `deice train HALVES -o RUN --from pretrained`.

{figures}
"""


def main() -> None:
    """Read the run, write model and card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name", choices=tuple(NAMES.values()))
    parser.add_argument("--hardware", default="one NVIDIA H200")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    given = parser.parse_args()
    path = given.folder / f"{given.name}.safetensors"
    write_model(given.run, path)
    write_card(given.run, path, given.hardware)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; {path.with_suffix('.md')}")


def write_model(run: Path, path: Path) -> None:
    """The run's best weights as float16, marked as a packaged model; of pictures, its answers are calibrated."""
    model = load_model(run)
    weights = {name: tensor.to(torch.float16).contiguous() for name, tensor in model.module.state_dict().items()}
    facts = {**model.facts, "pixel_size": None, "packaged": True, "calibrated": model.axes == 2}
    with appearing(path) as temporary:
        save_file(weights, temporary, metadata_of(model.recipe, model.axes, facts))
        if (size := temporary.stat().st_size) > LARGEST:
            raise SystemExit(f"{run}: {size / 1e6:.1f} MB in float16; the package takes {LARGEST / 1e6:.1f} MB")


def write_card(run: Path, path: Path, hardware: str) -> None:
    """What the run's record says; the figures of an older card stay."""
    model, card = load_model(path), path.with_suffix(".md")
    told = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    old = card.read_text() if card.exists() else ""
    least, most = PIXELS[model.axes]
    card.write_text(CARD.format(
        name=path.stem, calibrated=CALIBRATED[model.axes], what={2: "pictures", 3: "volumes"}[model.axes], least=least,
        most=most,
        recipe=to_toml(model.recipe).strip(), parameters=parameters(model.module), hardware=hardware,
        megabytes=path.stat().st_size / 1e6, minutes=told[-1]["seconds"] / 60, steps=told[-1]["step"],
        share=100 * told[-1]["fraction"], best=model.facts["step"], validation=model.facts["validation"],
        seed=model.recipe.training.seed,
        version=__version__, limits=LIMITS[model.axes],
        figures=FIGURES + (old.partition(FIGURES)[2].rstrip() or "\n\nNot measured yet.")))


if __name__ == "__main__":
    main()
