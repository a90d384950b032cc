"""The page on membranes: its commands run one after the other, as they stand."""

import json

from test_docs import commands, run_all

PAGE = "docs/segmentation.md"


def test_the_commands_of_the_page_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = commands(PAGE, "<!-- executed -->\n```bash")
    assert len(lines) == 7
    run_all(lines, capsys)
    assert len(list(tmp_path.glob("membranes*/tomogram_*_probability.mrc"))) == 4
    assert 0 < json.loads((tmp_path / "scores.json").read_text())["mean"]["surface_dice"] <= 1
