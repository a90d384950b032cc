"""Ranks: several processes train the model that one would, agree on what they see, and end together."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from worlds_for_tests import views

from deice import write
from deice.errors import RankLost, RecipeFault, SaidElsewhere, UserError
from deice.ops.greys import random_greys
from deice.ops.turns import random_turns
from deice.ranks import ALONE, joined
from deice.recipe import from_table
from deice.schemes import Noise2Noise, Noise2Void, Recorrupted, Supervised
from deice.training import run

BASE = {"net": {"name": "unet", "size": 4, "depth": 1}, "data": {"window": 16},
        "training": {"batch": 8, "precision": "fp32", "validate_every": 6, "save_seconds": 0.0, "steps": 12}}


def environment(rank, world, port):
    return {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def new_store():
    """The meeting point that torchrun would hold, in this process."""
    return dist.TCPStore("127.0.0.1", free_port(), is_master=True, wait_for_workers=False)


def _in_rank(rank, world, port, work, arguments, results):
    os.environ.update(environment(rank, world, port))
    torch.set_num_threads(1)
    try:
        results.put((rank, work(*arguments), None))
    except Exception as error:
        results.put((rank, None, (type(error).__name__, str(error))))


@pytest.fixture
def in_ranks():
    """Call `work`(*arguments) in `world` processes; [(result, (kind of error, its text))] by rank."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deice.training"])

    def call(world, work, *arguments):
        results, store = context.Queue(), new_store()
        processes = [context.Process(target=_in_rank, args=(rank, world, store.port, work, arguments, results),
                                     daemon=True) for rank in range(world)]
        for process in processes:
            process.start()
        found = sorted((results.get(timeout=40) for _ in processes), key=lambda row: row[0])
        for process in processes:
            process.join(60)
        return [(result, error) for _, result, error in found]

    return call


def pairs(count=3, shape=(48, 40)):
    return [views(shape, seed=i)[1] for i in range(count)]


def trained(out, recipe, resume=False, stop=None):
    shown = []
    for step in run(from_table(recipe), pairs(), out, device="cpu", resume=resume):
        shown.append((step.step, step.loss, step.validation))
        if step.step == stop:
            break
    return shown


def with_training(**training):
    return {**BASE, "training": {**BASE["training"], **training}}


RECIPES = {
    "noise2noise": with_training(),
    "accumulated": with_training(batch=4, accumulate=2),
    "noise2void": {**with_training(contrast=0.1, brightness=0.1), "scheme": {"name": "noise2void", "share": 0.1}},
    "supervised": {**with_training(average=0.0), "scheme": {"name": "supervised"}},
}


@pytest.mark.parametrize("name", RECIPES)
def test_two_ranks_learn_what_one_learns(name, tmp_path, in_ranks):
    alone = trained(tmp_path / "alone", RECIPES[name])
    together = in_ranks(2, trained, tmp_path / "together", RECIPES[name])
    for shown, error in together:
        assert error is None
        assert shown == together[0][0]  # both ranks see the same figures
        for (step, *figures), (other, *others) in zip(alone, shown, strict=True):
            assert step == other
            assert [f is None for f in figures] == [f is None for f in others]
            assert [f for f in figures if f] == pytest.approx([f for f in others if f], rel=1e-4)
    one, two = (load_file(tmp_path / folder / "model.safetensors") for folder in ("alone", "together"))
    assert all(torch.allclose(one[name], two[name], rtol=1e-3, atol=1e-4) for name in one)
    lines = (tmp_path / "together" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [6, 10, 12]  # written once


def test_a_run_goes_on_with_another_number_of_ranks(tmp_path, in_ranks):
    whole = trained(tmp_path / "whole", BASE)
    assert in_ranks(2, trained, tmp_path / "parts", BASE, False, 10)[0][1] is None
    rest = trained(tmp_path / "parts", BASE, resume=True, stop=11)
    assert rest[0][0] == 11
    assert not [error for _, error in in_ranks(4, trained, tmp_path / "parts", BASE, True) if error]
    found = [json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1])
             for name in ("whole", "parts")]
    assert found[1]["step"] == 12
    assert found[1]["loss"] == pytest.approx(found[0]["loss"], rel=1e-4)
    assert found[1]["validation"] == pytest.approx(whole[-1][2], rel=1e-4)


def test_a_run_of_some_seconds_ends_at_the_same_step_everywhere(in_ranks):
    timed = with_training()
    del timed["training"]["steps"]
    timed["training"]["minutes"] = 0.02
    (first, _), (second, _) = in_ranks(2, trained, None, timed)
    assert first == second
    assert first[-1][0] > 0


def test_batch_norm_keeps_the_same_statistics_everywhere(in_ranks, tmp_path):
    recipe = {**with_training(average=0.0), "net": {"name": "unet", "size": 4, "depth": 1, "norm": "batch"}}
    (first, error), (second, _) = in_ranks(2, trained, None, recipe)
    assert error is None
    assert first == second


def test_a_scheme_that_prepares_volumes_is_shared_too(in_ranks):
    one, two = (in_ranks(world, prepared_run)[0] for world in (1, 2))
    assert (one[1], two[1]) == (None, None)
    assert two[0] == pytest.approx(one[0], rel=1e-4)


def prepared_run():
    recipe = {"scheme": {"name": "f2fd", "total_samples": 4, "n_bernoulli_samples": 2, "refresh": 3},
              "net": {"name": "unet", "size": 4, "depth": 1, "dropout": 0.0}, "data": {"window": 8},
              "training": {"batch": 4, "precision": "fp32", "steps": 5, "validate_every": 5}}
    steps = list(run(from_table(recipe), [views((16, 24, 24), count=1, seed=3)[1]], None, device="cpu"))
    return [steps[-1].loss, steps[-1].validation]


def faulty(which):
    with joined("cpu") as ranks:
        with ranks.together():
            if ranks.rank in which:
                raise RecipeFault(f"found by rank {ranks.rank}")
        return "went on"


@pytest.mark.parametrize("which", [[0], [1], [0, 1]])
def test_a_fault_of_one_rank_is_said_by_one_and_ends_all(which, in_ranks):
    errors = [error for _, error in in_ranks(2, faulty, which)]
    kinds = sorted(kind for kind, _ in errors)
    assert kinds == [RecipeFault.__name__, SaidElsewhere.__name__]
    said = next(rank for rank, (kind, _) in enumerate(errors) if kind == "RecipeFault")
    assert said in which


def faulty_later():
    with joined("cpu") as ranks:
        ranks.mean([1.0])
        if ranks.rank == 1:
            raise UserError("its disk is full")
        ranks.mean([2.0])


def test_a_fault_in_the_midst_of_the_work_is_said_by_its_rank_alone(in_ranks):
    (_, first), (_, second) = in_ranks(2, faulty_later)
    assert second == ("UserError", "its disk is full")
    assert first == (RankLost.__name__, "")


def test_a_batch_that_cannot_be_shared_is_refused_in_one_line(in_ranks):
    errors = [error for _, error in in_ranks(2, trained, None, with_training(batch=5))]
    assert sorted(kind for kind, _ in errors) == ["RecipeFault", "SaidElsewhere"]
    assert any("a batch of 5 windows for 2 ranks" in text and "--batch 6" in text for _, text in errors)


def written_halves(folder):
    folder.mkdir()
    for number, noisy in enumerate(pairs()):
        for name, half in zip(("EVN", "ODD"), noisy):
            write(folder / f"m{number}_{name}.mrc", half)
    return folder


def command(port, rank, *words):
    surroundings = {**os.environ, **environment(rank, 2, port), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "deice", "train", *map(str, words), "--device", "cpu"],
                            env=surroundings, stderr=subprocess.PIPE, text=True)


def test_the_command_line_says_a_fault_once_and_ends_with_exit_code_2_everywhere(tmp_path):
    folder = written_halves(tmp_path / "halves")
    (folder / "m1_ODD.mrc").unlink()
    store = new_store()
    ranks = [command(store.port, rank, folder, "-o", tmp_path / "run", "--steps", 5) for rank in range(2)]
    said = "".join(process.communicate(timeout=100)[1] for process in ranks)
    assert [process.returncode for process in ranks] == [2, 2]
    assert said.count("deice:") == 1
    assert "m1_EVN.mrc" in said
    assert not (tmp_path / "run").exists()


def test_a_killed_rank_ends_the_other_with_a_line_and_what_was_saved_stays(tmp_path):
    folder = written_halves(tmp_path / "halves")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[net]\nname='unet'\nsize=4\ndepth=1\n[data]\nwindow=[16]\n[training]\nsteps=100000\nbatch=4\n"
                      "save_seconds=0.0\nvalidate_every=20\nprecision='fp32'\n")
    store = new_store()
    ranks = [command(store.port, rank, folder, "-o", tmp_path / "run", "--recipe", recipe) for rank in range(2)]
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and not (tmp_path / "run" / "model.safetensors").exists():
        time.sleep(0.02)
    ranks[1].send_signal(signal.SIGKILL)
    said = ranks[0].communicate(timeout=60)[1]
    ranks[1].communicate()
    assert ranks[0].returncode == 1
    assert said.count("another rank of this run has ended") == 1
    assert "Traceback" not in said
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("scheme", [Noise2Noise(), Noise2Void(share=0.2), Supervised(), Recorrupted()], ids=str)
def test_the_parts_of_a_task_are_those_of_the_whole(scheme):
    from deice.learner import asked
    from deice.ranks import Ranks

    space = (8, 8, 8) if isinstance(scheme, Recorrupted) else (12, 12)
    batch = torch.randn(6, 2, *space)
    whole = asked(scheme, batch, torch.Generator().manual_seed(5))
    for world in (2, 3):
        for rank in range(world):
            part = asked(scheme, batch[rank::world], torch.Generator().manual_seed(5), Ranks(rank, world))
            rows = len(whole.input) // 6
            own = torch.arange(len(whole.input)).reshape(6, rows)[rank::world].flatten()
            assert torch.allclose(part.input, whole.input[own], atol=1e-6)
            assert torch.allclose(part.target, whole.target[own], atol=1e-6)
            assert (part.weight is None) == (whole.weight is None)
            assert part.weight is None or torch.equal(part.weight, whole.weight[own])


def test_turns_and_greys_of_a_part_are_those_of_the_whole():
    batch = torch.randn(8, 2, 6, 6)
    for change in (lambda b, **k: random_turns(b, 2, (-2, -1), torch.Generator().manual_seed(1), **k),
                   lambda b, **k: random_greys(b, 0.2, 0.3, torch.Generator().manual_seed(1), **k)):
        whole = change(batch)
        for rank in range(4):
            assert torch.equal(change(batch[rank::4], share=(rank, 4)), whole[rank::4])


def test_alone_nothing_is_exchanged(monkeypatch):
    monkeypatch.setattr("deice.ranks.dist", None)
    gradients = [torch.ones(3)]
    ALONE.average(gradients)
    ALONE.copy_of_first(gradients)
    assert ALONE.mean([1.0, 2.0]) == [1.0, 2.0]
    assert (ALONE.largest(3.0), ALONE.of_first(4.0), ALONE.first) == (3.0, 4.0, True)
    assert np.array_equal(ALONE.share([1, 2]), [1, 2])


def averaged():
    with joined("cpu") as ranks:
        tensors = [torch.full((2, 3, 4, 4), float(ranks.rank)).contiguous(memory_format=torch.channels_last),
                   torch.arange(3.0) * ranks.rank]
        ranks.average(tensors)
        return [tensor.tolist() for tensor in tensors], ranks.largest(ranks.rank), ranks.of_first(10 + ranks.rank)


def test_tensors_of_any_layout_are_averaged_and_facts_agreed_upon(in_ranks):
    for (found, largest, of_first), error in in_ranks(4, averaged):
        assert error is None
        assert np.all(np.array(found[0]) == 1.5)
        assert found[1] == [0.0, 1.5, 3.0]
        assert (largest, of_first) == (3.0, 10.0)
