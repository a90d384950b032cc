"""What many tests share: the folder of real data, where there is one."""

import logging
import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("DEICE_DATA", Path(__file__).resolve().parents[1].parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data; the test is skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no real data: {DATA} does not exist (set DEICE_DATA to its place)")
    return DATA


@pytest.fixture(autouse=True)
def plain_logging():
    """A verb of the command line takes over the package's log; the next test finds it as it was."""
    yield
    logger = logging.getLogger("deice")
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)
