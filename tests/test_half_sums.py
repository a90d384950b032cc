"""Sums of frames: exact for integers, in order for other numbers, with room for every count."""

import os

import numpy as np
import pytest

from deice.errors import FileFault
from deice.io.stored import Frames
from deice.movies.sums import half_sums


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">i2", "<u2", "<i4", "<f2", "<f4", ">f4", "<f8"])
def test_each_half_is_the_sum_of_its_frames(dtype):
    frames = np.random.default_rng(0).integers(0 if "u" in dtype else -90, 90, (11, 9, 13)).astype(dtype)
    even, odd = half_sums(frames, None)
    assert even.dtype == np.float32
    np.testing.assert_array_equal(even, frames[0::2].astype(np.float64).sum(0))
    np.testing.assert_array_equal(odd, frames[1::2].astype(np.float64).sum(0))


@pytest.mark.parametrize(("dtype", "value"), [(np.int8, -128), (np.uint8, 255), (np.int16, -32768), (np.uint16, 65535)])
def test_no_number_of_frames_overflows(dtype, value):
    """So many fractions that an integer of twice the bytes could not hold their sum."""
    frames = Frames((700, 3, 5), np.dtype(dtype), lambda number: np.full((3, 5), value, dtype))
    for half in half_sums(frames, None):
        np.testing.assert_allclose(half, 350.0 * value, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_the_gain_multiplies_every_frame(dtype):
    rng = np.random.default_rng(1)
    frames, gain = rng.poisson(3, (8, 20, 30)).astype(dtype), rng.normal(1, 0.1, (20, 30)).astype(np.float32)
    even, odd = half_sums(frames, gain)
    np.testing.assert_allclose(even, (frames[0::2] * gain.astype(np.float64)).sum(0), rtol=1e-6)
    np.testing.assert_allclose(odd, (frames[1::2] * gain.astype(np.float64)).sum(0), rtol=1e-6)


def test_float_frames_are_added_in_their_order():
    frames = np.random.default_rng(2).normal(1000, 300, (30, 40, 50)).astype(np.float32)
    even = np.zeros((40, 50), np.float32)
    for frame in frames[0::2]:
        even += frame
    np.testing.assert_array_equal(half_sums(frames, None)[0], even)


def test_mapped_frames_are_summed_whatever_lies_before_them(tmp_path):
    frames = np.random.default_rng(3).integers(0, 9, (12, 70, 90), dtype=np.uint8)
    (tmp_path / "movie").write_bytes(b"x" * 5000 + frames.tobytes())
    mapped = np.memmap(tmp_path / "movie", np.uint8, "r")[5000:].reshape(frames.shape)[:, ::-1]
    np.testing.assert_array_equal(half_sums(mapped, None)[1], frames[1::2, ::-1].sum(0))


@pytest.mark.parametrize("dtype", ["i1", ">i2", "<f4"])
def test_frames_of_a_file_are_read_from_where_they_lie(tmp_path, dtype):
    frames = np.random.default_rng(4).integers(0, 9, (9, 600, 700)).astype(dtype)
    (tmp_path / "movie").write_bytes(b"x" * 1024 + frames.tobytes())
    mapped = np.memmap(tmp_path / "movie", np.uint8, "r")[1024:].view(dtype).reshape(frames.shape)
    for first, half in enumerate(half_sums(mapped, None)):
        np.testing.assert_array_equal(half, frames[first::2].astype(np.float64).sum(0))


def test_a_file_that_became_shorter_is_named(tmp_path):
    path = tmp_path / "movie"
    path.write_bytes(bytes(6 * 64 * 64))
    mapped = np.memmap(path, np.uint8, "r", shape=(6, 64, 64))
    os.truncate(path, 4 * 64 * 64)
    with pytest.raises(FileFault, match="movie: ends within frame"):
        half_sums(mapped, None)


def test_a_map_that_was_changed_in_memory_gives_what_is_there(tmp_path):
    np.zeros((4, 6, 8), np.int16).tofile(tmp_path / "frames.raw")
    frames = np.memmap(tmp_path / "frames.raw", np.int16, "c", shape=(4, 6, 8))
    frames += 10
    even, odd = half_sums(frames, None)
    assert (even == 20).all()
    assert (odd == 20).all()


def test_frames_that_a_file_holds_upside_down(tmp_path):
    """As TIFF does: a view of a map that is not in one piece."""
    stored = np.random.default_rng(4).integers(0, 200, (5, 30, 40)).astype(np.uint8)
    stored.tofile(tmp_path / "frames.raw")
    frames = np.memmap(tmp_path / "frames.raw", np.uint8, "r", shape=(5, 30, 40))[:, ::-1]
    even, odd = half_sums(frames, None)
    np.testing.assert_array_equal(even, stored[0::2, ::-1].sum(0))
    np.testing.assert_array_equal(odd, stored[1::2, ::-1].sum(0))
