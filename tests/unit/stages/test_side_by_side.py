"""Models that are made one by one are the same, whoever makes them."""

import contextlib
import multiprocessing
import pickle
from multiprocessing.reduction import ForkingPickler

import pytest

from erasure.events import ignore_events
from erasure.experiment.configuration import load_experiment
from erasure.stages import side_by_side
from erasure.stages.models import MakeModels
from erasure.stages.session import Session
from erasure.store import Store
from erasure.unlearners.scrub import Scrub
from erasure.workflows.options import RunOptions
from erasure.workflows.run import make_plan, run_experiment

N_SHADOWS = 6
N_OTHERS = 2
"""Original and gold, which are stages of their own."""
CUT = "Percentage"
EXPERIMENT = {
    "name": "side by side",
    "data": {
        "data_source": {"class": "Sklearn", "parameters": {"name": "iris"}},
        "partitions": [
            {"class": CUT, "parameters": {"parts_names": ["rest", "test"], "percentage": 0.7}},
            {"class": CUT, "parameters": {"parts_names": ["validation", "train"], "ref_data": "rest", "percentage": 0.3}},
            {"class": CUT, "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.2}},
        ],
    },
    # Early stopping keeps models from being trained together.
    "predictor": {
        "model": {"class": "MLP", "parameters": {"hidden_sizes": [8], "batch_norm": True}},
        "epochs": 12,
        "patience": 2,
        "validation_set": "validation",
    },
    "unlearners": [],
    "evaluator": {"measures": [{"class": "LiRA", "parameters": {"n_shadows": N_SHADOWS}}], "floor_repeats": 0},
}


@pytest.fixture
def shadows(tmp_path, monkeypatch):
    """Runs the experiment: the shadows' bytes, and how many trainings of one model there were in this process."""
    here = []
    trained = Session.trained
    monkeypatch.setattr(Session, "trained", lambda *a, **k: here.append(1) or trained(*a, **k))

    def run(name, worth_s):
        monkeypatch.setattr(side_by_side, "WORTH_S", worth_s)
        here.clear()
        experiment = load_experiment(EXPERIMENT)
        assert run_experiment(experiment, RunOptions(store=tmp_path / name, workers=2, report=False)).is_sound
        store = Store(tmp_path / name, read_only=True)
        (block,) = [entry.address for entry in store.entries() if entry.kind == "models"]
        return store.open(block).path("models.safetensors").read_bytes(), len(here) - N_OTHERS

    return run


def test_models_that_others_train_are_the_same_bytes(shadows, monkeypatch):
    alone, n_here = shadows("alone", 1e9)
    assert n_here == N_SHADOWS
    # Whatever this process leaves, the other one does ...
    monkeypatch.setattr(side_by_side, "context", lambda *_: multiprocessing.get_context("spawn"))
    monkeypatch.setattr(side_by_side, "_make_what_is_left", lambda *_: None)
    assert shadows("by another", 0.0) == (alone, 1)
    # ... and what that one leaves too, because it died, this one does after all.
    monkeypatch.setattr(side_by_side, "_helpers", lambda *_: contextlib.nullcontext([]))
    assert shadows("by none", 0.0) == (alone, N_SHADOWS)


UNLEARNED = EXPERIMENT | {
    "predictor": {"model": {"class": "MLP", "parameters": {"hidden_sizes": [8]}}, "epochs": 3},
    "unlearners": [{"class": "SCRUB", "parameters": {"epochs": 1, "max_epochs": 1}}],
    "evaluator": {"measures": [{"class": "U-LiRA", "parameters": {"n_shadows": 4}}], "floor_repeats": 0},
}


def test_models_that_others_unlearn_are_the_same_bytes(tmp_path, monkeypatch):
    here = []
    unlearn = Scrub.unlearn
    monkeypatch.setattr(Scrub, "unlearn", lambda *a, **k: here.append(1) or unlearn(*a, **k))

    def run(name, worth_s):
        monkeypatch.setattr(side_by_side, "WORTH_S", worth_s)
        experiment, options = load_experiment(UNLEARNED), RunOptions(store=tmp_path / name, workers=2, report=False)
        assert run_experiment(experiment, options).is_sound
        (where,) = [at for at, s in make_plan(experiment, options).stages.items() if isinstance(s, MakeModels) and s.unlearner]
        return Store(tmp_path / name, read_only=True).open(where).path("models.safetensors").read_bytes()

    @contextlib.contextmanager
    def sent(arguments, folder, n):  # as to another process
        settings, recipe = pickle.loads(ForkingPickler.dumps(arguments))
        made = len(here)
        make_what_is_left(settings.session(ignore_events), recipe, folder)
        elsewhere.append(len(here) - made)
        yield []

    elsewhere, make_what_is_left = [], side_by_side._make_what_is_left
    alone = run("alone", 1e9)
    monkeypatch.setattr(side_by_side, "_helpers", sent)
    monkeypatch.setattr(side_by_side, "_make_what_is_left", lambda *_: None)
    assert run("by another", 0.0) == alone
    assert elsewhere == [3]  # of four shadows all but the first
