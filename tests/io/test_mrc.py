"""MRC as the field's programs write it: every mode, both byte orders, lazily; and a clear word for what is broken."""

import bz2
import gzip
import struct
import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from deice import io
from deice.errors import FileFault, RecipeFault

RANDOM = np.random.default_rng(3)
IMOD_STAMP, IMOD_SIGNED, IMOD_NIBBLES = 1146047817, 1, 16


def write_mrc(path, pixels, ispg=1, mz=None, voxel=2.0, mode=None):
    """`pixels` by mrcfile, with the header's ISPG and mz as asked."""
    with mrcfile.new(path, pixels, overwrite=True) as file:
        file.header.ispg = ispg
        file.header.mz = pixels.shape[0] if mz is None and pixels.ndim == 3 else mz or 1
        file.header.cella.x, file.header.cella.y = voxel * pixels.shape[-1], voxel * pixels.shape[-2]
        file.header.cella.z = voxel * file.header.mz
        if mode is not None:
            file.header.mode = mode


def patch(path, offset, layout, *values):
    """Overwrite bytes of the file at `offset`."""
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, offset, *values)
    path.write_bytes(content)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32, np.uint16, np.float16])
def test_each_mode_in_both_byte_orders(tmp_path, dtype):
    pixels = RANDOM.integers(-90, 90, (7, 9)).astype(dtype)
    write_mrc(tmp_path / "little.mrc", pixels)
    write_mrc(tmp_path / "big.mrc", pixels.astype(np.dtype(dtype).newbyteorder(">")))
    assert pixels.itemsize == 1 or (tmp_path / "big.mrc").read_bytes()[:4] == b"\0\0\0\x09"
    for name in ("little", "big"):
        image = io.read(tmp_path / f"{name}.mrc")
        assert image.views.shape == (1, 7, 9)
        assert np.array_equal(np.asarray(image), pixels)
        assert image.pixel_size == pytest.approx(2.0)


def test_a_wrong_machine_stamp_is_seen_through(tmp_path):
    pixels = RANDOM.normal(size=(7, 9)).astype(">f4")
    write_mrc(tmp_path / "a.mrc", pixels)
    patch(tmp_path / "a.mrc", 212, "4B", 0x44, 0x44, 0, 0)
    assert np.array_equal(np.asarray(io.read(tmp_path / "a.mrc")), pixels)


@pytest.mark.parametrize(("flags", "unsigned"), [(0, True), (2, True), (IMOD_SIGNED, False), (None, False)])
def test_imod_bytes_are_unsigned_where_its_flag_is_clear(tmp_path, flags, unsigned):
    stored = np.arange(-128, 128).astype(np.int8).reshape(8, 32)
    write_mrc(tmp_path / "a.mrc", stored)
    if flags is not None:
        patch(tmp_path / "a.mrc", 152, "<ii", IMOD_STAMP, flags)
    found = np.asarray(io.read(tmp_path / "a.mrc"))
    assert np.array_equal(found, stored.view(np.uint8) if unsigned else stored)


@pytest.mark.parametrize("width", [8, 9])
def test_four_bits_low_half_first_rows_padded(tmp_path, width):
    values = RANDOM.integers(0, 16, (3, 5, width)).astype(np.uint8)
    padded = np.pad(values, ((0, 0), (0, 0), (0, width % 2)))
    packed = padded[..., 0::2] | padded[..., 1::2] << 4
    write_mrc(tmp_path / "a.mrc", packed.view(np.int8), ispg=0, mz=1, mode=101)
    patch(tmp_path / "a.mrc", 0, "<i", width)
    movie = io.read_movie(tmp_path / "a.mrc").views
    assert movie.shape == values.shape
    assert np.array_equal(movie[:], values)
    assert np.array_equal(movie[2, 1:3, 4], values[2, 1:3, 4])


def test_imod_packs_four_bits_in_mode_0_at_half_the_width(tmp_path):
    packed = RANDOM.integers(0, 256, (5, 8)).astype(np.uint8)
    write_mrc(tmp_path / "a.mrc", packed.view(np.int8), ispg=0)
    patch(tmp_path / "a.mrc", 152, "<ii", IMOD_STAMP, IMOD_NIBBLES)
    found = np.asarray(io.read(tmp_path / "a.mrc"))
    assert found.shape == (5, 16)
    assert np.array_equal(found[:, 0::2], packed & 15)
    assert np.array_equal(found[:, 1::2], packed >> 4)


@pytest.mark.parametrize(
    ("ispg", "mz", "says"),
    [(1, 6, "zyx"), (401, 6, "zyx"), (4, 72, "zyx"), (0, 1, "tyx"), (0, 6, ""), (1, 1, ""), (0, 3, ""), (401, 3, "")],
)
def test_volume_or_movie_is_read_from_the_header_never_guessed(tmp_path, ispg, mz, says):
    pixels = RANDOM.normal(size=(6, 5, 4)).astype(np.float32)
    write_mrc(tmp_path / "a.mrc", pixels, ispg=ispg, mz=mz)
    if says == "zyx":
        assert io.read(tmp_path / "a.mrc").views.shape == (1, 6, 5, 4)
    else:
        words = "deice split" if says == "tyx" else r"does not say.*--axes zyx.*--axes tyx"
        with pytest.raises(FileFault, match=words):
            io.read(tmp_path / "a.mrc")
    assert io.read(tmp_path / "a.mrc", axes="zyx").views.shape == (1, 6, 5, 4)
    assert io.read(tmp_path / "a.mrc", axes="tyx").views.shape == (6, 5, 4)
    assert np.array_equal(io.read_movie(tmp_path / "a.mrc").views[2:4], pixels[2:4])


def test_one_section_is_a_picture(tmp_path):
    for ispg in (0, 1):
        write_mrc(tmp_path / "a.mrc", np.zeros((1, 5, 4), np.float32), ispg=ispg)
        for axes in (None, "zyx", "tyx"):
            assert io.read(tmp_path / "a.mrc", axes).views.shape == (1, 5, 4)


def test_unknown_axes(tmp_path):
    with pytest.raises(RecipeFault, match="zyx"):
        io.read(tmp_path / "a.mrc", axes="xyz")


def test_anisotropic_voxels_origin_and_extended_header(tmp_path):
    pixels = RANDOM.normal(size=(3, 5, 4)).astype(np.float32)
    with mrcfile.new(tmp_path / "a.mrc", pixels) as file:
        file.voxel_size = (1.5, 2.5, 3.5)
        file.header.origin = (7.0, 8.0, -9.0)
        file.nstart = (1, 2, -3)
        file.set_extended_header(np.zeros(333, "V1"))
        file.add_label("first")
    image = io.read(tmp_path / "a.mrc", axes="zyx")
    assert np.array_equal(np.asarray(image), pixels)
    assert image.geometry.voxel_size == pytest.approx((1.5, 2.5, 3.5))
    assert (image.geometry.origin, image.geometry.nstart) == ((7.0, 8.0, -9.0), (1, 2, -3))
    assert image.geometry.labels[-1].startswith("first")


@pytest.mark.parametrize("voxel", [0.0, 1.0, np.nan, -2.0])
def test_a_voxel_that_programs_write_when_they_do_not_know(tmp_path, voxel):
    write_mrc(tmp_path / "a.mrc", np.zeros((5, 4), np.float32), voxel=voxel)
    assert io.read(tmp_path / "a.mrc").pixel_size is None


def test_packed_files(tmp_path):
    pixels = RANDOM.normal(size=(5, 4)).astype(np.float32)
    write_mrc(tmp_path / "a.mrc", pixels)
    plain = (tmp_path / "a.mrc").read_bytes()
    (tmp_path / "a.mrc.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "a.mrc.bz2").write_bytes(bz2.compress(plain))
    for name in ("a.mrc.gz", "a.mrc.bz2"):
        assert np.array_equal(np.asarray(io.read(tmp_path / name)), pixels)
    (tmp_path / "cut.mrc.gz").write_bytes(gzip.compress(plain)[:-20])
    with pytest.raises(FileFault, match="compressed"):
        io.read(tmp_path / "cut.mrc.gz")


def test_real_files(data):
    formats = data / "formats"
    plain = np.asarray(io.read(formats / "EMD-3197.map"))
    for name in ("EMD-3197.map.bz2", "emd_3197.map.gz"):
        assert np.array_equal(np.asarray(io.read(formats / name)), plain)
    for path in [formats / "float16.mrc", formats / "EMD-3001.map", *sorted((data / "micrographs").iterdir())]:
        with mrcfile.open(path, permissive=True) as reference:
            assert np.array_equal(np.asarray(io.read(path)), reference.data)
    assert io.read(formats / "EMD-3001.map").geometry.map_order == (3, 1, 2)
    assert io.read(data / "micrographs" / "ucsf_1142_dw.mrc").pixel_size is None


def test_opening_a_great_movie_costs_kilobytes(tmp_path):
    path = tmp_path / "movie.mrc"
    write_mrc(path, np.zeros((1, 8, 8), np.float32), ispg=0, mz=1)
    patch(path, 0, "<3i", 7676, 7420, 38)
    with path.open("r+b") as file:
        file.truncate(1024 + 38 * 7420 * 7676 * 4)  # a file of holes
    io.read_movie(path)
    before = resident_kilobytes()
    movie = io.read_movie(path)
    assert movie.views.shape == (38, 7420, 7676)
    assert movie.views[20, 100:110, 100:110].sum() == 0
    assert resident_kilobytes() - before < 1000  # one frame has 222,000


def resident_kilobytes():
    """Memory this process holds now, mapped pages included."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def broken(path, how):
    write_mrc(path, np.zeros((6, 5, 4), np.float32))
    whole = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "header cut":
        path.write_bytes(whole[:600])
    elif how == "data cut":
        path.write_bytes(whole[:-1])
    elif how == "png":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(2000))
    elif how == "text":
        path.write_bytes(b"hello, microscope\n" * 200)
    elif how == "complex":
        patch(path, 12, "<i", 4)
    elif how == "complex integers":
        patch(path, 12, "<i", 3)
    elif how == "unknown mode":
        patch(path, 12, "<i", 77)
    elif how == "negative":
        patch(path, 4, "<i", -5)
    elif how == "zero":
        patch(path, 8, "<i", 0)
    elif how == "larger than the file":
        patch(path, 0, "<3i", 2**31 - 1, 2**31 - 1, 2**31 - 1)
    elif how == "extended header beyond the end":
        patch(path, 92, "<i", 10**6)
    elif how == "negative extended header":
        patch(path, 92, "<i", -64)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("empty", "empty"),
        ("header cut", "cut short: 600 bytes"),
        ("data cut", "cut short"),
        ("png", "PNG"),
        ("text", "neither MRC"),
        ("complex", "mode 4, complex"),
        ("complex integers", "mode 3, complex"),
        ("unknown mode", "mode 77"),
        ("negative", "-5"),
        ("zero", "4 x 5 x 0"),
        ("larger than the file", "2147483647"),
        ("extended header beyond the end", "cut short"),
        ("negative extended header", "-64"),
    ],
)
def test_what_is_broken_is_one_clear_line(tmp_path, how, words):
    broken(tmp_path / "a.mrc", how)
    with pytest.raises(FileFault, match=words) as fault:
        io.read(tmp_path / "a.mrc")
    assert "\n" not in str(fault.value)
    assert "a.mrc" in str(fault.value)


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(FileFault, match="no such file"):
        io.read(tmp_path / "none.mrc")
    with pytest.raises(FileFault, match="folder"):
        io.read(tmp_path)


def test_a_training_set_is_open_at_once(tmp_path):
    write_mrc(tmp_path / "a.mrc", np.ones((5, 4), np.float32))
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 2000)); from deice import io;"
        "images = [io.read(sys.argv[1]) for _ in range(300)]; assert images[0].views[0, 0, 0] == 1"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.mrc")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
