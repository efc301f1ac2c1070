import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Toys are too small for threads: on shared cores, waiting for them costs ten times the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
