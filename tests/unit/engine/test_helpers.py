"""Models that another process makes are the same bytes."""

import sys
import threading
from multiprocessing.spawn import get_preparation_data
from types import MappingProxyType

import pytest

from erasure.engine.executors import helpers, processes
from erasure.engine.executors.processes import Worker
from erasure.events import StageFinished, fan_out, ignore_events
from erasure.experiment.configuration import load_experiment
from erasure.models.mlp import MLP
from erasure.stages import models, side_by_side
from erasure.stages.models import MakeModels
from erasure.stages.session import Session
from erasure.stages.stage import Stage
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


class Sent:
    """What other processes were given, and a way to wait for it."""

    def __init__(self):
        self.names, self.event, self.kinds = [], threading.Event(), (Stage,)

    def again(self, *kinds):
        """From now on it is waited for stages of these kinds; for none if there are none."""
        self.names.clear()
        self.event.clear()
        self.kinds = kinds
        if not kinds:
            self.event.set()

    def note(self, stage):
        self.names.append(stage.name)
        if isinstance(stage, self.kinds):
            self.event.set()

    def wait(self):
        assert self.event.wait(120)


@pytest.fixture
def sent(monkeypatch):
    found, send = Sent(), Worker.send

    def noted(worker, stage, folder=None):
        found.note(stage)
        send(worker, stage, folder)

    monkeypatch.setattr(Worker, "send", noted)
    return found


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs an experiment: bytes of the blocks, the names of the stages that ended, and why others failed."""

    def run(name, worth_s, changes=MappingProxyType({}), listener=ignore_events):
        monkeypatch.setattr(helpers, "WORTH_S", worth_s)
        monkeypatch.setattr(helpers, "ASK_S", worth_s)
        ended = []
        options = RunOptions(store=tmp_path / name, workers=2, report=False)
        found = run_experiment(load_experiment(EXPERIMENT | changes), options, fan_out(ended.append, listener))
        return (
            stored_models(tmp_path / name),
            sorted(event.name for event in ended if isinstance(event, StageFinished)),
            dict(found.failures),
        )

    return run


@pytest.fixture
def here(monkeypatch, sent):
    """Trainings of several models in this process; each waits until another process has something to do."""
    found, trained = [], models.train_together
    monkeypatch.setattr(models, "train_together", lambda *a, **k: (found.append(1), sent.wait()) and trained(*a, **k))
    return found


def test_blocks_that_others_train_are_the_same_bytes(run, sent, here, monkeypatch):
    sent.again()
    alone = run("alone", 1e9)
    assert (len(alone[0]), len(here), sent.names) == (2, 2, [])
    here.clear()
    sent.again(MakeModels)
    assert (run("by another", 0.0), len(here)) == (alone, 1)
    # What one that dies has not made, this process makes.
    here.clear()
    sent.again(Stage)
    monkeypatch.setattr(processes, "_serve", _die)
    assert (run("by none", 0.0), len(here)) == (alone, 2)


def test_a_block_that_diverges_in_another_process_fails_with_the_same_words(run, sent, here):
    recipe = EXPERIMENT["predictor"] | {"optimizer": {"class": "torch.optim.SGD", "parameters": {"lr": 1e5}}}
    sent.again(MakeModels)
    *_, failures = run("by another", 0.0, {"predictor": recipe})
    sent.again()
    assert failures == run("alone", 1e9, {"predictor": recipe})[-1] != {}


def test_networks_that_are_trained_alone_are_handed_out_after_what_is_timed(run, sent, monkeypatch):
    monkeypatch.setattr(MLP, "stackable", False)
    shadows = {"evaluator": {"measures": [{"class": "LiRA", "parameters": {"n_shadows": 4}}], "floor_repeats": 0}}
    changes = shadows | {"unlearners": ["Identity", "Finetuning"]}
    timed = {"train original", "train gold", "unlearn Identity", "unlearn Finetuning"}
    sent.again()
    alone = run("alone", 1e9, changes)
    assert (len(alone[0]), sent.names) == (4, [])

    ended, before, trained = [], [], Session.trained
    monkeypatch.setattr(Session, "trained", lambda session, *a, **k: _waits(session, sent) and trained(session, *a, **k))
    sent.again(Stage)
    sent.note = lambda stage: (
        before.append({event.name for event in ended if isinstance(event, StageFinished)}) or sent.event.set()
    )
    assert run("by another", 0.0, changes, ended.append) == alone
    assert timed <= before[0]


def test_pieces_that_others_make_are_the_same_bytes(run, sent, monkeypatch, tmp_path):
    # Early stopping keeps models from being trained together.
    recipe = EXPERIMENT["predictor"] | {"patience": 1, "validation_set": "test", "epochs": 4}
    changes = {
        "predictor": recipe,
        "unlearners": [{"class": "SCRUB", "parameters": {"epochs": 1, "max_epochs": 1}}],
        "evaluator": {"measures": [{"class": "U-LiRA", "parameters": {"n_shadows": 4}}], "floor_repeats": 0},
    }
    alone = run("alone", 1e9, changes)
    assert len(alone[0]) == 3
    # Whatever this process leaves, the other one does ...
    with monkeypatch.context() as patch:
        folders = []
        patch.setattr(side_by_side, "make_what_is_left", lambda _, __, folder: folders.append(folder) or sent.wait())
        made, piece = [], MakeModels.piece
        patch.setattr(MakeModels, "piece", lambda stage, *a: made.append(stage.name) or piece(stage, *a))
        sent.again(MakeModels)
        assert run("by another", 0.0, changes) == alone
        assert len(made) < 12
        assert {folder.parent for folder in folders} == {tmp_path / "by another" / "tmp"}
        assert not any(folder.exists() for folder in folders)
    # ... and what that one leaves too, because it died, this one does after all.
    monkeypatch.setattr(processes, "_serve", _die)
    assert run("by none", 0.0, changes) == alone


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


def _waits(session, sent):
    """Before the training of a shadow."""
    if session.running_name.startswith("train shadow"):
        sent.wait()
    return True
