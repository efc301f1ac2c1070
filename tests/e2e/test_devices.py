"""``--devices 2`` on the command line: the models of one device, bad combinations refused, and nothing left behind."""

import importlib.util
import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from small import command, is_worker, running, small_experiment, workers_of

from erasure.store import Store

pytestmark = pytest.mark.skipif(importlib.util.find_spec("lightning_fabric") is None, reason="the extra fabric is not installed")


def _models(store):
    """Trained weights by number of devices, then by what else their address is made of."""
    found = {1: {}, 2: {}}
    for entry in store.entries():
        if entry.kind == "model":
            content = dict(store.open(entry.address).manifest.content)
            devices = content.pop("numerics").get("devices", 1)
            found[devices][json.dumps(content, sort_keys=True)] = store.open(entry.address).tensors("model")
    return found


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The run of one device. Without a method that forgets, and a floor, there are two models to train."""
    where = tmp_path_factory.mktemp("one")
    experiment = small_experiment(unlearners=["GoldModel"])
    experiment["evaluator"] |= {"measures": ["UMIA"], "floor_repeats": 0}
    experiment["predictor"]["epochs"] = 3
    (where / "config.jsonc").write_text(json.dumps(experiment), encoding="utf-8")
    options = ("--device", "cpu", "--store", where / "store", "--output", where / "out", "--no-report")
    done = command("run", where / "config.jsonc", *options)
    assert done.returncode == 0, done.stderr
    return where


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp", marks=pytest.mark.nightly)])  # by day many_ranks.py has both
def test_two_devices_train_the_models_of_one(strategy, one, tmp_path):
    log, store = tmp_path / "log", tmp_path / "store"
    shutil.copytree(one / "store", store)
    options = ("--device", "cpu", "--store", store, "--no-report", "--output", tmp_path / "two")
    more = ("--devices", "2", "--strategy", strategy, "--log-json", log)
    two = command("run", one / "config.jsonc", *options, *more)
    assert two.returncode == 0, two.stderr
    assert "Warning" not in two.stderr
    models = _models(Store(store))
    assert models[1].keys() == models[2].keys()
    assert len(models[1]) == 2
    for content, weights in models[1].items():
        for name, values in weights.items():
            assert torch.allclose(models[2][content][name], values, atol=1e-4), name
    events = [json.loads(line) for line in log.read_text().splitlines()]
    trained = [event for event in events if event["event"] == "StageFinished" and event["kind"] == "model"]
    assert trained
    assert not any(event["cached"] for event in trained), "what several devices make has an address of its own"
    epochs = [event for event in events if event["event"] == "EpochFinished" and event["name"] == "train original"]
    assert [event["epoch"] for event in epochs] == list(range(1, 4))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="finds the processes through /proc")
def test_killing_the_run_leaves_no_process(write_config, tmp_path):
    experiment = small_experiment()
    experiment["predictor"]["epochs"] = 100_000
    log = tmp_path / "log"
    options = [
        "--device",
        "cpu",
        "--devices",
        "2",
        "--store",
        tmp_path / "store",
        "--output",
        tmp_path / "out",
        "--log-json",
        log,
    ]
    with running("run", write_config(experiment), *options, "--quiet") as run:
        deadline = time.monotonic() + 240
        while not (log.exists() and "EpochFinished" in log.read_text()):
            assert run.wait(0.1) is None, run.stderr
            assert time.monotonic() < deadline, "no epoch has ended"
        ranks = workers_of(run.pid)
        assert len(ranks) == 2
        run.kill()
    deadline = time.monotonic() + 30
    while any(is_worker(pid) for pid in ranks):
        assert time.monotonic() < deadline, "a process outlives its parent"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("options", "changes", "said"),
    [
        (("--executor", "processes"), {}, "use --executor serial"),
        (("--device", "cuda:1"), {}, "cuda:1"),
        (("--device", "cuda", "--devices", "99"), {}, "cuda"),
        (("--strategy", "fsdp"), {"optimizer": "Adafactor"}, "Adafactor needs all weights at once"),
        ((), {"loss_fn": {"class": "CrossEntropyLoss", "parameters": {"ignore_index": 1}}}, "is no mean over the samples"),
    ],
    ids=["executor", "one-device", "too-many", "optimizer", "loss"],
)
def test_what_several_devices_cannot_do_is_said_before_anything_trains(options, changes, said, write_config, tmp_path):
    experiment = small_experiment()
    experiment["predictor"] |= changes
    store = ("--store", tmp_path / "store", "--output", tmp_path / "out", "--no-report")
    done = command("run", write_config(experiment), "--device", "cpu", "--devices", "2", *store, *options)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 5, done.stderr
    assert "train original" not in done.stdout + done.stderr


def test_shards_and_blocks_of_models_do_not_go_together(write_config, tmp_path):
    experiment = small_experiment()
    experiment["evaluator"]["measures"].append({"class": "LiRA", "parameters": {"n_shadows": 4}})
    store = ("--store", tmp_path / "store", "--output", tmp_path / "out", "--no-report")
    done = command("run", write_config(experiment), "--device", "cpu", "--devices", "2", "--strategy", "fsdp", *store)
    assert done.returncode == 2, done.stderr
    assert "leave the measure out, or use --strategy ddp" in done.stderr
