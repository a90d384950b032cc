"""Memory does not grow with the data: peaks of RssAnon + RssShmem of a process, sampled while it works."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deice import write


def peak_of(command):
    """The largest anonymous memory, in MB, of a process while it runs; mapped files do not count."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        peak = max(peak, sum(int(kb) for kb in re.findall(r"Rss(?:Anon|Shmem):\s+(\d+) kB", status)))
        time.sleep(0.01)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    return peak / 1000


def halves_of(folder, size, pairs):
    """`pairs` scenes of two float32 halves of size²: the first drawn, the others copies of it."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("EVN", "ODD"):
        write(folder / f"m000_{name}.mrc", rng.standard_normal((size, size), dtype=np.float32))
        for number in range(1, pairs):
            shutil.copyfile(folder / f"m000_{name}.mrc", folder / f"m{number:03}_{name}.mrc")
    return folder


def train_command(folder, out, order="random"):
    return [sys.executable, "-m", "deice", "train", str(folder), "-o", str(out), "--steps", "30", "--batch", "8",
            "--patch", "64", "--net", "unet:size=8,depth=2", "--order", order]


@pytest.mark.slow
def test_training_needs_the_same_memory_for_200_megabytes_and_for_8_gigabytes(tmp_path):
    if shutil.disk_usage(tmp_path).free < 12e9:
        pytest.skip("less than 12 GB free for the data set of 8 GB")
    small = halves_of(tmp_path / "small", 2500, 4)  # 4 × 2 × 25 MB
    large = halves_of(tmp_path / "large", 5000, 40)  # 40 × 2 × 100 MB
    try:
        peaks = [peak_of(train_command(small, tmp_path / "small_run")),
                 *(peak_of(train_command(large, tmp_path / order, order)) for order in ("random", "window"))]
    finally:
        shutil.rmtree(large)
    print("peak in MB with 200 MB of data, with 8 GB in random order, in window order:", *map(round, peaks))
    assert max(peaks) - peaks[0] < 150


@pytest.mark.slow
def test_denoising_stays_below_the_memory_it_is_granted(tmp_path):
    halves = halves_of(tmp_path / "halves", 3000, 1)
    subprocess.run(train_command(halves, tmp_path / "run"), check=True, capture_output=True)
    peaks = {}
    for granted in (600, 1200):
        peaks[granted] = peak_of([sys.executable, "-m", "deice", "denoise", str(halves), "-m", str(tmp_path / "run"),
                                  "-o", str(tmp_path / f"out{granted}"), "--max-memory", f"{granted}MB"])
    print(peaks)
    assert all(peak < granted for granted, peak in peaks.items())
