"""What can go wrong, and whose fault it is.

UserError            the input is at fault: one line (found · expected · what to do), exit code 2
├── FileFault        a file cannot be read as what it should be
├── PairFault        halves, or input and target, do not belong together
├── RecipeFault      an unknown key or an impossible value in a recipe or on the command line
├── MemoryFault      the memory granted does not suffice
└── SaidElsewhere    the same, of which another rank of the run has said the line: exit code 2 without one
BatchFailure         some files of a batch failed, the others are done: exit code 3
VerificationFault    our fast path is not what the reference is: our fault, in one line, exit code 1
RankLost             another process of the run has ended: one line, exit code 1

Every other exception is our fault and keeps its traceback (exit code 1).
"""

from collections.abc import Sequence
from pathlib import Path


class UserError(Exception):
    """The user's input is at fault; the message says what was found, what was expected and what to do."""


class FileFault(UserError):
    """A file cannot be read as what it should be."""

    def __init__(self, path: Path | str, found: str):
        super().__init__(f"{path}: {found}")
        self.path = Path(path)
        self.found = found


class PairFault(UserError):
    """Halves, or input and target, do not belong together."""


class RecipeFault(UserError):
    """An unknown key or an impossible value in a recipe or on the command line."""


class MemoryFault(UserError):
    """The memory granted does not suffice."""


class SaidElsewhere(UserError):
    """Another rank of the run has said what is wrong; this one ends without a word."""


class BatchFailure(Exception):
    """Some files of a batch failed; each is named with its reason, the others are done."""

    def __init__(self, failures: Sequence[tuple[str, str]], done: int):
        super().__init__(f"{len(failures)} of {len(failures) + done} files failed")
        self.failures = list(failures)
        self.done = done


class VerificationFault(Exception):
    """A network does not compute what its reference does."""


class RankLost(Exception):
    """Another rank of the run has ended before its end."""
