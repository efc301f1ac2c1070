"""One thread per operation, property tests that a slow machine does not fail, and a Ctrl-C that reaches the processes of tests.

Small tensors are slower with more threads, and results are the same bytes only for the same number. On CI the examples of property
tests are the same in every run; elsewhere they are drawn anew.
"""

import os
import signal
import tempfile

import torch
from hypothesis import settings

torch.set_num_threads(int(os.environ.get("ERASURE_TEST_THREADS", "1")))  # `make test-processors` takes two
settings.register_profile("erasure", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("erasure")
os.environ.setdefault("XDG_CACHE_HOME", tempfile.mkdtemp(prefix="erasure-test-cache-"))  # validate remembers there
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so, and their children would inherit it: no test could interrupt one.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """The long tests first, so that no worker waits for the last of them."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
