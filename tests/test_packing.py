"""Packing: what stands in the .bin files is what the images hold, split by image, whole or not at all."""

import json
import logging
from itertools import pairwise

import numpy as np
import pytest

from deice import packing
from deice.errors import BatchFailure, FileFault, PairFault, RecipeFault
from deice.image import Geometry, Image
from deice.io import write
from deice.io.packed import open_packed
from deice.packing import Packing, is_packed, pack, patch_origins, plan
from deice.scenes import Scene, group


def micrograph(path, space=(21, 34), seed=0, pixel_size=1.5):
    pixels = np.random.default_rng(seed).normal(5, 2, space).astype(np.float32)
    write(path, Image(pixels[None], Geometry().with_pixel_size(pixel_size)))
    return pixels


def open_split(folder, split):
    return open_packed(folder / f"{split}_input.bin", folder / f"{split}_target.bin")


@pytest.fixture
def halves(tmp_path):
    """Five half pairs of 21 × 34 pixels, and their pixels by file name."""
    folder = tmp_path / "halves"
    names = [f"m{n}_{half}.mrc" for n in range(5) for half in ("EVN", "ODD")]
    pixels = {name: micrograph(folder / name, seed=seed) for seed, name in enumerate(names)}
    return folder, pixels


@pytest.mark.parametrize(("size", "patch", "stride"), [(21, 8, 8), (21, 8, 5), (8, 8, 3), (9, 8, 50)])
def test_patches_cover_the_axis_and_the_last_one_ends_at_the_edge(size, patch, stride):
    origins = patch_origins(size, patch, stride)
    assert origins[0] == 0
    assert origins[-1] + patch == size
    assert all(0 < later - earlier <= stride for earlier, later in pairwise(origins))


def test_every_sample_is_the_patch_that_the_description_says(tmp_path, halves):
    folder, pixels = halves
    list(pack(plan(group(sorted(folder.iterdir())), Packing(8, 6, "none", 0.2)), tmp_path / "out"))
    description = json.loads((tmp_path / "out" / "deice.json").read_text())
    assert description["sample_shape"] == [1, 8, 8]
    assert description["pixel_size"] == 1.5
    names = set()
    for split, count in (("train", 4), ("test", 1)):
        opened = open_split(tmp_path / "out", split)
        assert len(description[split]["files"]) == count
        assert description[split]["samples"] == len(opened[0]) == len(opened[1]) == 24 * count
        for record in description[split]["files"]:
            names.add(record["name"])
            corners = [(y, x) for y in record["origins"][0] for x in record["origins"][1]]
            for sample, (y, x) in enumerate(corners, record["first_sample"]):
                for samples, half in zip(opened, ("EVN", "ODD")):
                    whole = pixels[f"{record['name']}_{half}.mrc"]
                    np.testing.assert_array_equal(samples[sample], whole[y : y + 8, x : x + 8])
    assert names == {"m0", "m1", "m2", "m3", "m4"}


def test_percentile_is_over_the_95th_of_the_positive_and_clipped():
    image = np.concatenate([np.arange(1.0, 101), [-7.0, 1000.0]]).astype(np.float32).reshape(6, 17)
    expected = np.clip(image / np.percentile(image[image > 0], 95), 0, 1)
    np.testing.assert_allclose(packing.divide_by_percentile(image.copy()), expected, rtol=1e-6)


def test_standard_holds_where_the_mean_dwarfs_the_deviation():
    image = (6802 + 8.9 * np.random.default_rng(0).standard_normal((300, 300))).astype(np.float32)
    answer = packing.standardize(image.copy()).astype(np.float64)
    assert abs(answer.mean()) < 1e-3
    assert answer.std() == pytest.approx(1, abs=1e-4)
    exact = (image.astype(np.float64) - image.mean(dtype=np.float64)) / image.std(dtype=np.float64)
    np.testing.assert_allclose(answer, exact, atol=1e-4)


def test_each_image_is_normalised_as_a_whole_not_patch_by_patch(tmp_path):
    pixels = micrograph(tmp_path / "m.mrc")
    list(pack(plan([Scene("m", (tmp_path / "m.mrc",))], Packing(8, normalize="standard")), tmp_path / "out"))
    first = open_packed(tmp_path / "out" / "train_input.bin")[0][0]
    np.testing.assert_allclose(first, (pixels[:8, :8] - pixels.mean()) / pixels.std(), atol=1e-4)


def test_volumes_become_cubes(tmp_path):
    pixels = np.random.default_rng(0).standard_normal((9, 10, 11)).astype(np.float32)
    write(tmp_path / "v.mrc", Image(pixels[None]))
    agreed = plan([Scene("v", (tmp_path / "v.mrc",))], Packing(8, normalize="none"), "zyx")
    list(pack(agreed, tmp_path / "out"))
    samples, target = open_packed(tmp_path / "out" / "train_input.bin")
    assert samples.shape == (8, 8, 8, 8)
    assert target is None
    np.testing.assert_array_equal(samples[-1], pixels[1:, 2:, 3:])


def test_one_image_is_not_split_and_no_target_is_invented(tmp_path, caplog):
    micrograph(tmp_path / "m.mrc")
    with caplog.at_level(logging.WARNING):
        list(pack(plan([Scene("m", (tmp_path / "m.mrc",))], Packing(8)), tmp_path / "out"))
    assert "cannot be split by image" in caplog.text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["deice.json", "train_input.bin"]


def test_the_split_is_by_image_and_by_seed(halves):
    folder, _ = halves
    scenes = group(sorted(folder.iterdir()))

    def tested(seed):
        splits = plan(scenes, Packing(8, test_fraction=0.4, seed=seed)).splits
        train, test = ({entry.scene.name for entry in splits[split]} for split in ("train", "test"))
        assert train.isdisjoint(test)
        assert len(test) == 2
        return frozenset(test)

    assert tested(3) == tested(3)
    assert len({tested(seed) for seed in range(10)}) > 1


def test_the_announced_size_is_the_size_written(tmp_path, halves):
    folder, _ = halves
    agreed = plan(group(sorted(folder.iterdir())), Packing(8, 3))
    list(pack(agreed, tmp_path / "out"))
    assert sum(path.stat().st_size for path in (tmp_path / "out").glob("*.bin")) == agreed.bytes


def test_a_complete_folder_is_known_again_and_another_is_never_replaced(tmp_path, halves):
    folder, _ = halves
    scenes, out = group(sorted(folder.iterdir())), tmp_path / "out"
    agreed = plan(scenes, Packing(8))
    assert not is_packed(agreed, out)
    list(pack(agreed, out))
    assert is_packed(plan(scenes, Packing(8)), out)
    for other in (Packing(8, normalize="standard"), Packing(10), Packing(8, seed=7)):
        with pytest.raises(FileFault, match="--overwrite"):
            is_packed(plan(scenes, other), out)
    with (out / "train_target.bin").open("ab") as file:
        file.write(b"more")
    with pytest.raises(FileFault, match="--overwrite"):
        is_packed(agreed, out)


def test_bin_files_of_another_program_are_not_ours_to_replace(tmp_path, halves):
    folder, _ = halves
    (tmp_path / "train_input.bin").write_bytes(b"1234")
    with pytest.raises(FileFault, match="--overwrite"):
        is_packed(plan(group(sorted(folder.iterdir())), Packing(8)), tmp_path)


def test_an_interrupted_packing_leaves_nothing(tmp_path, halves):
    folder, _ = halves
    work = pack(plan(group(sorted(folder.iterdir())), Packing(8)), tmp_path / "out")
    next(work)
    work.close()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("fault", ["nan", "constant", "small", "empty"])
def test_a_faulty_file_is_named_and_the_rest_is_packed(tmp_path, halves, fault):
    folder, _ = halves
    bad = folder / "m1_ODD.mrc"
    if fault == "empty":
        bad.write_bytes(b"")
    else:
        pixels = np.full((7, 34) if fault == "small" else (21, 34), 3, np.float32)
        pixels[4, 5] = {"nan": np.nan, "constant": 3, "small": 4}[fault]
        write(bad, Image(pixels[None], Geometry().with_pixel_size(1.5)))
    agreed = plan(group(sorted(folder.iterdir())), Packing(8, normalize="standard", test_fraction=0.4))
    with pytest.raises(BatchFailure) as failure:
        list(pack(agreed, tmp_path / "out"))
    assert [name for name, _ in failure.value.failures] == ["m1"]
    description = json.loads((tmp_path / "out" / "deice.json").read_text())
    assert description["left_out"] == ["m1"]
    assert not is_packed(plan(group(sorted(folder.iterdir())), agreed.packing), tmp_path / "out")  # worth another try
    files = [file for split in ("train", "test") for file in description[split]["files"]]
    assert sorted(file["name"] for file in files) == ["m0", "m2", "m3", "m4"]
    for split in ("train", "test"):
        if (tmp_path / "out" / f"{split}_input.bin").exists():
            inputs, targets = open_split(tmp_path / "out", split)
            assert len(inputs) == len(targets) == description[split]["samples"]


def test_one_faulty_file_alone_is_its_own_error_and_nothing_is_written(tmp_path):
    write(tmp_path / "m.mrc", Image(np.full((1, 16, 16), np.nan, np.float32)))
    agreed = plan([Scene("m", (tmp_path / "m.mrc",))], Packing(8))
    with pytest.raises(FileFault, match="not finite"):
        list(pack(agreed, tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_mixtures_are_refused(tmp_path, halves):
    folder, _ = halves
    micrograph(folder / "lone.mrc")
    with pytest.raises(PairFault, match="single images among pairs"):
        plan(group(sorted(folder.iterdir())), Packing(8))
    write(tmp_path / "v.mrc", Image(np.random.default_rng(0).random((1, 9, 9, 9), np.float32)))
    singles = [Scene("lone", (folder / "lone.mrc",)), Scene("v", (tmp_path / "v.mrc",))]
    with pytest.raises(PairFault, match="pictures among volumes"):
        plan(singles, Packing(8), "zyx")


@pytest.mark.parametrize(
    "impossible",
    [{"patch": 0}, {"stride": 0}, {"normalize": "max"}, {"test_fraction": 1.0}, {"test_fraction": -0.1}],
)
def test_impossible_options(impossible):
    with pytest.raises(RecipeFault):
        Packing(**impossible)
