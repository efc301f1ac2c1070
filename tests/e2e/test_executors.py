"""Whatever runs the stages, the results are the same bytes."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from small import command, running, small_experiment, workers_of


def _rows(directory):
    """What is in the table, without what a clock has to do with."""
    rows = [row for row in json.loads((directory / "rows.json").read_text()) if row["unit"] not in {"s", "MiB"}]
    return [{key: value for key, value in row.items() if key != "elapsed_s"} for row in rows]


def _objects(store):
    """The bytes of every tensor in a store, by address and name."""
    return {str(path.relative_to(store)): path.read_bytes() for path in (store / "objects").rglob("*.safetensors")}


def _small():
    """Few stages, so that the processes have something to do but not for long."""
    configuration = small_experiment()
    configuration["evaluator"] |= {"measures": configuration["evaluator"]["measures"][::2], "floor_repeats": 0}
    return configuration


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    where = tmp_path_factory.mktemp("serial")
    (where / "small.jsonc").write_text(json.dumps(_small()))
    done = command("run", where / "small.jsonc", "--store", where / "store", "--output", where / "out", "--quiet", "--no-report")
    assert done.returncode == 0, done.stderr
    return where


@pytest.mark.nightly  # by day its workers are killed, which needs all that this does
def test_processes_give_the_same_bytes(serial, tmp_path):
    options = ("--store", tmp_path / "store", "--output", tmp_path / "out", "--executor", "processes", "--workers", "2")
    done = command("run", serial / "small.jsonc", *options, "--no-report")
    assert done.returncode == 0, done.stderr
    assert _rows(tmp_path / "out") == _rows(serial / "out")
    assert _objects(tmp_path / "store") == _objects(serial / "store")


def test_a_finished_run_is_not_sent_anywhere(serial, tmp_path):
    options = ("--store", serial / "store", "--output", tmp_path, "--executor", "processes", "--log-json", tmp_path / "log")
    done = command("run", serial / "small.jsonc", *options, "--no-report")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    finished = [event for event in events if event["event"] == "StageFinished"]
    assert finished
    assert all(event["cached"] for event in finished)


def _workers(pid, n):
    """Worker processes of a run, once there are ``n``."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if len(found := workers_of(pid)) >= n:
            return found
        time.sleep(0.05)
    raise AssertionError("there are no workers")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="finds the worker processes through /proc")
def test_killed_workers_are_replaced_and_the_rows_are_the_same(serial, tmp_path):
    store = tmp_path / "store"
    options = ["--store", store, "--output", tmp_path / "out", "--executor", "processes", "--workers", "2"]
    with running("run", serial / "small.jsonc", *options, "--quiet", "--no-report") as run:
        for n_published in (1, 10):
            while len(list(store.glob("objects/*/*/manifest.json"))) < n_published and run.wait(0.02) is None:
                pass
            assert run.wait(0) is None, run.stderr
            os.kill(_workers(run.pid, 1)[0], signal.SIGKILL)
        assert run.wait(300) == 0, run.stderr
    assert _rows(tmp_path / "out") == _rows(serial / "out")
    assert _objects(store) == _objects(serial / "store")


@pytest.mark.nightly  # by day test_ray_nodes.py compares rows and bytes, on a cluster that loses a worker and a node
def test_ray_gives_the_same_bytes(serial, tmp_path):
    pytest.importorskip("ray")
    options = ("--store", tmp_path / "store", "--output", tmp_path / "out", "--executor", "ray", "--workers", "2", "--no-report")
    done = command("run", serial / "small.jsonc", *options)
    assert done.returncode == 0, done.stderr
    assert _rows(tmp_path / "out") == _rows(serial / "out")
    assert _objects(tmp_path / "store") == _objects(serial / "store")


def test_a_cluster_that_is_not_there_is_said_at_once(tmp_path):
    pytest.importorskip("ray")
    (tmp_path / "small.jsonc").write_text(json.dumps(small_experiment()))
    options = ("--store", tmp_path / "store", "--output", tmp_path / "out", "--executor", "ray", "--address", "127.0.0.1:1")
    done = command("run", tmp_path / "small.jsonc", *options)
    assert done.returncode == 2, done.stderr
    assert "there is no Ray cluster at 127.0.0.1:1" in done.stderr
