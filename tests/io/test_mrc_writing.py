"""What is written: read back by mrcfile, header by the field's conventions, never half a file."""

import os
import signal
import subprocess
import sys
import time

import mrcfile
import numpy as np
import pytest

from deice import io
from deice.errors import FileFault, UserError
from deice.image import Geometry, Image
from deice.version import __version__

GEOMETRY = Geometry(
    voxel_size=(1.35, 1.4, 1.5),
    origin=(10.0, -20.0, 30.5),
    nstart=(3, -4, 5),
    map_order=(3, 1, 2),
    labels=("past",),
)


def noise(*shape):
    return np.random.default_rng(1).normal(6802, 8.9, shape).astype(np.float32)


@pytest.mark.parametrize("float16", [False, True])
@pytest.mark.parametrize("shape", [(37, 53), (5, 37, 53), (1, 1), (1, 7, 9)])
def test_what_is_written_is_read_back(tmp_path, shape, float16):
    pixels = noise(*shape) / 100
    io.write(tmp_path / "a.mrc", pixels, GEOMETRY, float16=float16)
    expected = pixels.astype(np.float16 if float16 else np.float32)
    with mrcfile.open(tmp_path / "a.mrc") as found:
        assert found.data.dtype == expected.dtype
        assert np.array_equal(found.data, expected)
    if not float16:  # mrcfile's own check overflows in float16
        assert mrcfile.validate(str(tmp_path / "a.mrc"))
    again = io.read(tmp_path / "a.mrc")
    assert np.array_equal(np.asarray(again).reshape(shape), expected)
    assert again.geometry.voxel_size == pytest.approx(GEOMETRY.voxel_size, rel=1e-6)
    assert (again.geometry.origin, again.geometry.nstart) == (GEOMETRY.origin, GEOMETRY.nstart)
    assert again.geometry.map_order == GEOMETRY.map_order


@pytest.mark.parametrize("float16", [False, True])
@pytest.mark.parametrize("shape", [(37, 53), (5, 37, 53)])
def test_what_is_written_at_once_is_what_is_written_block_by_block(tmp_path, shape, float16):
    pixels = (noise(*shape) / 100).astype(np.float16 if float16 else np.float32)
    io.write(tmp_path / "blocks.mrc", pixels, GEOMETRY, float16=float16, label="x")
    io.write_at_once(tmp_path / "once.mrc", pixels, GEOMETRY, "x")
    blocks, once = ((tmp_path / f"{name}.mrc").read_bytes() for name in ("blocks", "once"))
    label = slice(224, 1024)  # it holds the time
    assert blocks[: label.start] + blocks[label.stop :] == once[: label.start] + once[label.stop :]


def test_float16_that_overflows_is_refused_at_once_too_and_leaves_nothing(tmp_path):
    with pytest.raises(FileFault, match="float16"):
        io.write_at_once(tmp_path / "a.mrc", np.array([[1.0, np.inf]], np.float16), GEOMETRY)
    assert list(tmp_path.iterdir()) == []


def test_volume_micrograph_and_stack_differ_in_their_headers(tmp_path):
    io.write(tmp_path / "volume.mrc", noise(4, 6, 5))
    io.write(tmp_path / "micrograph.mrc", noise(6, 5))
    io.write(tmp_path / "movie.mrc", noise(4, 6, 5), axes="tyx")
    for name, ispg, mz, nz in [("volume", 1, 4, 4), ("micrograph", 0, 1, 1), ("movie", 0, 1, 4)]:
        with mrcfile.open(tmp_path / f"{name}.mrc") as found:
            assert (found.header.ispg, found.header.mz, found.header.nz) == (ispg, mz, nz), name
    assert io.read(tmp_path / "volume.mrc").views.shape == (1, 4, 6, 5)
    assert io.read(tmp_path / "movie.mrc", axes="tyx").views.shape == (4, 6, 5)


def test_statistics_are_those_of_float64(tmp_path):
    pixels = noise(300, 9001)  # several blocks of rows
    io.write(tmp_path / "a.mrc", pixels)
    with mrcfile.open(tmp_path / "a.mrc") as found:
        header = found.header
        assert header.dmin == pixels.min()
        assert header.dmax == pixels.max()
        assert header.dmean == pytest.approx(pixels.mean(dtype=np.float64), rel=1e-7)
        assert header.rms == pytest.approx(pixels.std(dtype=np.float64), rel=1e-6)


def test_one_label_names_tool_version_model_and_date(tmp_path):
    io.write(tmp_path / "a.mrc", noise(5, 5), GEOMETRY, label="unet " + "x" * 100)
    with mrcfile.open(tmp_path / "a.mrc") as found:
        assert found.header.nlabl == 1
        label = found.header.label[0].decode()
    assert label.startswith(f"deice {__version__} unet xxx")
    assert time.strftime("%Y-") in label
    assert len(label) <= 80


def test_an_unknown_voxel_is_written_as_it_stood(tmp_path):
    for stated in (0.0, 1.0):
        with mrcfile.new(tmp_path / "in.mrc", noise(6, 5), overwrite=True) as file:
            file.voxel_size = stated
        image = io.read(tmp_path / "in.mrc")
        assert image.pixel_size is None
        io.write(tmp_path / "out.mrc", image)
        with mrcfile.open(tmp_path / "out.mrc") as found:
            assert float(found.voxel_size.x) == stated
    assert Image(image.views, image.geometry.with_pixel_size(2.5)).pixel_size == 2.5


def test_a_real_map_keeps_its_axes_cell_and_start(data, tmp_path):
    source = data / "formats" / "EMD-3001.map"
    io.write(tmp_path / "out.mrc", io.read(source))
    with mrcfile.open(source) as before, mrcfile.open(tmp_path / "out.mrc") as after:
        assert np.array_equal(before.data, after.data)
        for axis in "xyz":
            assert after.voxel_size[axis] == pytest.approx(float(before.voxel_size[axis]), rel=1e-6)
            assert after.nstart[axis] == before.nstart[axis]
        for name in ("mapc", "mapr", "maps", "cellb"):
            assert after.header[name] == before.header[name]


def test_a_block_that_fails_leaves_no_file(tmp_path):
    def fail():
        with io.create(tmp_path / "a.mrc", (8, 8)) as pixels:
            pixels[:] = 1
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_no_file_under_the_final_name(tmp_path):
    program = (
        "import sys, time; from deice import io\n"
        "with io.create(sys.argv[1], (64, 64)) as pixels:\n"
        "    pixels[:] = 1; print('half', flush=True); time.sleep(60)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "a.mrc")], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    with writer.stdout:
        assert writer.stdout.readline() == "half\n"
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    assert not list(tmp_path.glob("*.mrc"))


def test_a_file_of_that_name_is_replaced_only_when_complete(tmp_path):
    io.write(tmp_path / "a.mrc", noise(4, 4))
    with io.create(tmp_path / "a.mrc", (2, 3)) as pixels:
        pixels[:] = 7
        assert io.read(tmp_path / "a.mrc").space == (4, 4)
    assert io.read(tmp_path / "a.mrc").space == (2, 3)


def test_float16_refuses_what_it_cannot_hold(tmp_path):
    with pytest.raises(FileFault, match=r"65504.*float32"):
        io.write(tmp_path / "a.mrc", np.full((4, 4), 1e6), float16=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file.txt/a.mrc", "file.txt/deep/a.mrc", "folder.mrc", "a.png"])
def test_what_cannot_be_written_is_said_before_any_work(tmp_path, place):
    (tmp_path / "file.txt").write_text("in the way")
    (tmp_path / "folder.mrc").mkdir()
    entered = False
    with pytest.raises(FileFault, match=r"expected|choose"), io.create(tmp_path / place, (4, 4)):
        entered = True
    assert not entered
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file.txt", "folder.mrc"]


def test_an_unwritable_folder_is_a_fault(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileFault, match="cannot be written"):
        io.writable_folder(tmp_path / "file")
    assert list(io.writable_folder(tmp_path / "new" / "one").iterdir()) == []


def test_several_views_have_no_place_in_one_file(tmp_path):
    with pytest.raises(UserError, match="2 views"):
        io.write(tmp_path / "a.mrc", Image(noise(2, 4, 4)))
    with pytest.raises(UserError, match="no place"):
        io.write(tmp_path / "a.mrc", noise(2, 2, 4, 4))


def test_labels_are_signed_bytes(tmp_path):
    labels = np.arange(24, dtype=np.int64).reshape(2, 3, 4)
    io.write(tmp_path / "labels.mrc", labels, Geometry().with_pixel_size(10.0), int8=True)
    with mrcfile.open(tmp_path / "labels.mrc") as file:
        assert file.header.mode == 0
        assert file.header.ispg == 1
        assert file.voxel_size.x == pytest.approx(10)
        assert np.array_equal(file.data, labels)
    assert mrcfile.validate(tmp_path / "labels.mrc")
    assert np.array_equal(np.asarray(io.read(tmp_path / "labels.mrc").views[0]), labels)
