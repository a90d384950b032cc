"""EER: every electron counted once, on the grid asked for, in the frames asked for."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from deice import io
from deice.errors import FileFault, RecipeFault

sys.path.insert(0, str(Path(__file__).parents[1]))
from eer import random_events, write_eer

METADATA = b"<metadata><item name='sensorPixelSize.width' unit='m'>1.5e-10</item></metadata>"


def electrons(events, frames, superres):
    """The truth: events (t, 4 y, 4 x) counted in `frames` groups on the grid of `superres`."""
    group, bin_ = len(events) // frames, 4 >> superres
    _, y, x = events.shape
    kept = events[: group * frames]
    return kept.reshape(frames, group, y // bin_, bin_, x // bin_, bin_).sum((1, 3, 5))


@pytest.fixture
def events():
    events = random_events(7, 40, 48, rate=0.02)
    events[2] = 0  # an empty fraction: the longest run
    return events


@pytest.mark.parametrize("skip_bits", [7, 8])
@pytest.mark.parametrize("superres", [0, 1, 2])
@pytest.mark.parametrize("frames", [None, 1, 3, 7])
def test_electrons_are_counted(tmp_path, events, skip_bits, superres, frames):
    write_eer(tmp_path / "a.eer", events, skip_bits)
    movie = io.read_movie(tmp_path / "a.eer", eer_frames=frames, eer_superres=superres).views
    truth = electrons(events, frames or 7, superres)
    assert movie.shape == truth.shape
    assert np.array_equal(movie[:], truth)
    assert np.array_equal(movie[0, 3:9, ::2], truth[0, 3:9, ::2])


def test_tifffile_counts_the_same(tmp_path, events):
    write_eer(tmp_path / "a.eer", events, metadata=METADATA)
    for superres in (0, 1, 2):
        with tifffile.TiffFile(tmp_path / "a.eer", superres=superres) as tif:
            assert np.array_equal(tif.asarray(), io.read_movie(tmp_path / "a.eer", eer_superres=superres).views[:])


def test_the_remainder_is_dropped(tmp_path, events):
    write_eer(tmp_path / "a.eer", events)
    movie = io.read_movie(tmp_path / "a.eer", eer_frames=3).views
    assert movie[:].sum() == events[:6].sum()


def test_more_than_255_fractions_do_not_overflow(tmp_path):
    events = np.zeros((300, 16, 16), np.uint8)
    events[:, 5, 6] = 1
    write_eer(tmp_path / "a.eer", events)
    assert io.read_movie(tmp_path / "a.eer", eer_frames=1).views[0].max() == 300


def test_the_pixel_follows_the_grid(tmp_path, events):
    write_eer(tmp_path / "a.eer", events, metadata=METADATA)
    for superres, size in ((0, 1.5), (1, 0.75), (2, 0.375)):
        assert io.read_movie(tmp_path / "a.eer", eer_superres=superres).pixel_size == pytest.approx(size)
    assert io.read_movie(tmp_path / "a.eer", pixel_size=0.9).pixel_size == 0.9
    write_eer(tmp_path / "b.eer", events)
    assert io.read_movie(tmp_path / "b.eer").pixel_size is None


def test_an_eer_is_a_movie_not_a_picture(tmp_path, events):
    write_eer(tmp_path / "a.eer", events)
    with pytest.raises(FileFault, match="deice split"):
        io.read(tmp_path / "a.eer")
    assert io.read(tmp_path / "a.eer", axes="tyx").views.shape == (7, 40, 48)


def test_impossible_options(tmp_path, events):
    write_eer(tmp_path / "a.eer", events)
    with pytest.raises(RecipeFault, match="7 fractions"):
        io.read_movie(tmp_path / "a.eer", eer_frames=8)
    with pytest.raises(RecipeFault, match="superres 3"):
        io.read_movie(tmp_path / "a.eer", eer_superres=3)


@pytest.mark.parametrize("lost", [1, 300, 2000])
def test_cut_short(tmp_path, events, lost):
    write_eer(tmp_path / "a.eer", events)
    whole = (tmp_path / "a.eer").read_bytes()
    (tmp_path / "a.eer").write_bytes(whole[:-lost])
    with pytest.raises(FileFault):
        io.read_movie(tmp_path / "a.eer")


def test_a_damaged_fraction_is_named(tmp_path, events):
    write_eer(tmp_path / "a.eer", events)
    content = bytearray((tmp_path / "a.eer").read_bytes())
    content[16:40] = b"\x7f" * 24
    (tmp_path / "a.eer").write_bytes(content)
    with pytest.raises(FileFault, match="fraction 0"):
        io.read_movie(tmp_path / "a.eer").views[0]
