"""Statistics in float64, whatever the grey values; what is not finite is replaced by a neighbour."""

import numpy as np
import pytest
import torch

from deice.ops.normalise import NORMALISERS, finite_statistics, replace_not_finite, standard, statistics


def test_statistics_of_a_large_mean_are_exact():
    image = (6802 + 8.9 * np.random.default_rng(0).normal(size=(300, 4000))).astype(np.float32)
    found = statistics(image)
    assert found.mean == pytest.approx(image.mean(dtype=np.float64), rel=1e-12)
    assert found.sd == pytest.approx(image.std(dtype=np.float64), rel=1e-9)


def test_statistics_leave_out_what_is_not_finite_and_count_it():
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    image[1, 1], image[2, 3] = np.nan, np.inf
    found = statistics(image)
    assert (found.count, found.not_finite) == (10, 2)
    assert found.mean == pytest.approx(np.mean(image[np.isfinite(image)]))


@pytest.mark.parametrize("shape", [(2100, 2050), (7, 5), (1, 1), (3, 40, 50)])
def test_statistics_of_a_tensor_are_those_of_the_array(shape):
    image = (6802 + 8.9 * np.random.default_rng(0).normal(size=shape)).astype(np.float32)
    found, expected = finite_statistics(torch.from_numpy(image)), statistics(image)
    assert (found.count, found.not_finite) == (expected.count, 0)
    assert found.mean == pytest.approx(expected.mean, rel=1e-12)
    assert found.sd == pytest.approx(expected.sd, rel=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_statistics_of_a_tensor_that_is_not_all_finite_say_so(bad):
    image = torch.ones(30, 40)
    image[3, 4] = bad
    assert finite_statistics(image).count == 0


@pytest.mark.parametrize("constant", [0.0, 5.0, 1e6])
def test_a_constant_image_does_not_vary(constant):
    assert not statistics(np.full((20, 30), constant, np.float32)).varies


def test_a_sample_of_a_large_image_measures_nearly_the_same():
    image = np.random.default_rng(1).normal(10, 3, size=(4096, 2048)).astype(np.float32)
    found = statistics(image, limit=1 << 21)
    assert found.count < image.size / 2
    assert found.mean == pytest.approx(10, abs=0.02)
    assert found.sd == pytest.approx(3, abs=0.02)


def test_standard_undoes_itself_and_is_equivariant():
    image = np.random.default_rng(2).gamma(2, 3, size=(64, 64)).astype(np.float32)
    affine = standard(image)
    assert np.allclose(affine.undo(affine.apply(image)), image, atol=1e-4)
    assert np.allclose(affine.apply(image), standard(3 * image + 7).apply(3 * image + 7), atol=1e-4)


def test_percentile_is_the_source_documents_convention():
    image = np.random.default_rng(3).normal(1, 1, size=(128, 128)).astype(np.float32)
    normalised = NORMALISERS["percentile"](image).apply(image)
    expected = np.clip(image / np.percentile(image[image > 0], 95), 0, 1)
    assert np.allclose(normalised, expected, atol=1e-5)


def test_not_finite_values_take_a_neighbours_value_and_the_input_is_untouched():
    image = np.random.default_rng(4).normal(size=(40, 40)).astype(np.float32)
    image[5, 5] = image[5, 6] = np.nan
    image[0, 0] = -np.inf
    before = image.copy()
    mended = replace_not_finite(image, fill=0.0)
    assert np.array_equal(image, before, equal_nan=True)
    assert np.isfinite(mended).all()
    assert mended[5, 5] in image[4:7, 4:8]
    assert np.array_equal(mended[10:], image[10:])


def test_where_no_neighbour_is_finite_the_fill_is_taken():
    assert (replace_not_finite(np.full((3, 3), np.nan), fill=2.5) == 2.5).all()
