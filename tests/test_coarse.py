"""Coarse to fine: binned sources, their statistics and regions, and the run that begins with them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from worlds_for_tests import views

from deice import train
from deice.coarse import Binned, coarse_to_fine, coarse_window, coarser
from deice.errors import RecipeFault
from deice.image import Image
from deice.ops.normalise import Affine
from deice.recipe import completed, from_table
from deice.sources import source_of
from deice.training import run

RECIPE = {"net": {"name": "unet", "size": 4, "depth": 1}, "data": {"window": 16, "threads": 1},
          "training": {"batch": 4, "precision": "fp32"}}


def white(shape, count=2, seed=0):
    return np.random.default_rng(seed).normal(3, 2, (count, *shape)).astype(np.float32)


def source(shape, seed=0, **given):
    return source_of("white", [Image(white(shape, seed=seed))], "standard", **given)


@pytest.mark.parametrize("shape", [(21, 34), (9, 13, 22)])
@pytest.mark.parametrize("factor", [2, 4])
def test_a_binned_image_is_the_mean_of_blocks_however_it_is_sliced(shape, factor):
    image = white(shape, 1)[0]
    binned = Binned(image, factor)
    whole = image
    for axis, size in enumerate(shape):
        whole = np.add.reduceat(whole.take(range(size // factor * factor), axis),
                                range(0, size // factor * factor, factor), axis) / factor
    assert binned.shape == whole.shape
    np.testing.assert_allclose(binned[...], whole, rtol=1e-5)
    np.testing.assert_allclose(binned[1:2], whole[1:2], rtol=1e-5)
    cut = (slice(0, 2), slice(1, 3), slice(2, 4))[: len(shape)]
    np.testing.assert_allclose(binned[cut], whole[cut], rtol=1e-5)


@pytest.mark.parametrize("shape", [(128, 96), (32, 32, 40)])
def test_a_binned_source_has_unit_variance_again(shape):
    fine = source(shape)
    binned = coarser(fine, 1, "standard", directed=False)
    window = binned.read([0] * len(shape), binned.extent)
    assert window.std((*range(1, window.ndim),)) == pytest.approx([1, 1], rel=1e-3)
    assert binned.affines[0].scale == pytest.approx(fine.affines[0].scale / 2 ** (len(shape) / 2), rel=0.05)


def test_a_target_keeps_the_scale_of_its_input_and_what_was_not_normalised_is_not():
    directed = coarser(source((64, 64), directed=True), 1, "standard", directed=True)
    assert directed.affines[0] is directed.affines[1]
    assert coarser(source_of("rates", [Image(white((64, 64)))], "none"), 2, "none", False).affines == (Affine(),) * 2


def test_a_block_half_outside_the_region_is_not_seen():
    fine = replace(source((64, 64)), region=((3, 50), (0, 64)))
    assert coarser(fine, 2, "standard", False).region == ((1, 12), (0, 16))


def test_holes_of_a_binned_image_are_filled_as_those_of_a_whole_one():
    image = white((64, 64))
    image[0, 10:20, 10:20] = np.nan
    binned = coarser(source_of("holes", [Image(image)], "standard"), 1, "standard", False)
    assert np.isfinite(binned.read((0, 0), (32, 32))).all()


def test_windows_are_cut_down_to_what_a_coarse_image_holds_and_refused_where_that_is_nothing():
    sources = [source((100, 70)), source((64, 90))]
    assert coarse_window(sources, (32, 32), 8, 0) == (32, 32)
    assert coarse_window(sources, (32, 32), 8, 1) == (32, 32)
    assert coarse_window(sources, (32, 32), 8, 2) == (16, 16)
    with pytest.raises(RecipeFault, match=r"coarse = 4.*4×4 pixels.*multiples of 8.*smaller coarse"):
        coarse_window(sources, (32, 32), 8, 4)


@pytest.mark.parametrize("order", ["random", "window"])
def test_the_stream_goes_from_coarse_to_fine_and_is_a_function_of_the_step(order):
    recipe = completed(from_table({**RECIPE, "data": {**RECIPE["data"], "order": order}}), 2)
    sources = [source((80, 96), seed) for seed in range(2)]

    def batches(levels, start=0):
        step = [start]
        stream = coarse_to_fine(sources, recipe, torch.device("cpu"), lambda: step[0], lambda: levels[step[0]])
        for step[0] in range(start, len(levels)):
            yield next(stream).clone()
        stream.close()

    levels = [2, 2, 1, 0, 0]
    seen = list(batches(levels))
    assert [tuple(batch.shape) for batch in seen] == [(4, 2, 16, 16)] * 5
    assert all(torch.equal(a, b) for a, b in zip(seen[3:], batches(levels, start=3)))
    assert all(torch.equal(a, b) for a, b in zip(seen[3:], list(batches([0] * 5))[3:]))
    assert not torch.equal(seen[2], list(batches([0] * 5))[2])


def test_a_run_that_begins_coarse_resumes_to_the_same_bits(tmp_path):
    pairs = [views((64, 72), seed=i)[1] for i in range(3)]
    recipe = from_table({**RECIPE, "training": {**RECIPE["training"], "steps": 40, "coarse": 1, "coarse_share": 0.7,
                                                "save_seconds": 0.0, "validate_every": 10}})
    for folder, stop in (("whole", None), ("parts", 23)):
        for step in run(recipe, pairs, tmp_path / folder, device="cpu"):
            if step.step == stop:
                break
    for _ in run(recipe, pairs, tmp_path / "parts", device="cpu", resume=True):
        pass
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    plain = train(pairs, recipe={**RECIPE}, steps=40, validate_every=10)
    assert plain.facts["validation"] != pytest.approx(
        float(min(line["validation"] for line in lines(tmp_path / "whole") if "validation" in line)), rel=1e-6)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_packed_windows_and_small_images_are_refused_before_anything_is_written(tmp_path):
    clean = np.random.default_rng(0).normal(size=(8, 1, 32, 32)).astype(np.float32)
    for name in ("train_input", "train_target"):
        clean.tofile(tmp_path / f"{name}.bin")
    packed = {**RECIPE, "data": {"window": [32]}, "scheme": {"name": "supervised"}}
    with pytest.raises(RecipeFault, match="packed windows; leave coarse out"):
        train([tmp_path], tmp_path / "run", packed, steps=1, coarse=1)
    with pytest.raises(RecipeFault, match="use a smaller coarse"):
        train([views((48, 40))[1]] * 2, tmp_path / "run", RECIPE, steps=1, coarse=5)
    assert not (tmp_path / "run").exists()
