"""deice segment from the command line: files written, kept, judged, and every fault in one line."""

import json
import re

import mrcfile
import numpy as np
import pytest

from deice import Geometry, read, train, write
from deice.cli import run

GEOMETRY = Geometry((20.0, 20.0, 20.0), origin=(3.0, 4.0, 5.0))


def wall(seed, noise=0.4):
    """(volume, labels): a dark wall of 60 Å across the volume."""
    labels = np.zeros((12, 30, 34), np.int8)
    labels[:, :, 10 + 3 * seed : 13 + 3 * seed] = 1
    return (np.random.default_rng(seed).normal(0, noise, labels.shape) - labels).astype(np.float32), labels


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Two tomograms, one of them as two halves, and their labels."""
    for number, name in enumerate(("a", "b")):
        volume, labels = wall(number)
        write(tmp_path / "labels" / f"{name}.mrc", labels, GEOMETRY, int8=True)
        if name == "a":
            write(tmp_path / "tomograms" / "a.mrc", volume, GEOMETRY)
        else:
            write(tmp_path / "tomograms" / "b_EVN.mrc", volume, GEOMETRY)
            write(tmp_path / "tomograms" / "b_ODD.mrc", wall(number)[0], GEOMETRY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def segmented(capsys, *arguments):
    """(exit code, stdout, stderr)."""
    code = run(["segment", *(str(a) for a in arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_labels_probabilities_and_scores(world, capsys):
    code, out, _ = segmented(capsys, "tomograms", "-o", "out", "--truth", "labels", "--json", "scores.json")
    assert code == 0
    assert sorted(p.name for p in (world / "out").iterdir()) == [
        "a.mrc", "a_probability.mrc", "b.mrc", "b_probability.mrc"]  # fmt: skip
    figures = json.loads((world / "scores.json").read_text())
    assert [row["name"] for row in figures["tomograms"]] == ["a", "b"]
    for number, row in enumerate(figures["tomograms"]):
        labels = np.asarray(read(f"out/{row['name']}.mrc", "zyx"))
        truth = wall(number)[1]
        both = 2 * int((labels * truth).sum()) / (int(labels.sum()) + int(truth.sum()))
        assert row["dice"] == pytest.approx(both)
        assert row["dice"] > 0.7
        assert row["surface_dice"] > 0.9
        assert row["share"] == pytest.approx(labels.mean())
        assert f"| {row['name']} | {row['dice']:.3f} |" in out
    assert figures["mean"]["dice"] == pytest.approx(np.mean([row["dice"] for row in figures["tomograms"]]))
    assert figures["se"]["dice"] > 0
    assert figures["tolerance"] == 20
    assert re.search(r"\| mean \| \d\.\d{3} ± \d\.\d{3} \|", out)
    with mrcfile.open("out/a.mrc") as file:
        assert file.data.dtype == np.int8
        assert set(np.unique(file.data)) == {0, 1}
        assert file.voxel_size.x == pytest.approx(20)
        assert file.header.origin.x == pytest.approx(3)
    with mrcfile.open("out/a_probability.mrc") as file:
        assert file.data.dtype == np.float32
        assert 0 <= file.data.min() < 0.1 < file.data.max() <= 1
        assert "membranes by ridge of dark sheets" in str(file.get_labels())


def test_a_finished_probability_is_kept_and_labels_are_drawn_anew(world, capsys):
    assert segmented(capsys, "tomograms/a.mrc", "-o", "out")[0] == 0
    made, share = (world / "out/a_probability.mrc").stat().st_mtime_ns, np.asarray(read("out/a.mrc", "zyx")).mean()
    code, _, said = segmented(capsys, "tomograms/a.mrc", "-o", "out", "--threshold", "0.2", "--smallest", "0")
    assert code == 0
    assert "1 probabilities finished before, kept" in said
    assert (world / "out/a_probability.mrc").stat().st_mtime_ns == made
    assert np.asarray(read("out/a.mrc", "zyx")).mean() > share
    code, _, said = segmented(capsys, "tomograms/a.mrc", "-o", "out", "--bright")
    assert code == 2
    assert "not 'membranes by ridge of bright sheets'; give --overwrite, or choose another -o" in said
    assert segmented(capsys, "tomograms/a.mrc", "-o", "out", "--overwrite")[0] == 0
    assert (world / "out/a_probability.mrc").stat().st_mtime_ns > made


def test_the_chosen_threshold_is_said_and_used(world, capsys):
    code, _, said = segmented(capsys, "tomograms", "-o", "out", "--truth", "labels", "--choose-threshold",
                              "--json", "j")
    figures = json.loads((world / "j").read_text())
    assert code == 0
    assert f"threshold {figures['threshold']:g}" in said
    assert 0 < figures["threshold"] < 1
    assert figures["threshold"] != 0.5


def test_a_trained_net_segments(world, capsys):
    volumes = [wall(seed) for seed in range(4)]
    net = {"name": "unet", "size": 4, "depth": 1}
    recipe = {"scheme": {"name": "segmentation"}, "net": net, "data": {"window": 12}}
    train([v[None] for v, _ in volumes], "run", recipe, target=[t for _, t in volumes], steps=100, lr=1e-2)
    code, out, _ = segmented(capsys, "tomograms", "-o", "out", "-m", "run", "--truth", "labels")
    assert code == 0
    assert float(re.findall(r"\| mean \| (\d\.\d+)", out)[0]) > 0.85


def test_a_faulty_file_is_named_and_the_others_are_done(world, capsys):
    path = world / "tomograms" / "c.mrc"
    write(path, np.full((8, 20, 20), 3, np.float32), GEOMETRY)
    code, _, said = segmented(capsys, "tomograms", "-o", "out")
    assert code == 3
    assert "c.mrc: every value is 3" in said
    assert sorted(p.name for p in (world / "out").glob("?.mrc")) == ["a.mrc", "b.mrc"]
    write(world / "labels" / "c.mrc", np.ones((8, 20, 21), np.int8), GEOMETRY, int8=True)
    write(path, wall(0)[0][:8, :20, :20], GEOMETRY)
    code, _, said = segmented(capsys, "tomograms", "-o", "out", "--truth", "labels")
    assert code == 3
    assert "c.mrc: labels of 8×20×20 and a truth of 8×20×21 voxels; expected one size" in said


@pytest.mark.parametrize(("arguments", "said"), [
    (["nowhere"], "nowhere: no such file or folder"),
    (["tomograms", "--truth", "tomograms"], "expected one truth b.mrc in tomograms, found none"),
    (["tomograms", "--choose-threshold"], "--choose-threshold finds the threshold by --truth"),
    (["tomograms", "--tile", "0"], "--tile is 0; expected"),
    (["tomograms", "--threshold", "1.5"], "threshold 1.5"),
    (["tomograms", "--threshold", "0.5", "--peak", "0.2"], "peak 0.2"),
    (["tomograms", "--method", "ridge", "-m", "run"], "expected one detector"),
    (["tomograms", "-m", "nowhere"], "expected a run's folder"),
    (["tomograms/a.mrc", "--pixel-size", "60"], "a.mrc: voxels of 60 Å; expected 30 Å or less"),
    (["tomograms/a.mrc", "--max-memory", "1MB"], "--max-memory is 1 MB"),
    (["tomograms/a.mrc", "--truth", "labels", "--membrane-labels", "4"], "no voxel labelled 4"),
    (["tomograms/a.mrc", "-o", "tomograms"], "would overwrite an input"),
])  # fmt: skip
def test_faults_are_one_line(world, capsys, arguments, said):
    out = [] if "-o" in arguments else ["-o", "out"]
    code, _, complaint = segmented(capsys, *arguments, *out)
    lines = [line for line in complaint.splitlines() if line.startswith("deice:")]
    assert code == 2, complaint
    assert said in lines[-1]
    assert "Traceback" not in complaint
    assert not list(world.rglob("*.part"))
