"""deice report, as typed."""

import json
import subprocess
import sys

import pytest

from deice.cli import run


@pytest.fixture
def folder(tmp_path):
    rows = [{"step": step, "loss": 1 / step, "lr": 1e-3, "seconds": step} for step in range(1, 30)]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "run"


def test_a_run_becomes_one_file(folder, tmp_path, capsys):
    assert run(["report", str(folder), "-o", str(tmp_path / "new" / "report.html")]) == 0
    assert "MB" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.html"]
    text = (tmp_path / "new" / "report.html").read_text("utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "Extract particles from the raw data, never from denoised images" in text


@pytest.mark.parametrize(
    ("where", "output", "said"),
    [("nowhere", "report.html", "no such folder"), ("empty", "report.html", "nothing to report"),
     ("run", "/proc/none/report.html", "cannot be written")],
)
def test_bad_input_is_one_line_and_exit_code_2(folder, tmp_path, capsys, where, output, said):
    (tmp_path / "empty").mkdir()
    assert run(["report", str(tmp_path / where), "-o", str(tmp_path / output)]) == 2
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert said in last
    assert not (tmp_path / "report.html").exists()


def test_the_help_says_where_particles_come_from(capsys):
    assert run(["report", "--help"]) == 0
    assert "never from denoised images" in " ".join(capsys.readouterr().out.split())


def test_the_verb_imports_neither_torch_nor_matplotlib_before_it_is_called():
    code = "import deice.cli.report, deice.cli.pack, sys; print({'torch', 'matplotlib', 'jinja2'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
