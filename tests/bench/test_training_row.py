"""The row of training at scale: files that are what they should be, workers that fail are named, ratios."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from deice import read
from deice.bench.speed.answer import Answer
from deice.bench.speed.training import COLD, MEMORY, SIZES, Measured, _compared, _wait, row, written
from deice.errors import UserError


def test_files_are_random_readable_and_unlike_each_other(tmp_path):
    paths = written(tmp_path / "halves", Measured(4 * 2 * 4 * 60 * 70 / 1e9, (60, 70)))
    pictures = [np.asarray(read(path)) for path in paths]
    assert [path.name for path in paths[:2]] == ["m0000_EVN.mrc", "m0000_ODD.mrc"]
    assert len(paths) == 8
    for number, picture in enumerate(pictures):
        assert picture.shape == (60, 70)
        assert picture.std() == pytest.approx(1, abs=0.05)
        assert all(abs(np.corrcoef(picture.ravel(), other.ravel())[0, 1]) < 0.1 for other in pictures[:number])


def test_files_end_when_the_time_does_but_two_scenes_are_there(tmp_path):
    assert len(written(tmp_path / "halves", Measured(0.01, (60, 70), writing=0.0))) == 4


def test_files_that_do_not_fit_on_the_disk_are_refused_at_once(tmp_path):
    with pytest.raises(UserError, match="GB are free"):
        written(tmp_path / "halves", Measured(1e9, (4096, 4096)))


def test_a_worker_that_fails_is_named_and_one_that_hangs_is_ended(tmp_path):
    for code, patience in (("raise SystemExit('no GPU left')", 30), ("import time; time.sleep(600)", 0.2)):
        answer, log = Answer(COLD), tmp_path / "ready_2.log"
        with log.open("w") as said:
            process = subprocess.Popen([sys.executable, "-c", code], stdout=said, stderr=said)
        _wait((process, tmp_path / "ready_2.json"), answer, patience)
        assert process.poll() is not None
        assert not answer.lines
        assert answer.notes[0].startswith("ready_2 has no result: exit code ")
    assert _compared(answer, SIZES["small"]).failure == answer.notes[0]


def test_ratios_are_those_to_memory_and_to_one_gpu():
    def line(windows_s, batch=4):
        return {"windows_s": windows_s, "batch": batch, "anonymous": 1000 * windows_s}

    lines = {MEMORY: line(100), COLD: line(97), "1 GPU, a batch for each": line(90),
             "2 GPUs, a batch for each": line(171, 8), "2 GPUs, a batch for all": line(135)}
    found = _compared(Answer(COLD, dict(lines)), Measured(1.0, (10, 10), gpus=(1, 2, 4)))
    assert found.ratios == pytest.approx({MEMORY: 0.97, "2 GPUs, a batch for each": 1.9,
                                          "2 GPUs, a batch for all": 1.5})
    assert found.lines[COLD]["ms"] == pytest.approx(1e3 * 4 / 97)
    assert found.facts["anonymous_memory_beyond_the_small_set"] == pytest.approx(-3000)


@pytest.mark.slow
def test_the_whole_row_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setitem(SIZES, "small", replace(SIZES["small"], gpus=(1, 2), seconds=1.0, warm=0.1))
    found = row(tmp_path / "work", "small", "cpu")
    assert found.notes == []
    assert set(found.ratios) == {MEMORY, "2 GPUs, a batch for each", "2 GPUs, a batch for all"}
    assert all(line["windows_s"] > 0 for line in found.lines.values())
    assert not (tmp_path / "work").exists()
