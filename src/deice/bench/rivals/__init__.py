"""One tomogram, and every method that could denoise it: each trained on that very tomogram, judged by its truth.

>>> from deice.bench.rivals import Plan, run
>>> document = run("tomograms", Plan(minutes=9, parallel=8))      # resumable; see document["left"]

scenes    tomograms with their truth         methods     what stands in the table, and how it is trained
work      one row: train, denoise            figures     one answer, judged
rows      what is run                        segmenters  membranes in the answers, by a net for each kind
legs      rows until the time is spent       tables      rows gathered, the published ones beside
drawings  slices and curves
"""

from deice.bench.rivals.legs import run
from deice.bench.rivals.methods import METHODS
from deice.bench.rivals.rows import Plan

__all__ = ["METHODS", "Plan", "run"]
