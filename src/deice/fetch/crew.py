"""A few threads that share a list of jobs, and one place where all that they say is heard."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, Generic, TypeVar

from deice.errors import UserError
from deice.fetch.web import Stopped

Job = TypeVar("Job")
LAST_SECONDS = 1.0  # how long threads may take to stop; one that waits for a silent server is left behind


@dataclass(frozen=True)
class News(Generic[Job]):
    """What a thread says of its job: `moved` bytes more (or fewer), or `done` with a result or a UserError."""

    job: Job
    moved: int = 0
    done: bool = False
    result: Any = None
    error: UserError | None = None


def share(
    jobs: Sequence[Job], work: Callable[[Job, Callable[[int], None], Event], Any], threads: int
) -> Generator[News[Job]]:
    """Do `work(job, moved, stop)` for each job, `threads` at a time, and yield what is heard, as it is heard.

    A UserError ends its job only; any other exception is raised here. Leaving the loop early calls the rest off:
    `stop` is set, which `work` answers by raising Stopped.
    """
    waiting: SimpleQueue[Job] = SimpleQueue()
    heard: SimpleQueue[News[Job] | BaseException] = SimpleQueue()
    stop = Event()
    for job in jobs:
        waiting.put(job)

    def labour() -> None:
        while not stop.is_set():
            try:
                job = waiting.get_nowait()
                heard.put(_done(job, work, heard, stop))
            except (Empty, Stopped):
                return
            except BaseException as error:
                heard.put(error)
                return

    crew = [Thread(target=labour, daemon=True) for _ in range(min(threads, len(jobs)))]
    left = len(jobs)
    try:
        for thread in crew:
            thread.start()
        while left:
            news = heard.get()
            if isinstance(news, BaseException):
                raise news
            left -= news.done
            yield news
    finally:
        stop.set()
        for thread in crew:
            if thread.is_alive():
                thread.join(LAST_SECONDS / len(crew))


def _done(job: Job, work: Callable[..., Any], heard: SimpleQueue, stop: Event) -> News[Job]:
    try:
        return News(job, done=True, result=work(job, lambda moved: heard.put(News(job, moved)), stop))
    except UserError as error:
        return News(job, done=True, error=error)
