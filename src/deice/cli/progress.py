"""Progress on stderr: a bar on a terminal, a line a minute elsewhere."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

LINE_EVERY = 60.0  # seconds between lines where stderr is no terminal


class Progress:
    """Advances a bar or prints a line; `figures` (loss=0.12, …) stand beside the count."""

    def __init__(self, label: str, total: float | None, unit: str):
        self.label, self.total, self.unit = label, total, unit
        self.done, self.started, self.said = 0.0, time.monotonic(), time.monotonic()
        self.bar = self.task = None

    def advance(self, amount: float = 1, **figures: float) -> None:
        """`amount` more units of the work are done."""
        self.reach(self.done + amount, **figures)

    def reach(self, done: float, **figures: float) -> None:
        """`done` units of the work are done in all."""
        self.done = done
        text = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=self.done, figures=text)
        elif time.monotonic() - self.said >= LINE_EVERY:
            self.said = time.monotonic()
            print(f"{self.label}: {self._count()}  {text}{self._left()}", file=sys.stderr, flush=True)

    def _count(self) -> str:
        return f"{self.done:.6g}" + (f"/{self.total:.6g}" if self.total else "") + f" {self.unit}"

    def _left(self) -> str:
        if not self.total or not self.done:
            return ""
        seconds = (time.monotonic() - self.started) * (self.total - self.done) / self.done
        return f"  {seconds:.0f} s left"


@contextmanager
def progress(label: str, total: float | None = None, unit: str = "files") -> Generator[Progress]:
    """A `Progress` for the length of the block; says at its end what was done and how long it took."""
    work = Progress(label, total, unit)
    if not sys.stderr.isatty():
        yield work
    else:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
                   TextColumn("{task.fields[figures]}"))
        with RichProgress(*columns, console=Console(stderr=True)) as bar:
            work.bar, work.task = bar, bar.add_task(label, total=total, figures="")
            yield work
    took = time.monotonic() - work.started
    print(f"{label}: {work._count()} in {took:.1f} s", file=sys.stderr, flush=True)


def say(message: str) -> None:
    """One line on stderr."""
    print(f"deice: {message}", file=sys.stderr, flush=True)
