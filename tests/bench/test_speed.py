"""deice bench speed and stream, at toy size on the CPU: right before fast, kept, resumed, compared."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deice.bench.speed import Plan, run
from deice.bench.speed import legs as legs_module
from deice.bench.speed import operations as operations_module
from deice.bench.speed.__main__ import main
from deice.bench.speed.answer import Answer
from deice.bench.speed.clock import Timed, ceilings, timed
from deice.bench.speed.disk import from_disk, make_files, on_cores, read_files, refuse_little_room
from deice.bench.speed.events import write_eer
from deice.bench.speed.files import Batch, topaz_line
from deice.bench.speed.operations import count_flops, line_of, measure, relative
from deice.bench.speed.paths import AUTOTUNED, BASELINES, COMPILED, DEFAULT, OURS, Operation, Running, ours
from deice.bench.speed.plain import plain_module
from deice.bench.speed.rows import LIMITS, NETS, ROWS, Row
from deice.bench.speed.splitting import KINDS, movies_in
from deice.cli import run as command
from deice.errors import BatchFailure, RecipeFault, UserError
from deice.io import read_movie

CPU = torch.device("cpu")
ON_CPU = Plan(scale="small", device="cpu")
TINY = Operation(NETS[0], (1, 24, 32), True, (2, 17, 23), LIMITS[0], AUTOTUNED)


def in_folder(plan: Plan, folder: Path) -> Plan:
    return replace(plan, memory=folder / "memory", disk=folder / "disk")


@pytest.fixture
def plan(tmp_path) -> Plan:
    return in_folder(ON_CPU, tmp_path)


def test_the_plain_nets_compute_what_ours_compute():
    for net, shape in zip(NETS, ((2, 1, 19, 27), (2, 1, 24, 32), (1, 1, 8, 12, 20))):
        operation = Operation(net, (1, *shape[2:]), False, shape, LIMITS[0], COMPILED)
        weights = operation.weights(0)
        module = net.build(len(shape) - 2)
        module.load_state_dict(weights)
        picture = torch.randn(shape)
        torch.testing.assert_close(module(picture), plain_module(net, len(shape) - 2, weights)(picture))


def test_an_operation_is_checked_and_compared_with_every_baseline():
    answer = measure(TINY, CPU, 2, compiled=False)
    assert answer.failure == ""
    assert 0 < answer.error < LIMITS[0][1]
    assert set(answer.lines) >= {*list(BASELINES)[:2], OURS}
    assert answer.ratios["default PyTorch"] == pytest.approx(answer.lines[DEFAULT]["ms"] / answer.lines[OURS]["ms"])
    best = min(answer.lines[name]["ms"] for name in BASELINES if name in answer.lines)
    assert answer.ratios["best PyTorch"] == pytest.approx(best / answer.lines[OURS]["ms"])


@pytest.mark.parametrize("fault", ["value", "gradient", "nan"])
def test_an_operation_that_is_wrong_gets_no_speed(fault, monkeypatch):
    def wrong(operation, weights, device, as_trained=False) -> Running:
        running = ours(operation, weights, device)

        def answer(picture):
            found = running.answer(picture).clone()
            found[:, :, -1] = torch.nan if fault == "nan" else -found[:, :, -1]  # a row at the edge
            return running.answer(picture) if fault == "gradient" else found

        def step(picture, target):
            running.step(picture, target)
            if fault == "gradient":
                list(running.module.parameters())[12].grad.mul_(1.3)

        return Running(running.module, answer, step)

    monkeypatch.setattr(operations_module, "ours", wrong)
    answer = measure(TINY, CPU, 2, compiled=False)
    assert "relative error" in answer.failure
    assert answer.lines == {}
    json.dumps(answer.kept(), allow_nan=False)


def test_a_path_whose_start_takes_the_whole_job_has_no_pace_over_it():
    found = Timed(10.0, 0.1, 30.0, 1 << 20, 5)
    assert line_of(found, 1e9, 1.0)["job_ms"] == pytest.approx(10 * 120 / 90)
    assert "job_ms" not in line_of(replace(found, start_up=130.0), 1e9, 1.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_every_operation_is_right_and_its_ceilings_are_measured(tmp_path):
    document = run(tmp_path / "out", Plan(rows=("cnn", "unet"), scale="small", device="cuda", compiled=False))
    assert document["left"] == []
    for name in ("cnn_inference", "cnn_training", "unet_training", "unet3d_training"):
        assert document[name]["facts"]["matrix_tflops"] > document[name]["lines"][OURS]["tflops"] > 0
        assert document[name]["lines"][OURS]["gigabytes"] > 0


def test_flops_of_the_residual_cnn_are_those_of_its_convolutions():
    inference = replace(TINY, shape=(4, 16, 16), training=False)
    layers = [(1, 32), *[(32, 32)] * 10, (32, 1)]
    assert count_flops(inference) == 4 * 256 * 2 * 9 * sum(a * b for a, b in layers)
    assert count_flops(replace(inference, training=True)) == pytest.approx(3 * count_flops(inference), rel=0.02)


def test_relative_errors():
    ones = torch.ones(100)
    assert relative([ones * 1.1], [ones]) == pytest.approx(0.1)
    assert relative([ones * 1e-3], [ones * 0], least=1.0) == pytest.approx(1e-2)
    assert not relative([torch.full((3,), torch.nan)], [torch.ones(3)]) <= 1e9


def test_times_are_medians_and_the_ceilings_are_positive():
    seen = []
    found = timed(seen.append, CPU, 5, warm_up=2)
    assert seen == [0, 1, 0, 1, 2, 3, 4]
    assert (found.calls, found.ms >= 0) == (5, True)
    assert all(value > 0 for value in ceilings(CPU, 2).values())


def test_rows_are_kept_and_the_tables_follow_them(tmp_path, plan):
    plan = replace(plan, rows=("cnn_inference", "split_int16"))
    document = run(tmp_path / "out", plan)
    assert document["left"] == []
    work = document["cnn_inference"]
    assert document["split_int16"]["ratio"]["reading the bytes"] > 0
    assert set(work) >= {"ours_ms", "baseline", "ratio", "error"}
    assert work["baseline"][DEFAULT] > 0
    assert document == json.loads((tmp_path / "out" / "speed.json").read_text())
    page = (tmp_path / "out" / "speed.md").read_text()
    assert "| residual CNN, inference, patches |" in page
    assert "reading the bytes" in page
    lines = list(csv.DictReader((tmp_path / "out" / "speed.csv").read_text().splitlines()))
    assert {line["row"] for line in lines} == {"cnn_inference", "split_int16"}
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "rows").iterdir()}
    assert run(tmp_path / "out", plan) == document
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "rows").iterdir()}
    assert not list((tmp_path / "disk").glob("*/*"))


def test_a_wrong_row_and_a_failing_one_are_named_and_the_others_done(tmp_path, plan, monkeypatch):
    def failing(site):
        raise UserError("no room; expected some")

    rows = (Row("wrong", "a wrong one", lambda site: Answer(OURS, error=0.5, failure="off by 0.5"), {"x": 2.0}, 1),
            Row("fails", "a failing one", failing, {}, 1),
            Row("good", "a good one", lambda site: Answer(OURS, {OURS: {"ms": 2.0}}, {"x": 3.0}), {"x": 2.0}, 1))
    monkeypatch.setattr(legs_module, "ROWS", rows)
    monkeypatch.setattr("deice.bench.speed.rows.ROWS", rows)
    with pytest.raises(BatchFailure) as failed:
        run(tmp_path / "out", plan)
    assert dict(failed.value.failures) == {"wrong": "off by 0.5", "fails": "UserError: no room; expected some"}
    page = (tmp_path / "out" / "speed.md").read_text()
    assert "| a wrong one | no speed | | | | wrong: off by 0.5 |" in page
    assert "| a good one | 2.000 ms | x | 3.00 | 2 | reached |" in page
    document = json.loads((tmp_path / "out" / "speed.json").read_text())
    assert document["left"] == ["wrong", "fails"]
    assert document["wrong"] == {"failure": "off by 0.5", "error": 0.5}


def test_a_leg_begins_no_row_that_would_not_fit(tmp_path, plan):
    document = run(tmp_path / "out", replace(plan, rows=("cnn_inference",), minutes=0.01))
    assert document["left"] == ["cnn_inference"]
    assert "cnn_inference" not in document


def test_from_files_to_files_in_memory_and_on_the_disk(tmp_path, plan):
    plan = replace(plan, rows=("files_cnn",), count=2, size=(64, 80))
    work = run(tmp_path / "out", plan)
    memory, disk = work["files_cnn_memory"], work["files_cnn_disk"]
    assert {"ours, deice denoise as a command", "copying the files"} <= set(memory["baseline"])
    assert memory["lines"]["ours, deice denoise as a command"]["start_up_s"] > 0
    assert any("no Topaz here" in note for note in memory["notes"])
    assert any("network" in note for note in memory["notes"])
    assert disk["ratio"]["copying the files"] > 0
    assert not list((tmp_path / "memory").iterdir())


def test_topaz_is_timed_by_its_command_without_its_start(tmp_path):
    """A stand-in for Topaz's Python: half a second to start, a tenth a file."""
    stand_in = tmp_path / "python"
    stand_in.write_text("#!/bin/sh\nsleep 0.5\nfor word; do case $word in *.mrc) sleep 0.1;; esac; done\n")
    stand_in.chmod(0o755)
    line = topaz_line(stand_in, Batch(tmp_path, (32, 32), 4), CPU, 3)
    assert line["ms"] == pytest.approx(100, rel=0.5)
    assert line["start_up_s"] == pytest.approx(0.5, rel=0.5)


def test_files_of_a_measurement_are_real_numbers_of_their_own(tmp_path):
    def first(path):
        path.write_bytes(b"h" * 8 + np.arange(1000, dtype=np.int16).tobytes())

    paths = make_files(tmp_path, ["a", "b", "c"], first, 8, np.dtype(np.int16))
    content = [path.read_bytes() for path in paths]
    assert {len(one) for one in content} == {2008}
    assert all(one[:8] == b"h" * 8 for one in content)
    assert content[1] != content[2]
    assert read_files(paths, 2) == 3 * 2008
    with from_disk(paths) as found:
        read_files(paths, 1)
    assert found["seconds"] > 0
    with pytest.raises(UserError, match="GB are needed"):
        refuse_little_room(tmp_path, 1 << 60)
    with on_cores(1):
        import os

        assert len(os.sched_getaffinity(0)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_movies_of_every_kind_can_be_read(kind, tmp_path):
    paths = movies_in(tmp_path, kind, (5, 32, 48), 2)
    for path in paths:
        movie = read_movie(path)
        assert movie.views.shape == (5, 32, 48)
        assert np.asarray(movie.views[3]).std() > 0


def test_the_electrons_of_an_eer_movie_are_where_they_were_put(tmp_path):
    write_eer(tmp_path / "movie.eer", 3, (64, 96), 0.05, seed=3)
    fractions = read_movie(tmp_path / "movie.eer").views
    counts = np.stack([np.asarray(fractions[number]) for number in range(3)])
    assert counts.max() == 1
    assert counts.mean() == pytest.approx(0.05, rel=0.2)
    generator = np.random.default_rng(3)
    np.testing.assert_array_equal(counts[0], generator.random((64, 96), np.float32) < 0.05)


def test_the_stream_beside_raw_reads(tmp_path, plan):
    document = run(tmp_path / "out", replace(plan, door="stream", rows=("load",)))
    for work in (document["load_random"], document["load_window"]):
        assert work["ratio"]["raw reads"] > 0
        assert work["facts"]["threads"] == 4
    assert "window order" in (tmp_path / "out" / "stream.md").read_text()


def test_bad_input_gets_one_clear_line(tmp_path, capsys):
    for words, said in ((["--rows", "nix"], "row 'nix' is unknown"), (["--minutes", "-1"], "minutes is -1"),
                        (["--size", "8", "8"], "size is (8, 8)"), (["--topaz", "/nowhere", "--rows", "files_cpu"],
                                                                   "no program there")):
        code = command(["bench", "speed", "-o", str(tmp_path / "out"), "--scale", "small", "--device", "cpu",
                        "--memory", str(tmp_path), *words])
        assert code in (2, 3)
        assert said in capsys.readouterr().err
    for count in ("0", "x"):
        assert command(["bench", "speed", "-o", str(tmp_path / "out"), "--count", count]) == 2


def test_the_command_prints_its_tables_and_names_every_row_in_its_help(tmp_path, capsys):
    words = ["-o", str(tmp_path / "out"), "--scale", "small", "--device", "cpu", "--rows", "cnn_inference"]
    assert command(["bench", "speed", *words]) == 0
    assert "residual CNN, inference, patches" in capsys.readouterr().out
    assert main([*words, "--minutes", "0"]) == 0
    for door in ("speed", "stream"):
        assert command(["bench", door, "--help"]) == 0
        shown = capsys.readouterr().out
        assert all(row.name in shown for row in ROWS if row.door == door)


def test_plans_are_checked():
    for wrong in ({"scale": "huge"}, {"rows": ("x",)}, {"minutes": -1.0}, {"count": 0}, {"size": (4, 4)}):
        with pytest.raises(RecipeFault):
            Plan(**wrong)
