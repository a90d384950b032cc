"""deice train: flags that stand over the recipe, the list of nets, and one line for each fault."""

import json

import pytest
from worlds_for_tests import views

from deice import write
from deice.cli import run
from deice.nets import SHOWN
from deice.recipe import read_recipe

TOY = ["--steps", "10", "--net", "unet:size=2,depth=1", "--patch", "16", "--batch", "2", "--precision", "fp32"]


@pytest.fixture
def halves(tmp_path):
    for number in range(2):
        for name, half in zip(("EVN", "ODD"), views((48, 40), seed=number)[1]):
            write(tmp_path / "halves" / f"m{number}_{name}.mrc", half)
    return str(tmp_path / "halves")


def test_nets_are_listed_with_what_they_cost(capsys):
    assert run(["train", "--net", "list"]) == 0
    said = capsys.readouterr()
    head, *rows = said.out.splitlines()
    assert head.split()[0] == "--net"
    assert [row.split()[0].split(":")[0] for row in rows] == [name for name, _ in SHOWN]
    assert rows[0].split() == ["residual_cnn", "93,089", "25", "92,736"]


def test_a_sum_of_losses_and_the_curves_for_tensorboard(halves, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["train", halves, "-o", str(out), *TOY, "--loss", "mse + 0.1*fourier", "--tensorboard"]
    assert run(words) == 0
    said = capsys.readouterr().err
    assert said.count("loss fourier is biased under the noisy targets of noise2noise") == 1
    assert read_recipe(out / "recipe.toml").training.loss == "mse+0.1*fourier"
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert set(last["terms"]) == set(last["validation_terms"]) == {"mse", "fourier"}
    assert list((out / "tensorboard").glob("events.*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [(["-o", "OUT", "--loss", "mse+0.1*furier"], "did you mean 'fourier'"),
     (["-o", "OUT", "--loss", "mse+-1*l1"], "the weight of l1 is '-1'"),
     (["-o", "OUT", "--loss", "l1+ssim", "--scheme", "noise2void"], "loss ssim judges whole windows"),
     (["-o", "OUT", "--order", "randm"], "order is 'randm'; expected one of random, window"),
     ([], "no -o; expected the folder of the run"),
     (["-o", "OUT", "--net", "lists"], "net is 'lists'; expected one of")],
)
def test_a_fault_is_one_line_and_nothing_is_written(halves, tmp_path, capsys, words, message):
    out = tmp_path / "run"
    assert run(["train", halves, *TOY[:2], *TOY[4:], *(str(out) if word == "OUT" else word for word in words)]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said.splitlines()[-1]
    assert not out.exists()
