"""deice denoise and deice train from the command line: batches, kills, and every fault in one line."""

import os
import signal
import subprocess
import sys
import time

import mrcfile
import numpy as np
import pytest
from worlds_for_tests import error, views

from deice import Geometry, read, train, write
from deice.cli import run

GEOMETRY = Geometry((1.5, 1.5, 1.5), origin=(3.0, 4.0, 5.0), nstart=(1, 2, 0))
RECIPE = {"net": {"name": "unet", "size": 4, "depth": 2}, "data": {"window": 32}, "training": {"batch": 8, "lr": 3e-3}}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run of Noise2Noise on small halves."""
    folder = tmp_path_factory.mktemp("model") / "run"
    train([views((64, 64), seed=i)[1] for i in range(4)], folder, RECIPE, steps=300)
    return folder


@pytest.fixture
def halves(tmp_path):
    """Three scenes of two halves each, and the full average of the first."""
    folder = tmp_path / "halves"
    for number in range(3):
        _, noisy = views((50, 70), seed=20 + number)
        for name, half in zip(("EVN", "ODD"), noisy):
            write(folder / f"m{number}_{name}.mrc", half, GEOMETRY)
    write(folder / "m0.mrc", views((50, 70), seed=20)[1].mean(0), GEOMETRY)
    return folder


def faults(capsys, *arguments):
    """(exit code, what stderr said)."""
    code = run([str(a) for a in arguments])
    return code, capsys.readouterr().err


def test_halves_give_one_output_under_their_stem_with_the_inputs_geometry(model, halves, tmp_path, capsys):
    out, parts = tmp_path / "out", tmp_path / "parts"
    code, said = faults(capsys, "denoise", halves, "-m", model, "-o", out, "--denoised-halves", parts)
    assert (code, sorted(p.name for p in out.iterdir())) == (0, ["m0.mrc", "m1.mrc", "m2.mrc"])
    assert len(list(parts.iterdir())) == 6
    for number in range(3):
        image = read(out / f"m{number}.mrc")
        truth, noisy = views((50, 70), seed=20 + number)
        assert error(np.asarray(image), truth) < 0.8 * error(noisy.mean(0), truth)
        with mrcfile.open(out / f"m{number}.mrc") as file:
            assert file.voxel_size.x == pytest.approx(1.5)
            assert file.header.origin.y == pytest.approx(4)
            assert file.header.nystart == 2
            assert "deice" in str(file.get_labels())
        both = [np.asarray(read(parts / f"m{number}_{name}.mrc")) for name in ("EVN", "ODD")]
        assert np.corrcoef(both[0].ravel(), both[1].ravel())[0, 1] < 0.999
        assert np.corrcoef(np.mean(both, 0).ravel(), np.asarray(image).ravel())[0, 1] > 0.98
    assert "left aside" in said


def test_finished_outputs_are_skipped_and_overwrite_makes_them_again(model, halves, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(["denoise", str(halves), "-m", str(model), "-o", str(out)]) == 0
    times = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    (out / "m1.mrc").unlink()
    code, said = faults(capsys, "denoise", halves, "-m", model, "-o", out)
    assert code == 0
    assert "2 finished before" in said
    assert (out / "m0.mrc").stat().st_mtime_ns == times["m0.mrc"]
    assert run(["denoise", str(halves), "-m", str(model), "-o", str(out), "--overwrite"]) == 0
    assert (out / "m0.mrc").stat().st_mtime_ns > times["m0.mrc"]


def test_a_faulty_file_is_named_and_the_others_are_done(model, halves, tmp_path, capsys):
    (halves / "m1_EVN.mrc").write_bytes((halves / "m1_EVN.mrc").read_bytes()[:3000])
    code, said = faults(capsys, "denoise", halves, "-m", model, "-o", tmp_path / "out")
    assert code == 3
    assert "m1_EVN.mrc" in said
    assert "1 of 3 files failed" in said
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["m0.mrc", "m2.mrc"]


def test_kill_nine_in_a_batch_of_twenty_leaves_nothing_half_written(model, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in range(20):
        write(folder / f"p{number:02}.mrc", views((400, 300), count=1, seed=number)[1][0], GEOMETRY)
    command = [sys.executable, "-m", "deice", "denoise", str(folder), "-m", str(model), "-o", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(out.glob("p*.mrc"))) < 5:
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    finished = list(out.glob("p*.mrc"))
    assert 5 <= len(finished) < 20
    subprocess.run(command, env=environment, check=True, capture_output=True)
    outputs = sorted(out.glob("*.mrc"))
    assert [p.name for p in outputs] == [f"p{number:02}.mrc" for number in range(20)]
    for path in outputs:
        assert mrcfile.validate(path)
        assert np.isfinite(np.asarray(read(path))).all()


def test_an_output_that_would_overwrite_an_input_is_refused_before_any_work(model, halves, tmp_path, capsys):
    write(tmp_path / "lone" / "a.mrc", views((40, 40), count=1)[1][0])
    code, said = faults(capsys, "denoise", tmp_path / "lone", "-m", model, "-o", tmp_path / "lone")
    assert code == 2
    assert "overwrite an input" in said
    code, said = faults(capsys, "denoise", halves, "-m", model, "-o", halves)  # m0.mrc lies among the inputs
    assert code == 2
    assert not (halves / "m1.mrc").exists()


def test_two_inputs_with_one_output_name_are_refused(model, tmp_path, capsys):
    for folder in ("a", "b"):
        write(tmp_path / folder / "same.mrc", views((40, 40), count=1)[1][0])
    code, said = faults(capsys, "denoise", tmp_path / "a", tmp_path / "b", "-m", model, "-o", tmp_path / "out")
    assert code == 2
    assert "same" in said


def test_pixels_that_are_not_finite_are_replaced_counted_and_said(model, tmp_path, capsys):
    picture = views((60, 60), count=1)[1][0]
    picture[10, 10] = picture[30, 31] = np.nan
    write(tmp_path / "in" / "a.mrc", picture, GEOMETRY)
    code, said = faults(capsys, "denoise", tmp_path / "in", "-m", model, "-o", tmp_path / "out")
    assert code == 0
    assert "2 values that are not finite" in said
    assert np.isfinite(np.asarray(read(tmp_path / "out" / "a.mrc"))).all()


def test_float16_and_an_unknown_pixel_size(model, tmp_path, capsys):
    write(tmp_path / "in" / "a.mrc", views((60, 60), count=1)[1][0])
    arguments = ["denoise", tmp_path / "in", "-m", model, "-o", tmp_path / "out", "--float16"]
    code, said = faults(capsys, *arguments)
    assert code == 0
    assert "no pixel size" in said
    with mrcfile.open(tmp_path / "out" / "a.mrc") as file:
        assert file.header.mode == 12
    assert faults(capsys, *arguments, "--overwrite", "--pixel-size", "2.5")[0] == 0
    assert read(tmp_path / "out" / "a.mrc").pixel_size == pytest.approx(2.5)


def test_classical_methods_and_a_scheme_on_the_very_input(tmp_path, capsys):
    truth, noisy = views((96, 80), count=1, noise=0.7, seed=5)
    write(tmp_path / "in" / "a.mrc", noisy[0], GEOMETRY)
    assert run(["denoise", str(tmp_path / "in"), "-m", "noise2void", "-o", str(tmp_path / "corrected"), "--steps", "2",
                "--pixel-size", "6.3"]) == 0
    assert "learnt at" not in capsys.readouterr().err
    for method, extra in [("gaussian", ["--sigma", "1.5"]), ("lowpass", ["--cutoff", "12"]),
                          ("wiener", ["--defocus", "0", "--convention", "isonet"]), ("noise2void", ["--steps", "8"])]:
        out = tmp_path / method
        code, said = faults(capsys, "denoise", tmp_path / "in", "-m", method, "-o", out, *extra)
        assert code == 0, said
        assert np.isfinite(np.asarray(read(out / "a.mrc"))).all()
    smooth = np.asarray(read(tmp_path / "gaussian" / "a.mrc"))
    assert error(smooth, truth) < error(noisy[0], truth)
    assert (tmp_path / "noise2void" / "runs" / "a" / "model.safetensors").exists()


def damaged(kind, path):
    """One of the files that users bring."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = views((32, 40), count=1)[1][0]
    write(path, picture)
    content = bytearray(path.read_bytes())
    if kind == "empty":
        content = bytearray()
    elif kind == "short header":
        content = content[:700]
    elif kind == "short data":
        content = content[:-900]
    elif kind == "absurd size":
        content[0:4] = (2_000_000_000).to_bytes(4, "little")
    elif kind == "complex":
        content[12:16] = (4).to_bytes(4, "little")
    elif kind == "png":
        content = bytearray(b"\x89PNG\r\n\x1a\n" + bytes(300))
    elif kind == "all nan":
        content[1024:] = np.full(32 * 40, np.nan, "<f4").tobytes()
    elif kind == "constant":
        content[1024:] = np.full(32 * 40, 7, "<f4").tobytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["empty", "short header", "short data", "absurd size", "complex", "png", "all nan",
                                  "constant"])
@pytest.mark.parametrize("verb", ["denoise", "train"])
def test_a_damaged_file_gets_one_line_and_exit_code_two(verb, kind, model, tmp_path, capsys):
    path = damaged(kind, tmp_path / "in" / "bad.mrc")
    out = tmp_path / "out"
    settings = ["-m", model] if verb == "denoise" else ["--scheme", "noise2void", "--steps", "2"]
    code, said = faults(capsys, verb, path, *settings, "-o", out)
    assert code == 2
    faulty = [line for line in said.splitlines() if "bad" in line]
    assert len(faulty) == 1
    assert "Traceback" not in said
    assert not [p for p in out.rglob("*") if p.is_file()]


@pytest.mark.parametrize("verb", ["denoise", "train"])
def test_halves_that_do_not_belong_together(verb, model, tmp_path, capsys):
    settings = ["-m", model] if verb == "denoise" else ["--steps", "2"]
    cases = {
        "partner": [("a_EVN.mrc", (32, 40), 1.5)],
        "same size": [("a_EVN.mrc", (32, 40), 1.5), ("a_ODD.mrc", (32, 41), 1.5)],
        "Å per pixel": [("a_EVN.mrc", (32, 40), 1.5), ("a_ODD.mrc", (32, 40), 3.0)],
    }
    for number, (word, files) in enumerate(cases.items()):
        folder = tmp_path / str(number)
        for name, shape, size in files:
            write(folder / name, views(shape, count=1)[1][0], Geometry((size, size, size)))
        code, said = faults(capsys, verb, folder, *settings, "-o", tmp_path / "out")
        assert code == 2
        assert word in said


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["denoise", "absent.mrc", "-m", "gaussian", "-o", "out"], "no such file"),
        (["denoise", "IN", "-m", "gaussian", "--sigma", "2", "--uncertainty", "-o", "out"], "pretrained or a run"),
        (["denoise", "IN", "-m", "absent", "-o", "out"], "no such file"),
        (["denoise", "IN", "-m", "noise2noise", "-o", "out"], "needs 2 views"),
        (["denoise", "IN", "-m", "gaussian", "-o", "out", "--max-memory", "lots"], "such as 8GB"),
        (["denoise", "IN", "-m", "lowpass", "-o", "out"], "--cutoff"),
        (["denoise", "IN", "-m", "gaussian", "-o", "out", "--max-memory", "1MB"], "grant more"),
        (["denoise", "IN", "-m", "wiener", "--defocus", "1", "-o", "out"], "--pixel-size"),
        (["train", "-o", "out"], "no input"),
        (["train", "IN", "-o", "out", "--net", "umet"], "did you mean 'unet'"),
        (["train", "IN", "-o", "out", "--recipe", "RECIPE"], "did you mean 'batch'"),
        (["train", "IN", "-o", "out", "--resume"], "recipe"),
        (["train", "IN", "-o", "out", "--scheme", "noise2void", "--target", "IN"], "without a target"),
        (["denoise", "IN", "-m", "gaussian", "-o", "/proc/nowhere"], "cannot be written"),
        (["denoise", "IN", "--modle", "x", "-o", "out"], "--modle"),
    ],
)
def test_faults_of_the_command_line(arguments, word, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "IN" / "a.mrc", views((40, 40), count=1)[1][0])
    (tmp_path / "RECIPE").write_text("[training]\nbatc = 3\n")
    code, said = faults(capsys, *arguments)
    assert code == 2
    assert word in said
    assert len(said.strip().splitlines()) == 1, said


@pytest.mark.parametrize("flag", [("--precision", "bf16"), ("--tile", "256")])
def test_a_filter_has_no_use_for_what_networks_are_told(flag, halves, tmp_path, capsys):
    code, said = faults(capsys, "denoise", halves, "-m", "gaussian", "--sigma", "2", *flag, "-o", tmp_path / "out")
    assert code == 2
    assert flag[0] in said
    assert not (tmp_path / "out").exists()
