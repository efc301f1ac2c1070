"""Ctrl-C: one line, exit code 130, and a store that goes on."""

import os
import signal
import subprocess
import sys
import time

import pytest
from small import command, running, small_experiment


@pytest.mark.parametrize(
    "executor",
    ["processes", pytest.param("serial", marks=pytest.mark.nightly)],  # by day tests/unit/cli/test_run.py
)
def test_an_interrupted_run_says_so_in_one_line_and_goes_on(tmp_path, write_config, executor):
    configuration = small_experiment(unlearners=["GoldModel"])
    configuration["evaluator"] |= {"measures": ["UMIA"], "floor_repeats": 0}
    configuration["predictor"]["epochs"] = 3000
    path = write_config(configuration)
    store = tmp_path / "store"
    options = ["--store", str(store), "--output", str(tmp_path / "out"), "--executor", executor, "--workers", "2"]
    with running("run", path, *options) as run:
        until = time.monotonic() + 300
        while not list(store.glob("objects/??/*/partitions.safetensors")) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(run.pid, signal.SIGINT)
        assert run.wait(300) == 130
        errors = run.stderr
    assert "interrupted; rerun the same command" in errors
    assert "Traceback" not in errors
    assert not list((store / "tmp").iterdir())
    configuration["predictor"]["epochs"] = 5
    done = command("run", write_config(configuration), "--store", store, "--output", tmp_path / "out", "--no-report")
    assert done.returncode == 0, done.stderr


def test_workers_of_a_run_that_is_terminated_end_without_a_word(tmp_path, write_config):
    configuration = small_experiment()
    configuration["predictor"]["epochs"] = 3000
    options = ["--store", str(tmp_path / "store"), "--output", str(tmp_path / "out"), "--executor", "processes", "--workers", "2"]
    arguments = [sys.executable, "-m", "erasure", "run", str(write_config(configuration)), *options]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 300
    while not list((tmp_path / "store").glob("objects/??/*/partitions.safetensors")) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1)
    process.terminate()
    _, errors = process.communicate(timeout=300)  # until the last worker has closed it
    assert process.returncode == -signal.SIGTERM
    assert "Traceback" not in errors
