"""Scenes: which files belong together, by name; and a clear word where one is missing or does not fit."""

import logging
from pathlib import Path

import numpy as np
import pytest

from deice import io
from deice.errors import PairFault, UserError
from deice.image import Geometry
from deice.scenes import Scene, expand, group, half_of, match, open_views, stem


@pytest.fixture
def files(tmp_path):
    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
        return [tmp_path / name for name in names]

    return make


def names(paths, folder):
    return [str(path.relative_to(folder)) for path in paths]


def test_files_in_natural_order_each_once(files, tmp_path):
    files("m_10.mrc", "m_2.mrc", "m_1.tif", "notes.txt", ".hidden.mrc", "deeper/m_3.mrc")
    assert names(expand([tmp_path]), tmp_path) == ["m_1.tif", "m_2.mrc", "m_10.mrc"]
    assert names(expand(str(tmp_path / "m_*.mrc")), tmp_path) == ["m_2.mrc", "m_10.mrc"]
    assert names(expand([tmp_path / "m_2.mrc", str(tmp_path / "*.mrc")]), tmp_path) == ["m_2.mrc", "m_10.mrc"]
    assert names(expand(str(tmp_path / "**" / "*.mrc")), tmp_path) == ["deeper/m_3.mrc", "m_2.mrc", "m_10.mrc"]
    assert names(expand(tmp_path / "notes.txt"), tmp_path) == ["notes.txt"]  # named by the user: read and judged


def test_every_picture_ending_counts_in_a_folder(files, tmp_path):
    endings = [".mrc", ".mrcs", ".map", ".rec", ".st", ".tif", ".tiff", ".eer", ".mrc.gz", ".map.bz2", ".MRC"]
    files(*(f"a{number}{ending}" for number, ending in enumerate(endings)), "b.txt.gz", "c.bin", "d.gz")
    assert len(expand(tmp_path)) == len(endings)


def test_a_name_with_brackets_is_a_file_first(files, tmp_path):
    files("a[1].mrc")
    assert expand(tmp_path / "a[1].mrc") == [tmp_path / "a[1].mrc"]


@pytest.mark.parametrize("given", ["none.mrc", "*.mrc", "empty"])
def test_nothing_found(tmp_path, given):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no"):
        expand(tmp_path / given)
    with pytest.raises(UserError, match="no input"):
        expand([])


def test_a_stem_loses_every_ending():
    assert [stem(Path(name)) for name in ("rec_1.mrc.gz", "a.b.mrc", "c.tif")] == ["rec_1", "a.b", "c"]


@pytest.mark.parametrize(
    ("even", "odd", "name"),
    [
        ("m_1_EVN.mrc", "m_1_ODD.mrc", "m_1"),
        ("m_1_evn.mrc", "m_1_odd.mrc", "m_1"),
        ("rec_ts_half1.mrc", "rec_ts_half2.mrc", "rec_ts"),
        ("ts_EVN_Vol.mrc", "ts_ODD_Vol.mrc", "ts"),
        ("even/ts.mrc", "odd/ts.mrc", "ts"),
        ("a_EVN.mrc.gz", "a_ODD.mrc.gz", "a"),
    ],
)
def test_halves_make_one_scene_even_first(files, tmp_path, even, odd, name):
    (lone,) = files("lone.mrc")
    given = [*reversed(files(even, odd)), lone]
    assert group(given) == [Scene(name, (tmp_path / even, tmp_path / odd)), Scene("lone", (lone,))]
    assert group(expand(tmp_path)) == sorted(group(given), key=lambda scene: str(scene.files[0]))
    with pytest.raises(PairFault, match="not among the inputs"):
        group([tmp_path / odd])
    (tmp_path / odd).unlink()
    with pytest.raises(PairFault, match=odd.rsplit("/", 1)[-1].split(".")[0] + r".* is missing"):
        group([tmp_path / even])


@pytest.mark.parametrize(
    "given",
    [
        ("m_EVN.mrc", "m_ODD.mrc", "m.mrc"),
        ("rec_m_half1.mrc", "rec_m_half2.mrc", "rec_m.mrc"),
        ("m_EVN_Vol.mrc", "m_ODD_Vol.mrc", "m_Vol.mrc"),
        ("even/m.mrc", "odd/m.mrc", "m.mrc"),
    ],
)
def test_halves_win_over_their_average(files, caplog, given):
    caplog.set_level(logging.INFO)
    scenes = group(files(*given))
    assert len(scenes) == 1
    assert len(scenes[0].files) == 2
    assert caplog.text.count("left aside") == 1


def test_two_scenes_of_one_name(files):
    with pytest.raises(UserError, match=r"one/a.mrc and .*two/a.mrc"):
        group(files("one/a.mrc", "two/a.mrc"))
    with pytest.raises(UserError, match="both"):
        group(files("a.mrc", "a.tif"))


def test_a_half_says_what_it_is():
    half = half_of(Path("x/m_ODD.mrc"))
    assert half is not None
    assert (half.name, half.place, half.partner) == ("m", 1, Path("x/m_EVN.mrc"))
    assert half_of(Path("x/ODDITY.mrc")) is None


def test_targets_by_name_else_by_stem(files, tmp_path):
    inputs = files("in/a.mrc", "in/b.mrc")
    targets = files("target/a.mrc", "target/a.tif", "target/b.tif", "target/c.mrc")
    assert match(inputs, tmp_path / "target") == [
        Scene("a", (inputs[0], targets[0])),
        Scene("b", (inputs[1], targets[2])),
    ]
    assert match(tmp_path / "in", str(tmp_path / "target"))[1].files[1] == targets[2]


def test_a_target_that_is_missing_or_ambiguous(files, tmp_path):
    inputs = files("in/a.mrc")
    with pytest.raises(PairFault, match="no such folder"):
        match(inputs, tmp_path / "target")
    files("target/b.mrc")
    with pytest.raises(PairFault, match=r"in/a.mrc: expected one target a.mrc .* found none"):
        match(inputs, tmp_path / "target")
    files("target/a.tif", "target/a.map")
    with pytest.raises(PairFault, match=r"found a.map, a.tif"):
        match(inputs, tmp_path / "target")


def write_pair(tmp_path, shapes=((6, 8), (6, 8)), sizes=(1.5, 1.5)):
    paths = (tmp_path / "a_EVN.mrc", tmp_path / "a_ODD.mrc")
    for path, shape, size in zip(paths, shapes, sizes, strict=True):
        geometry = Geometry() if size is None else Geometry().with_pixel_size(size)
        io.write(path, np.zeros(shape, np.float32), geometry)
    return Scene("a", paths)


@pytest.mark.parametrize("shape", [(6, 8), (3, 6, 8)])
@pytest.mark.parametrize("sizes", [(1.5, 1.5), (1.5, 1.5009), (None, None), (1.5, None)])
def test_views_that_agree(tmp_path, shape, sizes):
    views = open_views(write_pair(tmp_path, (shape, shape), sizes))
    assert [view.space for view in views] == [shape, shape]


def test_halves_of_another_size(tmp_path):
    with pytest.raises(PairFault, match=r"a_ODD.mrc: 8 x 7 pixels, but .*a_EVN.mrc has 8 x 6 pixels"):
        open_views(write_pair(tmp_path, ((6, 8), (7, 8))))


def test_halves_of_another_pixel_size(tmp_path):
    with pytest.raises(PairFault, match=r"1.52 Å per pixel, but .* has 1.5 Å"):
        open_views(write_pair(tmp_path, sizes=(1.5, 1.52)))
