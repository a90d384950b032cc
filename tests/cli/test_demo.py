"""deice demo at a toy size: every file of the contract, and a second call that only looks at what is there."""

import json

from deice.cli import run

TOY = ["--size", "192", "--training", "2", "--unseen", "2", "--frames", "4", "--coverage", "0.2", "--steps", "3"]


def test_the_road_leaves_everything_it_promises(tmp_path, capsys):
    out = tmp_path / "demo"
    assert run(["demo", "-o", str(out), *TOY]) == 0
    said = capsys.readouterr()
    assert "| deice |" in said.out
    table = json.loads((out / "table.json").read_text())
    assert {"noisy", "pointwise", "gaussian", "wiener", "deice"} <= table["methods"].keys()
    for row in table["methods"].values():
        assert row["n"] == 2
        assert {"psnr", "ssim", "cc", "frc", "se"} <= row.keys()
    assert {"even_odd_before", "even_odd_after", "removed_noise_correlation"} <= table["halves"].keys()
    for folder, count in (("denoised", 2), ("truth", 2), ("halves", 6), ("denoised_halves", 4)):
        assert len(list((out / folder).glob("*.mrc"))) == count
    page = (out / "report.html").read_text()
    assert "raw data" in page
    written = {path: path.stat().st_mtime_ns for path in (out / "denoised").iterdir()}
    assert run(["demo", "-o", str(out), *TOY]) == 0
    assert written == {path: path.stat().st_mtime_ns for path in (out / "denoised").iterdir()}
