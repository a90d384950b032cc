"""The scripts of docs/benchmarks on single tomograms: what they measure, at toy size."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from deice import read
from deice.bench.suite import Extent
from deice.checkpoint import Model
from deice.nets import UNet
from deice.peers import PeerAnswer
from deice.recipe import Recipe, from_table

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def script(name: str) -> ModuleType:
    """A script of docs/benchmarks as a module."""
    return importlib.import_module(name)


def microtubule(strength: float, noise: float) -> torch.Tensor:
    """(z, y, x): a tube along a slanted line, whose wall repeats every 4 voxels along it with `strength`."""
    z, y, x = torch.meshgrid(*(torch.arange(size).float() for size in (32, 96, 64)), indexing="ij")
    length = (1 + 0.2**2) ** 0.5
    across = ((z - 16) ** 2 + ((x - 20 - 0.2 * y) / length) ** 2).sqrt()
    along = (y + 0.2 * (x - 20)) / length
    wall = torch.exp(-(((across - 9) / 2) ** 2))
    repeated = wall * (1 + strength * torch.cos(2 * torch.pi * along / 4))
    return repeated + noise * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_layer_line_is_found_along_the_microtubule(noise: float) -> None:
    lines = script("layer_lines")
    axis = lines.find_axis(microtubule(0.5, noise))
    assert (axis.slope_z, axis.slope_x) == (pytest.approx(0, abs=0.06), pytest.approx(0.2, abs=0.021))
    assert (axis.z, axis.x) == (pytest.approx(16, abs=3), pytest.approx(20, abs=3))
    assert axis.line == pytest.approx(0.25, abs=0.011)
    with_line, without = (lines.line_over_beside(*lines.axial_power(microtubule(strength, 1.0), axis), axis.line)
                          for strength in (0.5, 0.0))
    assert with_line > 3
    assert without == pytest.approx(1, abs=0.5)


def test_the_real_microtubules_have_their_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = script("layer_lines")
    lines.main([str(data / "tomograms"), "-o", str(tmp_path), "--methods", ""])
    found = json.loads((tmp_path / "layer_lines.json").read_text())
    assert found["methods"]["raw"]["ratio"] > 3
    assert all(38.5 < lines.PIXEL / line < 42.5 for line in found["lines"].values())
    assert "| gaussian |" in capsys.readouterr().out
    assert (tmp_path / "layer_lines.png").stat().st_size > 0


def test_a_folder_without_them_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="expected the folder of the two microtubules"):
        script("layer_lines").main([str(tmp_path), "-o", str(tmp_path / "out")])


def test_one_tomogram_is_timed_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text('[data]\naxes = "zyx"\nwindow = [16]\n[net]\nname = "unet"\nsize = 4\ndepth = 1\n')
    script("one_tomogram").main(["-o", str(tmp_path / "out"), "--size", "32", "48", "48", "--minutes", "0.03",
                                 "--recipe", str(recipe), "--device", "cpu"])
    found = json.loads((tmp_path / "out" / "denoised.json").read_text())
    assert found["quality"].keys() == {"raw", "denoised"}
    assert 0.1 < found["ram_gb"] < 4
    assert found["validations"]
    assert (tmp_path / "out" / "denoised.md").read_text() in capsys.readouterr().out
    assert "32×48×48, recorrupted" in (tmp_path / "out" / "denoised.md").read_text()


def test_a_large_one_is_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = script("one_tomogram")
    monkeypatch.setattr(one, "PIECE", (16, 24, 24))
    monkeypatch.setattr(one, "DISTINCT", 1)
    one.draw(tmp_path, (16, 48, 24), 0)
    volume = read(tmp_path / "lone.mrc", "zyx").views[0]
    assert volume.shape == (16, 48, 24)
    assert np.array_equal(volume[:, :24], volume[:, 24:])
    with pytest.raises(SystemExit, match="expected multiples"):
        one.draw(tmp_path, (16, 50, 24), 0)


def test_the_packaged_model_of_volumes_stands_beside_filters_and_topaz(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = script("pretrained_volumes")
    net, recipe = UNet(size=2, depth=1), from_table({})
    model = Model(net.build(3).eval(), 3, None, Recipe(recipe.data, recipe.scheme, net), {})
    asked = []

    def in_its_place(python: Path, name: str, images: list[np.ndarray], **how: bool) -> Iterator[PeerAnswer]:
        asked.append((name, how["whole"]))
        return (PeerAnswer(image / 2, 0.1, 1) for image in images)

    monkeypatch.setattr(page, "denoise_by_topaz", in_its_place)
    extent = Extent(train=0, test=2, size=48, levels=(0.1,))
    page.volumes(2, extent, model, Path("python"), whole=False, device="cpu")
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 4 + 4 + 2
    assert asked == [(f"unet-3d-{n}a", whole) for n in (10, 20) for whole in (False, True)]
    figures = {row[0].strip("| *"): row[1:4] for row in rows}
    assert figures["noisy"] == figures["Topaz unet-3d-10a"]  # half of it, which scale takes back
    assert float(figures["best Gaussian (knows the truth)"][1].split()[0]) > float(figures["noisy"][1].split()[0])
    assert all("±" in cell for row in figures.values() for cell in row)
