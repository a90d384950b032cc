"""Options that several verbs share."""

import logging
import sys
from typing import Any

from deice.cli import is_first_rank


class _Once(logging.Handler):
    """Log records as lines on stderr; the same line only once."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if line not in self.said:
            self.said.add(line)
            print(f"deice: {line}", file=sys.stderr, flush=True)


def listen(level: int = logging.INFO) -> None:
    """Show what the modules below have to say, once, on stderr; of several ranks the first speaks for all."""
    logger = logging.getLogger("deice")
    logger.setLevel(level)
    logger.handlers = [_Once() if is_first_rank() else logging.NullHandler()]
    logger.propagate = False


def given(**options: Any) -> dict[str, Any]:
    """The options that were given: those that are not None."""
    return {name: value for name, value in options.items() if value is not None}
