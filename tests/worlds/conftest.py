"""What tests of the simulated worlds share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Small transforms are quicker alone than divided."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
