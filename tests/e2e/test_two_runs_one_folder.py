"""Two runs into one folder: the files of one are all there before those of the other."""

import os
import threading
import time
from pathlib import Path

import pytest
from small import small_experiment

from erasure.durable import owned
from erasure.experiment.configuration import load_experiment
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment

LOCKS = Path("/proc/locks")


def somebody_waits():
    return any("->" in line and f" {os.getpid()} " in line for line in LOCKS.read_text().splitlines())


@pytest.mark.skipif(not LOCKS.exists(), reason="the system does not say who waits for a lock")
def test_results_are_written_after_those_of_whoever_writes_there(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    options = RunOptions(store=tmp_path / "store", output=out, report=False)
    thread = threading.Thread(target=run_experiment, args=(load_experiment(small_experiment()), options))
    with owned(out):
        thread.start()
        while thread.is_alive() and not somebody_waits():
            time.sleep(0.01)
        assert thread.is_alive()
        assert {file.name for file in out.iterdir()} <= {"looks.json"}
    thread.join()
    assert (out / "summary.json").exists()
