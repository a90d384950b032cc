"""OME-Zarr: what is written is read back, in any order of axes, chunk by chunk; every fault in one line."""

import json
import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import zarr

from deice import io
from deice.cli import run
from deice.errors import FileFault, UserError
from deice.image import Geometry, Image
from deice.io import chunks
from deice.ops.normalise import statistics
from deice.scenes import expand, group

GEOMETRY = Geometry(voxel_size=(3.0, 3.5, 4.0), origin=(1.0, -2.0, 30.0))


def noise(*shape):
    return np.random.default_rng(1).normal(6802, 8.9, shape).astype(np.float32)


def ome(folder, pixels, axes="zyx", version="0.4", unit="nanometer", scale=None, **array):
    """An OME-Zarr folder as other programs write it; `scale` of the one level, along its own axes."""
    formats = {"0.4": 2, "0.5": 3}
    root = zarr.create_group(str(folder), zarr_format=formats[version])
    space = [{"name": a, "type": "space", "unit": unit} if a in "zyx" else {"name": a} for a in axes]
    steps = [{"type": "scale", "scale": scale or [1.0] * len(axes)}]
    image = {"axes": space, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    about = {"multiscales": [image]}
    root.attrs.update(about | {"version": version} if version == "0.4" else {"ome": about | {"version": version}})
    array = {"chunks": tuple(min(4, n) for n in pixels.shape)} | array
    root.create_array("0", shape=pixels.shape, dtype=pixels.dtype, **array)[...] = pixels
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """The chunks that were decoded, in order; none is held from tests before."""
    numbers = []
    monkeypatch.setattr(chunks, "_last_used", chunks.LastUsed(1 << 20))
    get = chunks.LastUsed.get

    def noted(self, key, decode):
        return get(self, key, lambda: numbers.append(key[1]) or decode())

    monkeypatch.setattr(chunks.LastUsed, "get", noted)
    return numbers


@pytest.mark.parametrize("float16", [False, True])
@pytest.mark.parametrize("shape", [(37, 53), (5, 37, 53), (1, 1), (1, 7, 9), (2, 300, 3), (70, 131, 129)])
def test_what_is_written_is_read_back(tmp_path, shape, float16):
    pixels = noise(*shape) / 100
    io.write(tmp_path / "a.zarr", pixels, GEOMETRY, float16=float16)
    found = io.read(tmp_path / "a.zarr")
    assert np.array_equal(np.asarray(found).reshape(shape), pixels.astype(np.float16 if float16 else np.float32))
    assert found.geometry.pixel_size == 3.0
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    if len(shape) == 3:
        assert replace(found.geometry, labels=()) == GEOMETRY


def test_levels_are_means_and_lie_where_the_first_one_lies(tmp_path):
    pixels = noise(3, 260, 140)
    io.write(tmp_path / "a.zarr", pixels, GEOMETRY)
    root = zarr.open(str(tmp_path / "a.zarr"), mode="r")
    (image,) = root.attrs["multiscales"]
    assert (root.metadata.zarr_format, image["version"]) == (2, "0.4")
    assert [root[d["path"]].shape for d in image["datasets"]] == [(3, 260, 140), (2, 130, 70), (1, 65, 35)]
    assert np.allclose(root["1"][0, 7, 9], pixels[:2, 14:16, 18:20].mean(), atol=1e-2)
    assert np.allclose(root["1"][1, 7, 9], pixels[2, 14:16, 18:20].mean(), atol=1e-2)
    scale, shift = image["datasets"][2]["coordinateTransformations"]
    assert scale["scale"] == [16.0, 14.0, 12.0]
    assert shift["translation"] == [30 + 1.5 * 4, -2 + 1.5 * 3.5, 1 + 1.5 * 3]


def test_labels_stay_labels_on_every_level(tmp_path):
    labels = np.zeros((3, 150, 9), np.int8)
    labels[1:, 71:] = 7
    io.write(tmp_path / "a.zarr", labels, int8=True)
    root = zarr.open(str(tmp_path / "a.zarr"), mode="r")
    assert np.array_equal(np.asarray(io.read(tmp_path / "a.zarr")), labels)
    assert np.array_equal(root["1"][...], labels[::2, ::2, ::2])


def test_zeros_are_stored_so_that_no_chunk_is_missing(tmp_path, caplog):
    io.write(tmp_path / "a.zarr", np.zeros((3, 8, 9)))
    assert not np.asarray(io.read(tmp_path / "a.zarr")).any()
    assert not caplog.records


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["zyx", "xyz", "tczyx", "czyx", "yxz", "tyx", "yx"])
def test_any_order_of_axes_is_read_as_zyx(tmp_path, axes, version):
    sizes = {"t": 1, "c": 1, "z": 5, "y": 6, "x": 9}
    stored = noise(*(sizes[a] for a in axes))
    lengths = {"t": 1.0, "c": 1.0, "z": 0.4, "y": 0.3, "x": 0.2}
    ome(tmp_path / "a.zarr", stored, axes, version, scale=[lengths[a] for a in axes])
    wanted = np.einsum(f"{axes}->{'zyx' if 'z' in axes else 'yx'}", stored)
    found = io.read(tmp_path / "a.zarr")
    assert np.array_equal(np.asarray(found), wanted)
    assert found.geometry.voxel_size == pytest.approx((2, 3, 4) if "z" in axes else (2, 3, 2))


@pytest.mark.parametrize("dtype", ["u1", "i2", ">u2", "<i4", "f2", ">f4", "f8"])
def test_numbers_of_any_kind_are_read(tmp_path, dtype):
    pixels = (noise(5, 6, 7) % 100).astype(dtype)
    ome(tmp_path / "a.zarr", pixels)
    assert np.array_equal(np.asarray(io.read(tmp_path / "a.zarr")), pixels)


def test_shards_are_read(tmp_path):
    pixels = noise(8, 9, 10)
    ome(tmp_path / "a.zarr", pixels, version="0.5", chunks=(2, 2, 2), shards=(4, 4, 4))
    assert np.array_equal(np.asarray(io.read(tmp_path / "a.zarr")), pixels)


@pytest.mark.parametrize(("unit", "size"), [("angstrom", 2.5), ("nanometer", 25.0), ("micrometer", 25000.0)])
def test_pixel_sizes_are_in_angstrom(tmp_path, unit, size):
    ome(tmp_path / "a.zarr", noise(2, 3, 4), unit=unit, scale=[2.5, 2.5, 2.5])
    assert io.read(tmp_path / "a.zarr").pixel_size == pytest.approx(size)


def test_a_scale_without_a_unit_of_length_is_an_unknown_pixel_size(tmp_path, caplog):
    ome(tmp_path / "a.zarr", noise(2, 3, 4), unit=None, scale=[2.5, 2.5, 2.5])
    assert io.read(tmp_path / "a.zarr").pixel_size is None
    assert "z 2.5 without unit" in caplog.text


@pytest.mark.parametrize("key", [
    3, -1, slice(2, 5), (slice(None), slice(6, 1, -2)), (4, slice(3, 3)), (Ellipsis, slice(-3, None)),
    (slice(None, None, -1), 2, slice(1, 9, 3)), (0, 1, 2), Ellipsis,
])  # fmt: skip
def test_slices_are_those_of_an_array(tmp_path, key):
    pixels = noise(7, 10, 11)
    found = io.read(ome(tmp_path / "a.zarr", pixels)).views
    assert np.array_equal(found[0][key], pixels[key])
    inner = key if isinstance(key, tuple) else (key,)
    assert np.array_equal(found[(slice(None), *inner)], pixels[None][(slice(None), *inner)])


def test_a_window_decodes_only_the_chunks_that_it_touches(tmp_path, decoded):
    pixels = noise(16, 16, 16)
    view = io.read(ome(tmp_path / "a.zarr", pixels)).views[0]
    assert decoded == []
    assert np.array_equal(view[5:7, 2:6, 8:12], pixels[5:7, 2:6, 8:12])
    assert decoded == [(1, 0, 2), (1, 1, 2)]
    view[4:8, 0:4, 8:12]
    assert len(decoded) == 2, "what was decoded is held"


def test_a_pass_decodes_each_chunk_once_and_holds_no_more_than_granted(tmp_path, decoded, monkeypatch):
    held = chunks.LastUsed(2 * 4 * 4 * 16 * 16)  # two slabs of four that the volume has
    monkeypatch.setattr(chunks, "_last_used", held)
    stored = io.read(ome(tmp_path / "a.zarr", noise(16, 16, 16)))
    assert statistics(stored.views[0]).count == 16**3
    planes = [stored.views[0][z] for z in range(16)]
    assert len(planes) == 16
    assert len(decoded) <= 2 * 64
    assert held.held <= held.budget


def test_a_plain_array_asks_what_it_is(tmp_path):
    pixels = noise(5, 6, 7)
    zarr.create_array(str(tmp_path / "a.zarr"), data=pixels, chunks=(2, 3, 4))
    with pytest.raises(FileFault, match=r"no OME metadata.*--axes zyx"):
        io.read(tmp_path / "a.zarr")
    found = io.read(tmp_path / "a.zarr", "zyx")
    assert np.array_equal(np.asarray(found), pixels)
    assert found.pixel_size is None
    assert io.read(tmp_path / "a.zarr", "tyx").views.shape == (5, 6, 7)


def without_axes(folder):
    metadata = json.loads((folder / ".zattrs").read_text())
    del metadata["multiscales"][0]["axes"]
    (folder / ".zattrs").write_text(json.dumps(metadata))


def with_scale(folder, scale):
    metadata = json.loads((folder / ".zattrs").read_text())
    metadata["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] = scale
    (folder / ".zattrs").write_text(json.dumps(metadata))


FAULTS = {
    "nothing in it": (lambda f: [shutil.rmtree(f), f.mkdir()], "without Zarr's metadata"),
    "no attributes": (lambda f: (f / ".zattrs").unlink(), r"without OME metadata \(arrays: 0\)"),
    "broken attributes": (lambda f: (f / ".zattrs").write_text('{"multi'), "metadata are damaged"),
    "no axes": (without_axes, "OME metadata are damaged.*axes"),
    "a negative scale": (lambda f: with_scale(f, [1, 1, -1]), "OME metadata are damaged.*scale"),
    "a short scale": (lambda f: with_scale(f, [1, 1]), "OME metadata are damaged"),
    "no level": (lambda f: shutil.rmtree(f / "0"), "finest level '0' is missing"),
    "broken array": (lambda f: (f / "0" / ".zarray").write_text("{}"), "'0' is no such array"),
    "no chunk": (lambda f: shutil.rmtree(f / "0" / "0") or shutil.rmtree(f / "0" / "1"), "0 of 8 chunks"),
    "a chunk cut short": (lambda f: (f / "0/1/0/1").write_bytes(b"\2\1\41"), "chunk z 1 y 0 x 1 is damaged"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_one_line(tmp_path, name, capsys):
    damage, said = FAULTS[name]
    folder = ome(tmp_path / "a.zarr", noise(6, 7, 8), chunk_key_encoding={"name": "v2", "separator": "/"})
    damage(folder)
    with pytest.raises(FileFault, match=said):
        np.asarray(io.read(folder))
    assert run(["denoise", str(folder), "-m", "gaussian", "--sigma", "1", "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.strip().count("\n") == 0
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(("axes", "dtype", "said"), [
    ("tzyx", "f4", "3 along t"), ("czyx", "f4", "3 along c"), ("qzyx", "f4", "axes qzyx"), ("czyx", "c8", "3 along c"),
    ("zyx", "c8", "complex64 pixels"), ("zyx", "?", "bool pixels"), ("zx", "f4", "axes zx"),
])  # fmt: skip
def test_what_is_no_picture_or_volume_is_refused(tmp_path, axes, dtype, said):
    sizes = {"z": 4, "y": 5, "x": 6}
    ome(tmp_path / "a.zarr", noise(*(sizes.get(a, 3) for a in axes)).astype(dtype), axes)
    with pytest.raises(FileFault, match=said):
        io.read(tmp_path / "a.zarr")


def test_a_chunk_that_is_not_stored_is_said_or_refused(tmp_path, caplog):
    padded = noise(8, 8, 8)
    padded[4:] = 0
    ome(tmp_path / "a.zarr", padded)
    assert np.array_equal(np.asarray(io.read(tmp_path / "a.zarr")), padded)
    assert "4 of 8 chunks are not stored and read as 0" in caplog.text
    folder = ome(tmp_path / "b.zarr", noise(8, 8, 8), fill_value=None)
    (folder / "0" / "1.0.1").unlink()
    with pytest.raises(FileFault, match="7 of 8 chunks"):
        io.read(folder)


def test_a_failed_block_leaves_what_was_there(tmp_path):
    io.write(tmp_path / "a.zarr", noise(3, 4, 5))
    with pytest.raises(ZeroDivisionError), io.create(tmp_path / "a.zarr", (3, 4, 5)) as pixels:
        pixels[:] = 1 // 0
    assert np.array_equal(np.asarray(io.read(tmp_path / "a.zarr")), noise(3, 4, 5))
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    io.write(tmp_path / "a.zarr", noise(3, 4, 5) + 1)
    assert np.array_equal(np.asarray(io.read(tmp_path / "a.zarr")), noise(3, 4, 5) + 1)


def test_an_older_volume_comes_back_where_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    io.write(tmp_path / "a.zarr", noise(3, 4, 5))
    replace_folder = os.replace

    def refuses(source, target):
        if str(source).endswith("volume"):
            raise PermissionError(13, "Permission denied")
        replace_folder(source, target)

    monkeypatch.setattr(os, "replace", refuses)
    with pytest.raises(FileFault, match="cannot be written"):
        io.write(tmp_path / "a.zarr", noise(3, 4, 5) + 1)
    assert np.array_equal(np.asarray(io.read(tmp_path / "a.zarr")), noise(3, 4, 5))


def test_what_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "folder.zarr").touch()
    (tmp_path / "kept.ZARR").mkdir()
    (tmp_path / "kept.ZARR" / "notes.txt").touch()
    for name in ("folder.zarr", "kept.ZARR"):
        with pytest.raises(FileFault, match="something else stands"):
            io.write(tmp_path / name, noise(3, 4, 5))
    with pytest.raises(FileFault, match="cannot be written"):
        io.write(tmp_path / "folder.zarr" / "a.zarr", noise(3, 4, 5))
    with pytest.raises(FileFault, match="beyond float16"):
        io.write(tmp_path / "a.zarr", noise(3, 4, 5) * 100, float16=True)
    with pytest.raises(UserError, match="frames are written as MRC only"):
        io.write(tmp_path / "a.zarr", Image(noise(3, 4, 5)), axes="tyx")
    assert not (tmp_path / "a.zarr").exists()


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    ome(tmp_path / "a.zarr", noise(3, 4, 5))
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UserError, match=r'pip install "deice\[zarr\]"'):
        io.read(tmp_path / "a.zarr")
    with pytest.raises(UserError, match=r'pip install "deice\[zarr\]"'):
        io.write(tmp_path / "b.zarr", noise(3, 4, 5))


def test_a_folder_of_zarr_is_one_input(tmp_path):
    for name in ("t1_EVN", "t1_ODD", "t2"):
        io.write(tmp_path / f"{name}.zarr", noise(3, 4, 5))
    (tmp_path / ".t3.zarr").mkdir()
    found = expand(tmp_path)
    assert [p.name for p in found] == ["t1_EVN.zarr", "t1_ODD.zarr", "t2.zarr"]
    assert expand([tmp_path / "*.zarr"]) == expand([tmp_path / "**"]) == found
    assert expand(tmp_path / "t2.zarr") == [tmp_path / "t2.zarr"]
    assert [(scene.name, len(scene.files)) for scene in group(found)] == [("t1", 2), ("t2", 1)]


def test_zarr_is_denoised_to_zarr_as_its_mrc_twin_is(tmp_path, capsys):
    pixels = noise(9, 40, 33)
    for half in ("EVN", "ODD"):
        for ending in ("zarr", "mrc"):
            io.write(tmp_path / ending / f"t_{half}.{ending}", pixels + (half == "ODD"), GEOMETRY)
    for ending in ("zarr", "mrc"):
        arguments = ["denoise", str(tmp_path / ending), "-m", "gaussian", "--sigma", "1", "-o", str(tmp_path / "out")]
        assert run(arguments) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["t.mrc", "t.zarr"]
    found, twin = (io.read(tmp_path / "out" / f"t.{ending}") for ending in ("zarr", "mrc"))
    assert np.array_equal(np.asarray(found), np.asarray(twin))
    assert replace(found.geometry, labels=()) == GEOMETRY
    assert "Gaussian" in found.geometry.labels[0]
    capsys.readouterr()
    volume = str(tmp_path / "out" / "t.zarr")
    assert run(["info", volume, "--json", "-"]) == 0
    (figures,) = json.loads(capsys.readouterr().out)
    assert (figures["axes"], figures["shape"], figures["pixel_size"]) == ("zyx", [9, 40, 33], 3.0)
    assert figures["serves_as"] == ["tomogram"]
    assert run(["measure", volume, "--truth", str(tmp_path / "zarr" / "t_EVN.zarr"), "--json", "-"]) == 0
    assert run(["segment", volume, "-o", str(tmp_path / "labels"), "--device", "cpu"]) == 0
    assert run(["segment", volume, "-o", str(tmp_path / "labels"), "--device", "cpu"]) == 0, "what made it is known"
    assert io.read(tmp_path / "labels" / "t.zarr").views.dtype == np.int8
    assert run(["denoise", volume, "-m", "gaussian", "--sigma", "1", "-o", volume]) == 2
    assert "lies in the input" in capsys.readouterr().err
