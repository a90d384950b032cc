"""Planes, crops and PNGs."""

import io

import numpy as np
import pytest
from PIL import Image as Pillow

from deice.report import pictures


@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (64, 33)])
@pytest.mark.parametrize("kind", ["noise", "ramp"])
def test_a_png_decodes_to_the_same_pixels(shape, kind):
    count = shape[0] * shape[1]
    values = np.arange(count) // shape[1] if kind == "ramp" else np.random.default_rng(0).integers(0, 256, count)
    grey = values.astype(np.uint8).reshape(shape)
    decoded = Pillow.open(io.BytesIO(pictures.png(grey)))
    assert decoded.mode == "L"
    np.testing.assert_array_equal(np.asarray(decoded), grey)


def test_a_volume_is_shown_by_three_planes_through_its_middle():
    volume = np.random.default_rng(0).random((4, 6, 8))
    planes = {name: volume[where] for name, where in pictures.central_planes(volume.shape).items()}
    assert list(planes) == ["z = 2", "y = 3", "x = 4"]
    np.testing.assert_array_equal(planes["z = 2"], volume[2])
    np.testing.assert_array_equal(planes["x = 4"], volume[:, :, 4])
    assert list(pictures.central_planes((5, 7))) == [""]


def test_crops_keep_pixels_and_bins_keep_means():
    plane = np.random.default_rng(0).random((600, 300))
    np.testing.assert_array_equal(pictures.central_crop(plane, 200), plane[200:400, 50:250])
    np.testing.assert_array_equal(pictures.central_crop(plane, 999), plane)
    small = pictures.binned(plane, 100)
    assert small.shape == (100, 50)
    assert small.mean() == pytest.approx(plane.mean())
    assert pictures.binned(np.ones((2, 600)), 100).shape == (1, 100)


def test_a_few_outliers_do_not_take_the_contrast():
    plane = np.random.default_rng(0).random((100, 100))
    plane[0, :5] = 1e6
    assert pictures.stretched(plane).std() > 50
    assert (pictures.stretched(np.ones((4, 4))) == 128).all()
