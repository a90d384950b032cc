"""Speed on this machine: each row first checked, then timed beside what anyone would use instead, in one process.

>>> from deice.bench.speed import Plan, run
>>> document = run("speed", Plan(minutes=8))      # resumable; see document["left"]

rows        what is measured, and the aims      legs      rows until the time is spent
operations  one step, one inference             paths     the ways to run them
plain       the nets in plain PyTorch           clock     times and ceilings
files       from files to denoised files        disk      files, cold reads, copies
splitting   movies                              events    EER movies
loading     the stream                          tables    what is written
"""

from deice.bench.speed.legs import run
from deice.bench.speed.rows import ROWS, Plan

__all__ = ["ROWS", "Plan", "run"]
