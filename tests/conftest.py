"""What many tests share: the folder of real data, where there is one."""

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
