"""The tables of the source documents, reproduced on simulated pictures whose truth is known; theirs beside ours.

>>> from deice.bench.sources import Plan, run
>>> document = run("sources", Plan(minutes=9, parallel=6, workers=16))      # resumable; see document["left"]

data      the pictures                       rows      what is trained on them, and for how long
work      one row: train, denoise, judge     legs      rows until the time is spent, kept when done
tables    theirs and ours side by side
"""

from deice.bench.sources.legs import Plan, run
from deice.bench.sources.tables import TABLES

__all__ = ["TABLES", "Plan", "run"]
