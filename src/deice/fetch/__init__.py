"""Fetching a data set of EMPIAR, or any folder that a web server lists; cut short, it goes on where it was."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from deice.errors import FileFault, UserError
from deice.fetch.crew import News, share
from deice.fetch.listing import Listed, walk
from deice.fetch.remote import Remote, look_at
from deice.fetch.transfer import DiskFull, bytes_here, download
from deice.fetch.web import PATIENT, GaveUp, Patience, Refused
from deice.sizes import say_bytes

__all__ = ["Listed", "News", "Outcome", "Patience", "Plan", "Remote", "address_of", "bring", "choose", "list_entry",
           "look_at_all", "make_plan"]  # fmt: skip

ARCHIVE = "https://ftp.ebi.ac.uk/empiar/world_availability"  # EMPIAR's public data over HTTPS, a folder an entry
MOST_AT_ONCE = 32
ENOUGH_FAILURES = 3  # files beyond those under way that fail one after the other: the server is down


@dataclass
class Outcome:
    """What becomes of one file. state: to fetch, written, skipped (complete before), left out (by a limit), failed."""

    path: str
    bytes: int | None
    state: str
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """What is to be done. wanted: to be brought into `out`.  outcomes: of each file, by path.

    missing: bytes still to come.
    """

    out: Path
    wanted: tuple[Remote, ...]
    outcomes: dict[str, Outcome]
    missing: int

    @property
    def free(self) -> int:
        """Bytes free on the disk of `out`."""
        there = self.out.absolute()
        while not os.path.exists(there):  # unlike Path.exists, False for what may not be looked at
            there = there.parent
        return shutil.disk_usage(there).free

    def those(self, state: str) -> list[Outcome]:
        """The files of that state, in the listing's order."""
        return [outcome for outcome in self.outcomes.values() if outcome.state == state]


def address_of(entry: str, archive: str | None = None) -> str:
    """"EMPIAR-10025" or "10025" → its folder in the archive; an http(s) address of a folder is taken as it is.

    archive: a mirror's folder of entries; else the environment's DEICE_EMPIAR, else EMPIAR itself.
    """
    if re.match(r"https?://[^/]", entry):
        if archive:
            raise UserError(f"{entry} and --from {archive}: two addresses; give --from only with EMPIAR-NNNNN")
        return entry.rstrip("/") + "/"
    number = re.fullmatch(r"(?:EMPIAR-)?(\d{5,})", entry, re.IGNORECASE)
    if number is None:
        raise UserError(f"{entry!r}: expected EMPIAR-NNNNN (five digits or more), or the http(s) address of a folder")
    top = archive or os.environ.get("DEICE_EMPIAR") or ARCHIVE
    if not re.match(r"https?://[^/]", top):
        raise UserError(f"the archive {top!r}: expected an address that begins with http:// or https://")
    return f"{top.rstrip('/')}/{number[1]}/"


def list_entry(address: str, patience: Patience = PATIENT) -> Iterator[Listed]:
    """Every file below `address`, in the listing's order. Raises UserError where there is no such folder or no file."""
    listed = None
    try:
        for listed in walk(address, patience):
            yield listed
    except Refused as refused:
        if refused.code == 404 and listed is None:
            raise UserError(f"{refused}; expected an entry that EMPIAR has released: check the number") from None
        raise
    if listed is None:
        raise UserError(f"{address}: lists no files; expected the listing of a folder: check the address")


def choose(listed: Sequence[Listed], only: Sequence[str]) -> list[Listed]:
    """The files whose path, or the end of it, matches one of the patterns `only` (* ? [abc]); a folder means all in it.

    Raises UserError for a pattern that matches nothing.
    """
    chosen = set()
    for pattern in only:
        end = pattern.strip("/")
        forms = [form for start in (end, f"*/{end}") for form in (start, f"{start}/*")]
        matching = {file.path for file in listed if any(fnmatchcase(file.path, form) for form in forms)}
        if not matching:
            folders = list(dict.fromkeys(file.path.rpartition("/")[0] or "." for file in listed))
            more = ", …" if len(folders) > 6 else ""
            raise UserError(f"--only {pattern!r}: none of {len(listed)} files; "
                            f"expected one of those in {', '.join(folders[:6])}{more}")  # fmt: skip
        chosen |= matching
    return [file for file in listed if not only or file.path in chosen]


def look_at_all(listed: Sequence[Listed], parallel: int, patience: Patience = PATIENT) -> Iterator[News[Listed]]:
    """Exact sizes: for each file, as they come, News with a Remote or with an error.

    Raises UserError where the server fails file after file.
    """
    if not 1 <= parallel <= MOST_AT_ONCE:
        raise UserError(f"--parallel {parallel}; expected 1 to {MOST_AT_ONCE} connections")
    in_a_row = 0
    with closing(share(listed, lambda file, _, stop: look_at(file, patience, stop), parallel)) as told:
        for news in told:
            yield news
            in_a_row = in_a_row + 1 if isinstance(news.error, GaveUp) else 0
            if in_a_row >= parallel + ENOUGH_FAILURES:
                raise UserError(f"{news.error} (the same with {in_a_row} files in a row)")


def make_plan(
    looked: Sequence[News[Listed]], listed: Sequence[Listed], out: Path, max_size: int | None = None,
    overwrite: bool = False,
) -> Plan:
    """Which files to bring: whole files in the order of `listed`, up to the first that would pass `max_size` bytes.

    What is complete counts into max_size. A file of another size under the same name fails, unless `overwrite`.
    """
    by_path = {news.job.path: news for news in looked}
    outcomes, wanted, total, missing = {}, [], 0, 0
    for file in listed:
        remote, error = by_path[file.path].result, by_path[file.path].error
        outcome = outcomes[file.path] = Outcome(file.path, None, "failed", str(error or ""))
        if error is not None:
            continue
        outcome.bytes, total = remote.size, total + remote.size
        if max_size is not None and total > max_size:
            outcome.state = "left out"
            continue
        outcome.state, outcome.reason = _state(remote, out / file.path, overwrite)
        if outcome.state == "to fetch":
            wanted.append(remote)
            missing += remote.size - bytes_here(remote, out / file.path)
    return Plan(out, tuple(wanted), outcomes, missing)


def _state(remote: Remote, target: Path, overwrite: bool) -> tuple[str, str]:
    """to fetch, skipped or failed, and why."""
    try:
        there = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "to fetch", ""
    except OSError as error:
        return "failed", f"{target}: cannot be looked at ({error.strerror}); choose another -o"
    if target.is_file() and there.st_size == remote.size:
        return "skipped", ""
    if target.is_file() and overwrite:
        return "to fetch", ""
    found = f"{there.st_size} bytes" if target.is_file() else "a folder"
    return "failed", (f"{target}: {found} under this name, the archive's file has {remote.size} bytes; "
                      "remove it, or fetch it again with --overwrite")  # fmt: skip


def bring(plan: Plan, parallel: int, patience: Patience = PATIENT) -> Iterator[News[Remote]]:
    """Fetch what the plan wants, `parallel` files at a time: News of bytes that moved, and of each file that is done.

    The plan's outcomes are kept up to date. Raises UserError before any work where the disk has no room or cannot be
    written. When it runs full, or the server fails file after file, the rest is not tried, and each file says why.
    """
    _prepare(plan)
    undone = {remote.path: remote for remote in plan.wanted}
    in_a_row, reason = 0, ""
    with closing(share(plan.wanted, lambda *job: _bring_one(plan, patience, *job), parallel)) as told:
        for news in told:
            if news.done:
                _note(plan, news)
            yield news
            if not news.done:
                continue
            undone.pop(news.job.path)
            in_a_row = in_a_row + 1 if isinstance(news.error, GaveUp) else 0
            if isinstance(news.error, DiskFull):
                reason = "not finished: the disk is full"
            elif in_a_row >= parallel + ENOUGH_FAILURES:
                reason = f"not tried: the server failed {in_a_row} files in a row; run again later"
            if reason:
                break
    for remote in undone.values():
        rest = News(remote, done=True, error=UserError(reason))
        _note(plan, rest)
        yield rest


def _note(plan: Plan, news: News[Remote]) -> None:
    outcome = plan.outcomes[news.job.path]
    outcome.state, outcome.reason = ("failed", str(news.error)) if news.error else ("written", "")


def _bring_one(plan: Plan, patience: Patience, remote: Remote, moved, stop) -> None:
    target = plan.out / remote.path
    missing, free = remote.size - bytes_here(remote, target), plan.free
    if missing > free:
        raise DiskFull(f"{target}: {say_bytes(missing)} to come, {say_bytes(free)} free; make room and run again")
    download(remote, target, patience, moved, stop)


def _prepare(plan: Plan) -> None:
    if plan.missing > plan.free:
        raise UserError(f"{plan.out}: {say_bytes(plan.missing)} to come, {say_bytes(plan.free)} free; choose another "
                        "disk with -o, or less with --only or --max-size")  # fmt: skip
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=plan.out):
            pass
    except OSError as error:
        raise FileFault(plan.out, f"no files can be written there ({error.strerror}); choose another -o") from None
