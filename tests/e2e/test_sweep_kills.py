"""A sweep whose processes are killed again and again ends with the rows of one that was left alone, and runs nothing twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small import command, small_experiment, workers_of

N_KILLS = int(os.environ.get("ERASURE_TEST_KILLS", "8"))  # by night


def _sweep():
    swept = small_experiment(
        sweep={
            "over": {"unlearners[1].parameters.epochs": [1, 2], "data.partitions[1].parameters.percentage": [0.1, 0.2]},
            "seeds": {"train": [0]},
        }
    )
    swept["unlearners"] = ["GoldModel", {"class": "Finetuning", "parameters": {"epochs": 2}}, "Identity"]
    swept["evaluator"] |= {"measures": swept["evaluator"]["measures"][:4], "floor_repeats": 0}
    swept["predictor"]["epochs"] = 2
    return swept


def _rows(directory):
    rows = [row for row in json.loads((directory / "rows.json").read_text()) if row["unit"] not in {"s", "MiB", "x"}]
    return [{key: value for key, value in row.items() if key != "elapsed_s"} for row in rows]


def _published(store):
    return {path.parent.name for path in (store / "objects").glob("*/*/manifest.json")}


def _events(log):
    """Whole lines only: a killed process may leave half of one."""
    lines = log.read_text().splitlines() if log.exists() else []
    events = []
    for line in lines:
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return events


@pytest.mark.nightly  # by day test_resume.py kills a run twenty times, and test_executors.py its workers
@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="finds the worker processes through /proc")
@pytest.mark.parametrize("n_kills", [2, N_KILLS])
def test_kills_cost_no_more_than_the_stage_in_progress(tmp_path, n_kills):
    configuration = tmp_path / "sweep.jsonc"
    configuration.write_text(json.dumps(_sweep()))
    options = ("--store", tmp_path / "alone", "--output", tmp_path / "expected", "--quiet", "--no-report")
    alone = command("sweep", configuration, *options)
    assert alone.returncode == 0, alone.stderr

    store, output, generator = tmp_path / "store", tmp_path / "out", random.Random(0)
    options = ["--store", store, "--output", output, "--executor", "processes", "--workers", "2", "--quiet", "--no-report"]
    # Each kill comes once so many objects are published: moments spread over the whole sweep, however fast the machine is.
    moments = sorted(generator.sample(range(len(_published(tmp_path / "alone"))), n_kills))
    kills = 0
    for attempt in range(10 * n_kills):
        log, before = tmp_path / f"log-{attempt}", _published(store)
        arguments = [sys.executable, "-m", "erasure", "sweep", configuration, *options, "--log-json", log]
        with subprocess.Popen([*map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
            while kills < n_kills and run.poll() is None:
                time.sleep(0.05)
                if len(_published(store)) < moments[kills] or run.poll() is not None:
                    continue
                victim = generator.choice([run.pid, *workers_of(run.pid)])
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                kills += 1
            _, errors = run.communicate(timeout=300)
        started = {event["address"] for event in _events(log) if event["event"] == "StageStarted"}
        assert not started & before, "a stage that had been published ran again"
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL, errors.decode()
    assert (run.returncode, kills) == (0, n_kills)
    assert _rows(output) == _rows(tmp_path / "expected")
