import os
import signal
import sys
from multiprocessing import forkserver

import pytest

from erasure.stages.worker_processes import begin


@pytest.fixture
def starts(monkeypatch):
    """What holds whenever a server is asked for: whether interrupts wait, and the threads its libraries will find."""
    seen = []

    def ensure_running():
        seen.append((signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()), os.environ["OMP_NUM_THREADS"]))

    monkeypatch.setattr(forkserver, "ensure_running", ensure_running)
    monkeypatch.setattr(forkserver, "set_forkserver_preload", lambda names: None)
    return seen


@pytest.mark.skipif(sys.platform != "linux", reason="there is a server on Linux alone")
def test_a_server_begins_before_it_is_needed_and_no_interrupt_reaches_it(starts):
    begin("cpu")
    assert starts == [(True, "1")]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_devices_that_do_not_survive_a_fork_get_none(starts, device):
    begin(device)
    assert starts == []
