"""Gain references: turned as RELION turns them, on the movie's grid, multiplicative whatever their format."""

import struct

import numpy as np
import pytest
import tifffile

from deice import io
from deice.errors import FileFault, RecipeFault, UserError
from deice.image import Image

GAIN = np.random.default_rng(4).uniform(0.8, 1.2, (6, 9)).astype(np.float32)


def dm4_directory(entries):
    """A DM4 directory of (name, bytes of a value) or (name, list of entries)."""
    body = struct.pack(">BBq", 0, 0, len(entries))
    for name, content in entries:
        kind = 20 if isinstance(content, list) else 21
        packed = dm4_directory(content) if kind == 20 else content
        body += struct.pack(">BH", kind, len(name)) + name.encode() + struct.pack(">q", len(packed)) + packed
    return body


def dm4_number(value):
    return b"%%%%" + struct.pack(">qq", 1, 5) + struct.pack("<I", value)


def dm4_array(pixels, code):
    return b"%%%%" + struct.pack(">qqqq", 3, 20, code, pixels.size) + pixels.tobytes()


def write_dm4(path, pixels):
    """A DM4 with a thumbnail, a string, a structure, and `pixels` (y, x), first row on top."""

    def picture(array, code):
        dimensions = [("", dm4_number(array.shape[1])), ("", dm4_number(array.shape[0]))]
        return [("ImageData", [("Data", dm4_array(array, code)), ("Dimensions", dimensions)])]

    name = "gain".encode("utf-16-le")
    structure = b"%%%%" + struct.pack(">q5q", 5, 15, 0, 1, 0, 5) + struct.pack("<I", 7)
    tree = [
        ("ApplicationBounds", structure),
        ("Title", dm4_array(np.frombuffer(name, "<u2"), 4)),
        ("ImageList", [("", picture(np.zeros((2, 3), "<u2"), 4)), ("", picture(pixels.astype("<f4"), 6))]),
    ]
    root = dm4_directory(tree)
    path.write_bytes(struct.pack(">iqi", 4, len(root), 1) + root + bytes(8))


def test_every_format_gives_the_same_picture(tmp_path):
    io.write(tmp_path / "gain.mrc", GAIN)
    tifffile.imwrite(tmp_path / "gain.tif", GAIN[::-1])  # TIFF and DM4 store the highest row first
    write_dm4(tmp_path / "gain.dm4", GAIN[::-1])
    for name in ("gain.mrc", "gain.tif", "gain.dm4"):
        found = io.read_gain(tmp_path / name, (40, 6, 9))
        assert found.dtype == np.float32
        assert np.array_equal(found, GAIN), name


@pytest.mark.parametrize("rotation", range(4))
@pytest.mark.parametrize("flip", range(3))
def test_first_rotated_clockwise_then_flipped(tmp_path, rotation, flip):
    io.write(tmp_path / "gain.mrc", GAIN)
    found = io.read_gain(tmp_path / "gain.mrc", None, rotation, flip)
    rows, columns = GAIN.shape
    for y, x in ((0, 0), (1, 7), (5, 2)):
        height, width = rows, columns
        for _ in range(rotation):  # a quarter turn clockwise takes the top row to the right column
            y, x, height, width = x, height - 1 - y, width, height
        y, x = {0: (y, x), 1: (height - 1 - y, x), 2: (y, width - 1 - x)}[flip]
        assert found.shape == (height, width)
        assert found[y, x] in GAIN
    corner = {0: GAIN, 1: GAIN[::-1].T, 2: GAIN[::-1, ::-1], 3: GAIN.T[::-1]}[rotation]
    assert np.array_equal(found, {0: corner, 1: corner[::-1], 2: corner[:, ::-1]}[flip])


def test_the_order_matters_and_is_relions(tmp_path):
    io.write(tmp_path / "gain.mrc", GAIN)
    found = io.read_gain(tmp_path / "gain.mrc", None, 1, 1)
    assert np.array_equal(found, GAIN[::-1].T[::-1])
    assert not np.array_equal(found, GAIN[::-1][::-1].T)  # flipped first


def test_an_eer_gain_is_a_mean_picture(tmp_path):
    mean = np.random.default_rng(5).uniform(80, 120, (8, 8)).astype(np.float32)
    mean[2, 3] = 0
    tifffile.imwrite(tmp_path / "a.gain", mean)
    found = io.read_gain(tmp_path / "a.gain", (10, 8, 8))
    expected = np.where(mean == 0, 0, mean.mean(dtype=np.float64) / np.where(mean == 0, 1, mean))
    assert found == pytest.approx(expected, rel=1e-6)  # not flipped: EER frames are not
    assert found[2, 3] == 0


def test_an_eer_gain_follows_the_movies_grid(tmp_path):
    mean = np.random.default_rng(5).uniform(80, 120, (8, 8)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.gain", mean)
    fine = io.read_gain(tmp_path / "a.gain", (10, 16, 16))
    assert fine == pytest.approx((mean.mean() / mean).repeat(2, 0).repeat(2, 1), rel=1e-6)
    coarse = io.read_gain(tmp_path / "a.gain", (10, 4, 4))
    binned = mean.reshape(4, 2, 4, 2).mean((1, 3))
    assert coarse == pytest.approx(mean.mean() / binned, rel=1e-6)


def test_what_is_not_finite_is_dead(tmp_path, caplog):
    gain = GAIN.copy()
    gain[0, 0], gain[1, 1], gain[2, 2] = np.nan, np.inf, -1
    io.write(tmp_path / "gain.mrc", gain)
    found = io.read_gain(tmp_path / "gain.mrc")
    assert [found[n, n] for n in range(4)] == [0, 0, 0, GAIN[3, 3]]
    assert "3 pixels" in caplog.text


def test_another_shape_names_both_and_the_rotation_that_fits(tmp_path):
    io.write(tmp_path / "gain.mrc", GAIN)
    movie = Image(np.zeros((4, 9, 6), np.float32))
    with pytest.raises(UserError, match=r"9 x 6 pixels, but the movie has 6 x 9; --gain-rot 1 or 3 would fit"):
        io.read_gain(tmp_path / "gain.mrc", movie)
    assert io.read_gain(tmp_path / "gain.mrc", movie, rotation=1).shape == (9, 6)
    with pytest.raises(UserError, match="--gain-rot 2 or 0 would fit"):
        io.read_gain(tmp_path / "gain.mrc", (4, 6, 9), rotation=1)
    with pytest.raises(UserError, match="no rotation fits"):
        io.read_gain(tmp_path / "gain.mrc", (4, 12, 18))


def test_what_is_no_gain(tmp_path):
    io.write(tmp_path / "zero.mrc", np.zeros((4, 4)))
    io.write(tmp_path / "stack.mrc", np.ones((3, 4, 4)))
    tifffile.imwrite(tmp_path / "zero.gain", np.zeros((4, 4), np.float32))
    for name, words in (("zero.mrc", "positive"), ("stack.mrc", "3 sections"), ("zero.gain", "zeros")):
        with pytest.raises(FileFault, match=words):
            io.read_gain(tmp_path / name)
    io.write(tmp_path / "gain.mrc", GAIN)
    with pytest.raises(RecipeFault, match="gain-rot 4"):
        io.read_gain(tmp_path / "gain.mrc", None, 4)
    with pytest.raises(RecipeFault, match="gain-flip 3"):
        io.read_gain(tmp_path / "gain.mrc", None, 0, 3)


@pytest.mark.parametrize("kept", [12, 60, 300, -40])
def test_a_dm4_cut_short(tmp_path, kept):
    write_dm4(tmp_path / "gain.dm4", GAIN)
    (tmp_path / "gain.dm4").write_bytes((tmp_path / "gain.dm4").read_bytes()[:kept])
    with pytest.raises(FileFault, match="DM4"):
        io.read_gain(tmp_path / "gain.dm4")


def test_a_dm4_without_a_picture(tmp_path):
    root = dm4_directory([("Title", dm4_number(3))])
    (tmp_path / "gain.dm4").write_bytes(struct.pack(">iqi", 4, len(root), 1) + root)
    with pytest.raises(FileFault, match="without a picture"):
        io.read_gain(tmp_path / "gain.dm4")
