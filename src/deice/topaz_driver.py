"""Runs in Topaz's own Python, which need not know deice: one job, described in a JSON file, arrays in .npy files.

denoise: {"task", "model": a pretrained name or a trained file, "axes": 2 or 3, "pairs": [[input, output], …],
          "cutoff", "whole", "cuda", "report"}
train:   {"task", "even": folder, "odd": folder, "prefix", "options": [command-line words]}

Only Topaz's public entries are called: the class `Denoise` (the command's --model is ignored for micrographs in
0.3.20: every name gives `unet`), for volumes `Denoise3D`, and for training the `denoise` command's own main function.
"""

import importlib
import json
import re
import sys
import threading
import time

import numpy as np

PATCHES = {2: (1024, 500), 3: (96, 48)}  # pixels and padding: the defaults of the commands denoise and denoise3d
LOOK_EVERY = 0.01  # seconds between looks at the memory


def main(path):
    """Do the job described in the file `path`."""
    with open(path) as file:
        job = json.load(file)
    {"denoise": denoise, "train": train}[job["task"]](job)


def denoise(job):
    """Each input denoised to its output; the report holds seconds and peak bytes for each."""
    module, axes = importlib.import_module("topaz.denoise"), job["axes"]
    denoiser = (module.Denoise3D if axes == 3 else module.Denoise)(job["model"], use_cuda=job["cuda"], dims=axes)
    patch, padding = PATCHES[axes]
    if job["whole"]:
        patch = -1
    report = []
    for given, wanted in job["pairs"]:
        picture = np.load(given).astype(np.float32)
        if job["cutoff"]:
            mean, spread = picture.mean(), picture.std()
            picture[np.abs(picture - mean) > job["cutoff"] * spread] = mean
        with Watch(job["cuda"]) as watch:
            answer = denoiser.denoise(picture, patch_size=patch, padding=padding)
        np.save(wanted, np.asarray(answer, dtype=np.float32).reshape(picture.shape))
        report.append({"seconds": watch.seconds, "bytes": watch.bytes})
    with open(job["report"], "w") as file:
        json.dump(report, file)


def train(job):
    """Noise2Noise by the command itself, between the files of two folders that bear the same names."""
    command = importlib.import_module("topaz.commands.denoise")
    words = ["--dir-a", job["even"], "--dir-b", job["odd"], "--save-prefix", job["prefix"], *job["options"]]
    command.main(command.add_arguments().parse_args(words))


class Watch:
    """seconds and bytes of a block: peak of PyTorch's GPU memory, or of this process's anonymous memory."""

    def __init__(self, cuda):
        self.cuda, self.seconds, self.bytes = cuda, 0.0, 0
        self.finished = threading.Event()

    def __enter__(self):
        if self.cuda:
            importlib.import_module("torch").cuda.reset_peak_memory_stats()
        else:
            threading.Thread(target=self._look, daemon=True).start()
        self.started = time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self.started  # the answer is on the host: nothing is left to wait for
        self.finished.set()
        memory = importlib.import_module("torch").cuda.max_memory_allocated() if self.cuda else _anonymous()
        self.bytes = max(self.bytes, memory)

    def _look(self):
        while not self.finished.wait(LOOK_EVERY):
            self.bytes = max(self.bytes, _anonymous())


def _anonymous():
    with open("/proc/self/status") as file:
        return sum(int(size) * 1024 for size in re.findall(r"Rss(?:Anon|Shmem):\s+(\d+) kB", file.read()))


if __name__ == "__main__":
    main(sys.argv[1])
