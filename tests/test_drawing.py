"""Training on a world that is drawn: the loop is the same, files are none, and a run that was stopped goes on."""

from dataclasses import dataclass
from itertools import islice

import pytest
import torch

from deice.checkpoint import load_model
from deice.cli import run as deice
from deice.drawing import drawn_batch, drawn_batches
from deice.errors import RecipeFault
from deice.recipe import Recipe, completed, from_table, merged
from deice.training import run
from deice.worlds.drawn import WORLDS, Pictures, Tomograms

CPU = torch.device("cpu")
TABLE = {
    "data": {"world": "pictures", "window": [32]},
    "scheme": {"name": "supervised", "directed": True},
    "net": {"name": "unet", "size": 4, "depth": 2, "bias": False},
    "training": {"steps": 4, "batch": 4, "validate_every": 2, "validation_batches": 1, "seed": 3},
}


@dataclass(frozen=True)
class FewPictures(Pictures):
    """The same world with few proteins: they take long to build."""

    proteins: int = 6


@pytest.fixture(autouse=True)
def few(monkeypatch) -> None:
    monkeypatch.setitem(WORLDS, "pictures", FewPictures)


def recipe(**training) -> Recipe:
    return from_table(TABLE | {"training": TABLE["training"] | training})


def test_batches_differ_and_are_found_again_from_any_position():
    complete = completed(recipe(), 2)
    batches = list(islice(drawn_batches(complete, CPU, 0), 3))
    assert batches[0].shape == (4, 2, 32, 32)
    assert not torch.equal(batches[1], batches[2])
    assert torch.equal(batches[2], next(drawn_batches(complete, CPU, 2)))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_batch_that_one_would_have(world):
    complete = completed(recipe(), 2)
    windows = 2 * FewPictures.together + 4
    alone = drawn_batch(complete, CPU, 1, 5, windows)
    for rank in range(world):
        part = drawn_batch(complete, CPU, 1, 5, windows, rank, world)
        assert torch.equal(part, alone[rank::world])


@pytest.mark.parametrize("kind", [Pictures, Tomograms])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_each_rank_draws_its_own_groups_only(kind, world, monkeypatch):
    drawn = []

    @dataclass(frozen=True)
    class Counted(kind):
        def draw(self, count, window, key, device):
            drawn.append((count, key))
            return (*torch.rand(2, count, 1, *window, generator=torch.Generator().manual_seed(key[-1])), {})

    monkeypatch.setitem(WORLDS, "pictures", Counted)
    windows = 4 * kind.together
    alone = drawn_batch(recipe(), CPU, 1, 5, windows)
    drawn.clear()
    for rank in range(world):
        assert torch.equal(drawn_batch(recipe(), CPU, 1, 5, windows, rank, world), alone[rank::world])
    assert sorted(drawn) == [(kind.together, (1, 5, group)) for group in range(4)]


def test_a_run_that_was_stopped_ends_with_the_bits_of_one_that_was_not(tmp_path):
    complete = recipe(steps=20, validate_every=10, save_seconds=1e-9)
    for _ in run(complete, (), tmp_path / "whole"):
        pass
    stopped = run(complete, (), tmp_path / "stopped")
    assert next(step.step for step in stopped if step.step == 12)  # its last state is that of step 10
    stopped.close()
    for _ in run(complete, (), tmp_path / "stopped", resume=True):
        pass
    whole, resumed = (load_model(tmp_path / name).module.state_dict() for name in ("whole", "stopped"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_training_lowers_the_validation():
    length = {"steps": 50, "batch": 8, "validate_every": 5, "validation_batches": 4}
    table = {"data": {"window": [64]}, "training": length | {"lr": 2e-3, "average": 0.8, "seed": 0}}
    steps = run(from_table(merged(TABLE, table)), (), None)
    found = [step.validation for step in steps if step.validation]
    assert found[-1] < 0.9 * found[0]


@pytest.mark.parametrize(("table", "told"), [
    ({"data": {"world": "picture"}}, "expected one of pictures"),
    ({"data": {"world": "pictures", "inputs": ["a.mrc"]}}, "expected one of them"),
    ({"scheme": {"name": "noise2noise"}}, "expected the scheme supervised with directed = true"),
    ({"scheme": {"name": "supervised"}}, "expected the scheme supervised with directed = true"),
    ({"training": {"epochs": 2.0, "batch": 2}}, "expected steps or minutes"),
    ({"training": {"steps": 2, "batch": 2, "coarse": 1}}, "drawn at one size"),
    ({"data": {"world": "pictures", "window": [8]}}, "16 pixels or more"),
])  # fmt: skip
def test_what_a_world_cannot_give_is_refused_in_one_line(table, told):
    complete = from_table(TABLE | table)
    with pytest.raises(RecipeFault, match=told) as fault:
        next(run(complete, complete.data.inputs, None))
    assert "\n" not in str(fault.value)


def test_the_command_line_trains_without_files(tmp_path, capsys):
    written = tmp_path / "recipe.toml"
    written.write_text('[data]\nworld = "pictures"\nwindow = [32]\n[scheme]\nname = "supervised"\ndirected = true\n'
                       '[net]\nname = "unet"\nsize = 4\ndepth = 2\n[training]\nsteps = 2\nbatch = 2\n'
                       'validation_batches = 1\n')  # fmt: skip
    assert deice(["train", "--recipe", str(written), "-o", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "model.safetensors").exists()
    written.write_text(written.read_text().replace("directed = true", "directed = false"))
    assert deice(["train", "--recipe", str(written), "-o", str(tmp_path / "other")]) == 2
    assert "expected the scheme supervised" in capsys.readouterr().err.splitlines()[-1]
