"""One file from a web server to disk: under its own name when it is complete, until then as .NAME.part beside it.

.NAME.part.json says which version of the file the part belongs to. A part goes on only where the server still offers
that version (length, ETag, Last-Modified); else it begins anew.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPResponse
from io import FileIO
from pathlib import Path
from threading import Event

from deice.errors import FileFault, UserError
from deice.fetch.remote import Remote, same_version, version_of, whole_length
from deice.fetch.web import Patience, Refused, Stopped, Tries, Trouble, on_the_line, open_address

log = logging.getLogger(__name__)

BLOCK = 1 << 18  # bytes read at once
TOLD_EVERY = 1 << 20  # bytes between two words on progress


class DiskFull(UserError):
    """There is no room for the rest; the part is kept."""


def part_of(target: Path) -> Path:
    """Where `target` lies until it is complete."""
    return target.with_name(f".{target.name}.part")


def note_of(target: Path) -> Path:
    """What stands beside the part: the version of the file that it belongs to."""
    return target.with_name(f".{target.name}.part.json")


def bytes_here(remote: Remote, target: Path) -> int:
    """How many bytes of an incomplete `target` an earlier fetch left, of the version that the server offers now."""
    try:
        size = part_of(target).stat().st_size
        note = json.loads(note_of(target).read_text())
        belongs = note["size"] == remote.size and same_version(note["version"], remote.version)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no part, or no note that can be read
        return 0
    return size if belongs and size <= remote.size else 0


def download(remote: Remote, target: Path, patience: Patience, moved: Callable[[int], None], stop: Event) -> None:
    """Bring `remote` to `target`, going on with what an earlier fetch left. moved: hears of bytes gained or given up.

    Raises UserError where it cannot be had (what is there stays, to go on from), Stopped when called off.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileIO(os.open(part_of(target), os.O_RDWR | os.O_CREAT, 0o666), "r+") as part:
            if _taken(part, target):
                raise FileFault(target, "another deice fetch is bringing it; wait for that one to end")
            transfer = _Transfer(remote, target, part, patience, moved, stop)
            try:
                transfer.run()
                os.fsync(part.fileno())
                part_of(target).replace(target)
            finally:
                if not transfer.length:
                    part_of(target).unlink(missing_ok=True)
        note_of(target).unlink(missing_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"{target}: the disk is full ({error.strerror}); make room and run again, "
                           "it goes on from here") from None  # fmt: skip
        raise FileFault(target, f"cannot be written ({error.strerror}); expected a folder one may write to") from None


def _taken(part: FileIO, target: Path) -> bool:
    """Another process holds the part, or has just finished with it: then it is not ours to write."""
    try:
        fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        log.warning("%s: no locks on this disk (%s); never fetch into it twice at once", target.parent, error.strerror)
    try:
        return not os.path.samestat(os.fstat(part.fileno()), part_of(target).stat())
    except FileNotFoundError:
        return True


@dataclass(frozen=True, eq=False)
class _Transfer:
    """One file on its way, in as many connections as it takes."""

    remote: Remote
    target: Path
    part: FileIO
    patience: Patience
    moved: Callable[[int], None]
    stop: Event

    @property
    def length(self) -> int:
        return os.fstat(self.part.fileno()).st_size

    def run(self) -> None:
        """Fill the part, try after try; one that gets further than all before it starts the count of failures anew."""
        tries = Tries(self.patience, self.stop)
        self.part.truncate(bytes_here(self.remote, self.target))
        furthest = self.length
        while self.length < self.remote.size:
            try:
                self._go_on()
            except Trouble as trouble:
                if self.length > furthest:
                    furthest, tries.failures = self.length, 0
                tries.again(trouble)
        self._check()

    def _go_on(self) -> None:
        """One connection: what is missing. Raises Trouble where it ends early."""
        start, address = self.length, self.remote.address
        try:
            response = open_address(address, self.patience, span=f"{start}-" if start else "")
        except Refused as refused:
            if start and refused.code == 416:  # range not satisfiable
                self._begin_anew()
                raise Trouble(f"{address}: has become shorter") from None
            raise
        with response:
            if start and response.status == 206 and not self._fits(response, start):
                self._begin_anew()
                raise Trouble(f"{address}: has changed meanwhile")
            if start and response.status != 206:
                self._begin_anew()  # the server takes no ranges, and sends the whole
            length = whole_length(response)
            if length not in (None, self.remote.size):
                raise Refused(f"{address}: promised {self.remote.size} bytes, now {length}; "
                              "it is being changed, or the server errs: run again later")  # fmt: skip
            if not self.length:
                self._write_note(version_of(response.headers))
            self._copy(response)

    def _fits(self, response: HTTPResponse, start: int) -> bool:
        """The answer goes on where the part ends, in the same version."""
        begins = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        version = json.loads(note_of(self.target).read_text())["version"]
        return begins is not None and int(begins[1]) == start and same_version(version, version_of(response.headers))

    def _copy(self, response: HTTPResponse) -> None:
        position = told = self.part.seek(0, os.SEEK_END)
        size, address = self.remote.size, self.remote.address
        try:
            while block := self._read(response):
                if position + len(block) > size:
                    raise Refused(f"{address}: sends more than the {size} bytes it promised; "
                                  "it is being changed, or the server errs: run again later")  # fmt: skip
                rest = memoryview(block)
                while rest:  # a disk that runs full takes a part first
                    written = self.part.write(rest) or 0
                    rest, position = rest[written:], position + written
                if position - told >= TOLD_EVERY:
                    self.moved(position - told)
                    told = position
        finally:
            self.moved(position - told)
        if position < size:
            raise Trouble(f"{address}: the connection ended at byte {position} of {size}")

    def _read(self, response: HTTPResponse) -> bytes:
        with on_the_line(self.remote.address):
            block = response.read1(BLOCK)
        if self.stop.is_set():
            raise Stopped
        return block

    def _check(self) -> None:
        """Against the digests that the server published; where one differs, the part is thrown away."""
        for name, expected in self.remote.digests.items():
            self.part.seek(0)
            found = hashlib.file_digest(self.part, name).digest()
            if found != expected:
                self._begin_anew()
                raise Refused(f"{self.remote.address}: the {name} is {found.hex()}, the server says {expected.hex()}; "
                              "thrown away: run again to fetch it anew")  # fmt: skip

    def _begin_anew(self) -> None:
        self.moved(-self.length)
        self.part.truncate(0)

    def _write_note(self, version: dict[str, str]) -> None:
        temporary = note_of(self.target).with_suffix(".new")
        temporary.write_text(json.dumps({"size": self.remote.size, "version": version}))
        temporary.replace(note_of(self.target))
