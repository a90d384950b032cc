"""TIFF: flipped as its MRC twin, sizes in Å, sliced page by page, packed or not."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile

from deice import io
from deice.errors import FileFault

STACK = np.random.default_rng(2).integers(0, 50, (5, 37, 53)).astype(np.uint16)
LAYOUTS = {
    "plain": {},
    "big": {"bigtiff": True, "rowsperstrip": 7},
    "lzw": {"compression": "lzw", "rowsperstrip": 7},
    "deflate": {"compression": "zlib", "predictor": True},
    "zstd": {"compression": "zstd", "bigtiff": True},
    "tiles": {"tile": (16, 32), "compression": "zlib"},
    "motorola": {"byteorder": ">"},
    "motorola lzw": {"byteorder": ">", "compression": "lzw"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tiff_reads_as_its_mrc_twin(tmp_path, layout):
    tifffile.imwrite(tmp_path / "a.tif", STACK, **LAYOUTS[layout])
    io.write(tmp_path / "a.mrc", STACK[:, ::-1], axes="tyx")  # MRC's first row is the picture's lowest
    movie, twin = io.read_movie(tmp_path / "a.tif").views, io.read_movie(tmp_path / "a.mrc").views
    assert movie.shape == twin.shape
    assert np.array_equal(movie[:], twin[:])
    assert np.array_equal(movie[3], twin[3])
    assert np.array_equal(movie[1:4, 30:, 5:20:3], twin[1:4, 30:, 5:20:3])
    assert np.array_equal(movie[..., 7], twin[..., 7])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float16, np.float32])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_each_kind_of_number(tmp_path, dtype, compression):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0].astype(dtype), compression=compression)
    image = io.read(tmp_path / "a.tif")
    assert image.views.shape == (1, 37, 53)
    assert np.array_equal(np.asarray(image), STACK[0, ::-1].astype(dtype))


def test_separate_pages_are_mapped_not_copied(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in STACK:
            writer.write(page, contiguous=False, metadata=None)
    movie = io.read_movie(tmp_path / "a.tif").views
    assert np.array_equal(movie[:], STACK[:, ::-1])
    assert not movie.decode(2).flags.owndata


def test_threads_read_the_same_as_one(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, compression="lzw")
    movie = io.read_movie(tmp_path / "a.tif").views
    with ThreadPoolExecutor(8) as threads:
        frames = list(threads.map(lambda n: movie[n % 5], range(200)))
    assert all(np.array_equal(frame, STACK[n % 5, ::-1]) for n, frame in enumerate(frames))


def test_imagej_says_size_and_axes(tmp_path):
    metadata = {"axes": "ZYX", "unit": "nm", "spacing": 1.4}
    tifffile.imwrite(tmp_path / "z.tif", STACK, imagej=True, resolution=(1 / 1.052, 1 / 1.1), metadata=metadata)
    image = io.read(tmp_path / "z.tif")
    assert image.views.shape == (1, 5, 37, 53)
    assert image.geometry.voxel_size == pytest.approx((10.52, 11.0, 14.0), rel=1e-6)
    tifffile.imwrite(tmp_path / "t.tif", STACK, imagej=True, metadata={"axes": "TYX", "unit": "\\u00B5m"})
    with pytest.raises(FileFault, match="deice split"):
        io.read(tmp_path / "t.tif")
    assert io.read(tmp_path / "t.tif", axes="tyx").views.shape == (5, 37, 53)


def test_ome_says_size_and_axes(tmp_path):
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.72, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.000725}
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, ome=True, metadata=metadata)
    image = io.read(tmp_path / "a.ome.tif")
    assert image.views.shape == (1, 5, 37, 53)
    assert image.geometry.voxel_size == pytest.approx((7.2, 7.25, 7.2))


def test_the_microtubules_have_their_pixel(data):
    image = io.read(data / "tomograms" / "microtubule_13pf.tif")
    assert image.views.shape == (1, 36, 206, 94)
    assert image.geometry.voxel_size == pytest.approx((10.52, 10.52, 10.52), rel=1e-6)


def test_three_axes_of_no_name_are_not_guessed(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK)
    with pytest.raises(FileFault, match=r"--axes zyx.*--axes tyx"):
        io.read(tmp_path / "a.tif")
    assert io.read(tmp_path / "a.tif", axes="zyx").views.shape == (1, 5, 37, 53)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kept", [4, 100, 3000])
def test_cut_short(tmp_path, kept, compression):
    pixels = np.random.default_rng(0).integers(0, 9999, STACK.shape, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, compression=compression, metadata=None)
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[:kept])
    with pytest.raises(FileFault, match="copy"):
        io.read_movie(tmp_path / "a.tif").views[:]


def test_colours_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 9, 3), np.uint8), photometric="rgb")
    with pytest.raises(FileFault, match="grey"):
        io.read(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((8, 9), np.complex64))
    with pytest.raises(FileFault, match="integers or floats"):
        io.read(tmp_path / "b.tif")
