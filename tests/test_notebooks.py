"""The notebooks run from top to bottom, find what they say, and are stored as they ran."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
LARGEST = 300_000  # bytes, with outputs
RUN = """
import json, pathlib, sys
names = {}
for number, cell in enumerate(json.loads(pathlib.Path(sys.argv[1]).read_text("utf-8"))["cells"]):
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
print(json.dumps({name: names[name] for name in sys.argv[2:]}))
"""


def ran(name: str, folder: Path, *wanted: str) -> dict:
    """Run the notebook's code at its small size in a fresh Python; the values of the variables `wanted`."""
    (book,) = (path for path in BOOKS if path.stem == name)
    small = os.environ | {"DEICE_NOTEBOOK_SIZE": "small", "MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", RUN, str(book), *wanted],
                          env=small, cwd=folder, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    return json.loads(done.stdout.splitlines()[-1])


def test_evaluate_noise2noise(tmp_path):
    table = ran("evaluate_noise2noise", tmp_path, "table")["table"]
    assert table["Noise2Noise"]["even/odd"] > 3 * table["noisy"]["even/odd"]
    assert table["Noise2Noise"]["cc"] > table["noisy"]["cc"]
    assert table["inventor"]["even/odd"] == pytest.approx(1)
    assert table["inventor"]["removed"] > table["Gaussian, 2 pixels"]["removed"]


def test_unet_analysis(tmp_path):
    found = ran("unet_analysis", tmp_path, "halo", "nearly_all", "dead", "invented")
    assert list(found["dead"]) == ["down 0", "down 1", "down 2", "down 3", "up 2", "up 1", "up 0"]
    assert 0 < found["nearly_all"] <= found["halo"]
    assert found["invented"] > 0


def test_losses_compared(tmp_path):
    found = ran("losses_compared", tmp_path, "liked", "table")
    for loss, (clean, noisy) in found["liked"].items():
        assert clean == pytest.approx(1), loss
        assert (abs(noisy - 1) > 0.3) == (loss in ("fourier", "ssim")), loss
    assert len(found["table"]) == 6
    assert all(row["PSNR"] > 15 for row in found["table"].values())


@pytest.mark.parametrize("book", BOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_ran_in_order_without_errors_and_is_small(book):
    text = book.read_text(encoding="utf-8")
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert len(text.encode()) < LARGEST
    said = json.dumps([output.get("text", "") for output in outputs])
    assert not re.search(r"(?<![\w.])/(?:home|root|tmp|work)/", said)
