"""One thread per operation, property tests that a slow machine does not fail, and a Ctrl-C that reaches the processes of tests.

Small tensors are slower with more threads, and results are the same bytes only for the same number. On CI the examples of property
tests are the same in every run; elsewhere they are drawn anew.

Files of tests lie in memory where there is room: a store waits several times per stage until its bytes are on the disk.
"""

import gc
import os
import shutil
import signal
import tempfile
from multiprocessing.util import Finalize
from pathlib import Path

# Before any library counts cores, and for all processes that tests start: threads that wait for each other only take time.
os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("ERASURE_TEST_THREADS", "1"))  # `make test-processors` takes two

import pytest
import torch
from hypothesis import settings

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 * 2**30


def _keep_files_in_memory():
    """Temporary directories of this process and of all that it starts; those of failed tests stay, under pytest's usual names."""
    with_room = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    if with_room:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))
    own = tempfile.mkdtemp(prefix="erasure-tests-", dir=_MEMORY if with_room else None)
    # In this process alone, not in its forks, and after multiprocessing has removed its own directory (at -100).
    Finalize(None, shutil.rmtree, args=(own,), kwargs={"ignore_errors": True}, exitpriority=-200)
    os.environ["TMPDIR"] = own
    os.environ.setdefault("XDG_CACHE_HOME", f"{own}/cache")  # validate remembers there
    tempfile.tempdir = None


if "PYTEST_XDIST_WORKER" not in os.environ:  # workers inherit it
    _keep_files_in_memory()
torch.set_num_threads(int(os.environ.get("ERASURE_TEST_THREADS", "1")))
gc.disable()  # until all tests are there: little of what is imported and collected is ever garbage
_EXAMPLES = int(os.environ.get("ERASURE_TEST_EXAMPLES", "30"))  # more by night
settings.register_profile("erasure", deadline=None, derandomize=bool(os.environ.get("CI")), max_examples=_EXAMPLES)
settings.load_profile("erasure")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so, and their children would inherit it: no test could interrupt one.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_helpers_when_the_machine_is_busy():
    """Runs that seem long there would share their stages with another process, in which no test can count."""
    from erasure.engine.executors import helpers

    helpers.WORTH_S = float("inf")  # tests/unit/engine/test_helpers.py has its own


def pytest_collection_modifyitems(config, items):
    """The long tests first, so that no worker waits for the last of them; those of the night only where they are asked for."""
    if "nightly" not in config.getoption("markexpr"):
        left_out = [item for item in items if item.get_closest_marker("nightly")]
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=left_out)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish(session):
    """What is there now stays: no collection of garbage need look at ten thousand tests and the libraries again."""
    gc.collect()
    gc.freeze()
    gc.enable()
