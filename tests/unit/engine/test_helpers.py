"""Blocks of models that another process trains are the same bytes."""

import sys
from multiprocessing.spawn import get_preparation_data

import pytest

from erasure.engine.executors import helpers, processes
from erasure.engine.executors.processes import Worker
from erasure.experiment.configuration import load_experiment
from erasure.models.mlp import MLP
from erasure.stages import models
from erasure.stages.worker_processes import without_script
from erasure.store import Store
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment

CUT = "Percentage"
EXPERIMENT = {
    "name": "blocks on two cores",
    "data": {
        "data_source": {"class": "Sklearn", "parameters": {"name": "iris"}},
        "partitions": [
            {"class": CUT, "parameters": {"parts_names": ["train", "test"], "percentage": 0.7}},
            {"class": CUT, "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.2}},
        ],
    },
    "predictor": {"model": {"class": "MLP", "parameters": {"hidden_sizes": [4]}}, "epochs": 2},
    "unlearners": [],
    "evaluator": {"measures": [{"class": "LiRA", "parameters": {"n_shadows": 18}}], "floor_repeats": 0},
}


def stored_models(place):
    """Bytes of each block in a store."""
    store = Store(place, read_only=True)
    addresses = [entry.address for entry in store.entries() if entry.kind == "models"]
    return {address: store.open(address).path("models.safetensors").read_bytes() for address in addresses}


@pytest.fixture
def blocks(tmp_path, monkeypatch):
    """Runs the experiment."""
    here = []
    trained = models.train_together
    monkeypatch.setattr(models, "train_together", lambda *a, **k: here.append(1) or trained(*a, **k))

    def run(name, worth_s):
        """Bytes of the blocks, how many were trained in this process, and the names of the stages that ended."""
        monkeypatch.setattr(helpers, "WORTH_S", worth_s)
        here.clear()
        ended = []
        options = RunOptions(store=tmp_path / name, workers=2, report=False)
        assert run_experiment(load_experiment(EXPERIMENT), options, ended.append).is_sound
        return (
            stored_models(tmp_path / name),
            len(here),
            sorted(event.name for event in ended if type(event).__name__ == "StageFinished"),
        )

    return run


def test_blocks_that_others_train_are_the_same_bytes(blocks, monkeypatch):
    alone, n_here, stages = blocks("alone", 1e9)
    assert len(alone) == n_here == 2
    assert blocks("by another", 0.0) == (alone, 1, stages)
    # What one that dies has not made, this process makes.
    monkeypatch.setattr(processes, "_serve", _die)
    assert blocks("by none", 0.0) == (alone, 2, stages)


def test_networks_that_are_trained_alone_are_handed_out_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(MLP, "stackable", False)
    changes = {"evaluator": {"measures": [{"class": "LiRA", "parameters": {"n_shadows": 4}}], "floor_repeats": 0}}
    sent, send = [], Worker.send
    monkeypatch.setattr(Worker, "send", lambda worker, stage: sent.append(stage.name) or send(worker, stage))

    def shadows(name, worth_s):
        monkeypatch.setattr(helpers, "WORTH_S", worth_s)
        options = RunOptions(store=tmp_path / name, workers=2, report=False)
        assert run_experiment(load_experiment(EXPERIMENT | changes), options).is_sound
        return stored_models(tmp_path / name)

    alone = shadows("alone", 1e9)
    assert (len(alone), sent) == (4, [])
    assert shadows("by another", 0.0) == alone
    assert sent


def test_a_block_that_diverges_in_another_process_fails_with_the_same_words(tmp_path, monkeypatch):
    recipe = EXPERIMENT["predictor"] | {"optimizer": {"class": "torch.optim.SGD", "parameters": {"lr": 1e5}}}
    experiment = load_experiment(EXPERIMENT | {"predictor": recipe})

    def run(name, worth_s):
        monkeypatch.setattr(helpers, "WORTH_S", worth_s)
        monkeypatch.setattr(Worker, "send", lambda worker, stage: sent.append(stage.name) or send(worker, stage))
        return run_experiment(experiment, RunOptions(store=tmp_path / name, workers=2, report=False)).failures

    sent, send = [], Worker.send
    assert run("by another", 0.0) == run("alone", 1e9) != {}
    assert sent == ["train shadows 16–17"]


def test_other_processes_do_not_run_the_script_again(monkeypatch, tmp_path):
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__spec__", None)
    monkeypatch.setattr(main, "__file__", str(tmp_path / "script.py"), raising=False)
    before = dict(vars(main))

    def runs_it():
        return any(name.startswith("init_main") for name in get_preparation_data("another"))

    with without_script(b"nothing of the script"):
        assert not runs_it()
    assert vars(main) == before
    with without_script(b"a class of __main__"):
        assert runs_it()


def _die(*_):
    raise SystemExit(3)
