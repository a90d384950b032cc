"""The contact sheet shows the windows that training would cut, as training would normalise them."""

import io
import re

import numpy as np
import pytest
from matplotlib.image import imread

import deice
from deice.errors import RecipeFault
from deice.report.patches import contact_sheet, sheet_of
from deice.settings import Data


def noisy(space, seed, level=50.0, spread=7.0):
    return np.random.default_rng(seed).normal(level, spread, space).astype(np.float32)


def found_in(window, image):
    """Where `window` lies in `image` (y, x), or None; values equal but for the rounding of their normalisation."""
    every = np.lib.stride_tricks.sliding_window_view(image, window.shape)
    near = np.isclose(every, window, atol=1e-4).all((-1, -2))
    return tuple(np.argwhere(near)[0].tolist()) if near.any() else None


def test_input_and_target_are_the_same_place_of_both_halves_each_normalised_by_itself():
    halves = np.stack([noisy((40, 48), 0), noisy((40, 48), 1, level=-3.0, spread=0.5)])
    sheet = sheet_of([halves], Data(window=(16,)))
    assert len(sheet.patches) == 6
    for patch in sheet.patches:
        places = [
            found_in(patch.views[name], (half - half.mean(dtype=float)) / half.std(dtype=float))
            for name, half in zip(("input", "target"), halves)
        ]
        assert places[0] is not None
        assert places[0] == places[1]
        assert f"from y {places[0][0]} x {places[0][1]}" in patch.title
    assert "16×16 pixels, unknown pixel size · normaliser standard" in sheet.note


def test_a_single_image_is_a_window_alone():
    sheet = sheet_of([noisy((1, 40, 48), 0)], Data(window=(16,)))
    assert [list(patch.views) for patch in sheet.patches] == [["window"]] * 6


def test_frames_give_one_and_the_mean_of_the_others():
    frames = np.stack([noisy((48, 32), seed) for seed in range(5)])
    (views,) = {tuple(patch.views) for patch in sheet_of([frames], Data(window=(16,))).patches}
    assert views == ("input", "target: mean of 4 views")


def test_a_volume_is_shown_by_its_central_planes_and_a_picture_is_wider_for_it():
    volume = sheet_of([np.stack([noisy((48, 20, 20), seed) for seed in (0, 1)])], Data(window=(16,)))
    assert [patch.views["input"].shape for patch in volume.patches] == [(16, 16, 16)] * 4
    picture = sheet_of([np.stack([noisy((48, 32), seed) for seed in (0, 1)])], Data(window=(16,)))
    shapes = [imread(io.BytesIO(contact_sheet(sheet))).shape for sheet in (volume, picture)]
    assert shapes[0][1] > 1.5 * shapes[1][1]


def test_the_sheet_is_the_same_every_time_and_says_what_correlates():
    scene = noisy((48, 32), 0)
    sheets = [sheet_of([np.stack([scene, scene])], Data(window=(16,))) for _ in range(2)]
    assert contact_sheet(sheets[0]) == contact_sheet(sheets[1])
    assert all("correlate at 1.000 (chance: ± 0.062)" in patch.title for patch in sheets[0].patches)
    apart = sheet_of([np.stack([scene, noisy((48, 32), 1)])], Data(window=(16,)))
    assert all(re.search(r"correlate at -?0\.[012]", patch.title) for patch in apart.patches)


@pytest.mark.parametrize("normaliser", ["clipped", "percentile", "none"])
def test_other_normalisers(normaliser):
    sheet = sheet_of([np.stack([noisy((48, 32), seed) for seed in (0, 1)])], Data(window=(16,), normaliser=normaliser))
    assert f"normaliser {normaliser}" in sheet.note
    low, high = {"clipped": (-4, 4), "percentile": (0, 1), "none": (20, 80)}[normaliser]
    assert all(low <= view.min() <= view.max() <= high for patch in sheet.patches for view in patch.views.values())
    assert contact_sheet(sheet)


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(RecipeFault, match="do not fit"):
        sheet_of([noisy((1, 8, 8), 0)], Data())


def test_a_target_is_normalised_as_its_input(tmp_path):
    image, target = noisy((40, 48), 0), noisy((40, 48), 1, level=80.0)
    deice.write(tmp_path / "noisy" / "a.mrc", image)
    deice.write(tmp_path / "clean" / "a.mrc", target)
    sheet = sheet_of([str(tmp_path / "noisy")], Data(window=(16,), target=str(tmp_path / "clean")))
    normalised = (target - image.mean(dtype=float)) / image.std(dtype=float)
    assert all(found_in(patch.views["target"], normalised) is not None for patch in sheet.patches)
