"""The judge's figures and the tables made of them."""

import csv
import io
import math

import numpy as np
import pytest
import torch
from worlds_for_tests import structure

from deice.bench.cases import Pictures
from deice.bench.cost import Cost, metered
from deice.bench.judge import judged
from deice.bench.methods import Answer
from deice.bench.picking import Places
from deice.bench.tables import as_csv, columns_of, table_of
from deice.filters import Gaussian
from deice.image import Geometry
from deice.tables import markdown

SHAPE = (96, 96)


def pictures(seed):
    truth = torch.from_numpy(structure(SHAPE, seed))
    noise = torch.from_numpy(np.random.default_rng(seed + 50).normal(size=(2, *SHAPE)).astype(np.float32))
    halves = (truth + noise[0], truth + noise[1])
    places = Places(torch.tensor([[20.0, 20.0]]), torch.tensor([5.0]))
    return Pictures(f"p{seed}", (halves[0] + halves[1]) / 2, halves, truth, places, 2.0, Geometry())


def entries(function, seeds=(0, 1, 2)):
    found = []
    for seed in seeds:
        known = pictures(seed)
        halves = tuple(function(half, known) for half in known.halves)
        found.append(judged(known, Answer(function(known.noisy, known), halves, Cost(0.5, 2_000_000_000))))
    return found


@pytest.fixture(scope="module")
def table():
    return table_of({
        "noisy": entries(lambda image, known: image),
        "perfect": entries(lambda image, known: known.truth),
        "blurred": entries(lambda image, known: Gaussian(6).apply(image)),
        "removes half": entries(lambda image, known: image / 2),
    }, {"perfect": {"training_seconds": 3.0}})


def test_means_and_standard_errors_are_over_the_images(table):
    each = [entry["figures"]["psnr"] for entry in entries(lambda image, known: image)]
    row = table["methods"]["noisy"]
    assert row["psnr"] == pytest.approx(np.mean(each))
    assert row["se"]["psnr"] == pytest.approx(np.std(each, ddof=1) / math.sqrt(3))
    assert row["n"] == 3
    assert row["gigabytes"] == 2


def test_a_perfect_answer_is_perfect(table):
    row = table["methods"]["perfect"]
    assert row["psnr"] > 200
    assert row["ssim"] == pytest.approx(1)
    assert row["even_odd"] == pytest.approx(1)
    assert abs(row["removed_noise"]) < 0.05
    assert row["frc"] == pytest.approx(1)
    assert row["frc_gap"] >= 0
    assert row["training_seconds"] == 3


def test_structure_that_is_removed_shows_in_the_removed_noise(table):
    assert table["methods"]["noisy"]["removed_noise"] is None
    assert table["methods"]["removes half"]["removed_noise"] == pytest.approx(0.5, abs=0.05)
    assert table["methods"]["removes half"]["removed_noise_worst"] > 0.8
    assert table["methods"]["blurred"]["removed_noise"] > 0.1


def test_the_gap_to_linear_filters_is_none_for_the_noisy_and_sees_what_is_lost(table):
    assert table["methods"]["noisy"]["frc_gap"] == 0
    assert table["methods"]["removes half"]["frc_gap"] == pytest.approx(0, abs=1e-3)
    lossy = entries(lambda image, known: image - 0.9 * known.truth)
    row = table_of({"noisy": entries(lambda image, known: image), "lossy": lossy}, {})["methods"]["lossy"]
    assert row["frc_gap"] < -0.2
    assert row["frc_gap_at"] < 0.2


def test_columns_hold_something_and_every_row_stands_in_markdown_and_csv(table):
    columns = columns_of(table)
    assert "ap" in columns
    assert "frc_gap_wiener" not in columns
    text = markdown(table, columns)
    assert all(f"| {name} |" in text for name in table["methods"])
    lines = list(csv.DictReader(io.StringIO(as_csv({"0.1": table, "0.2": table}))))
    assert len(lines) == 8
    assert float(lines[0]["psnr_se"]) > 0


def test_without_truth_only_the_halves_are_judged():
    known = pictures(0)
    blind = Pictures("p", known.noisy, known.halves, None, None, None, Geometry())
    entry = judged(blind, Answer(known.noisy, known.halves, Cost()))
    assert "psnr" not in entry["figures"]
    assert entry["figures"]["even_odd"] == pytest.approx(0.5, abs=0.06)
    assert set(table_of({"noisy": [entry]}, {})["methods"]["noisy"]) >= {"even_odd", "frc_halves", "n"}


def test_cost_sees_time_and_memory():
    with metered(torch.device("cpu")) as small:
        pass
    with metered(torch.device("cpu")) as large:
        block = np.ones(40_000_000, np.uint8)
        float(block.sum())
    assert large.bytes > small.bytes + 30_000_000
    assert large.seconds > small.seconds
