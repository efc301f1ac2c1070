"""A method that is stopped goes on from its last checkpoint, to the same bytes."""

import pytest
import torch
from small import small_experiment

from erasure.engine.executors import serial
from erasure.events import EpochFinished
from erasure.experiment.configuration import load_experiment
from erasure.stages.kept_training import KeptTraining
from erasure.stages.session import Session
from erasure.store import Store
from erasure.workflows.run import RunOptions, make_plan

EPOCHS = 4
RATE = {"class": "Adam", "parameters": {"lr": 0.01}}
MODEL = {"class": "MLP", "parameters": {"hidden_sizes": [8], "dropout": 0.3}}


class Stopped(Exception):
    """What a stop looks like to the test."""


class Runs:
    """The stage of a method in a store, stopped after an epoch or not."""

    def __init__(self, store, method, **evaluator):
        settings = {"unlearners": [method], "predictor": {"model": MODEL, "epochs": 1}}
        experiment = load_experiment(small_experiment(**settings, **evaluator))
        plan = make_plan(experiment, RunOptions(store=store))
        self.store, self.numerics, self.epochs = Store(store), plan.numerics, []
        (self.unlearning,) = (stage for stage in plan.stages.values() if stage.kind == "unlearned")
        self.before = [stage for kind in ("data", "split", "model") for stage in plan.stages.values() if stage.kind == kind]

    def run(self, stop_after=None, checkpoint_s=0.0):
        self.epochs = []

        def hear(event):
            if isinstance(event, EpochFinished):
                self.epochs.append(event.epoch)
                if event.epoch == stop_after:
                    raise Stopped

        session = Session(self.store, torch.device("cpu"), self.numerics)
        for stage in self.before:
            serial.run_or_raise(stage, session)
        session = Session(self.store, torch.device("cpu"), self.numerics, hear)
        session.checkpoint_s = checkpoint_s
        serial.run_or_raise(self.unlearning, session)
        artifact = self.store.open(self.unlearning.address)
        return artifact.path("model.safetensors").read_bytes(), artifact.facts["elapsed_s"]

    @property
    def checkpoints(self):
        return [address for address in self.store.addresses() if self.store.open(address).kind == KeptTraining.kind]


def of(name, **parameters):
    return {"class": name, "parameters": {"epochs": EPOCHS, "batch_size": 16, "optimizer": RATE, **parameters}}


@pytest.mark.parametrize("method", [of("Finetuning"), of("NegGrad"), of("NegGrad+")], ids=lambda method: method["class"])
def test_it_goes_on_to_the_same_bytes_and_leaves_nothing(tmp_path, method):
    whole = Runs(tmp_path / "whole", method).run()[0]
    runs = Runs(tmp_path / "stopped", method)
    for first, stop in ((1, 2), (2, 3)):
        with pytest.raises(Stopped):
            runs.run(stop_after=stop)
        assert runs.epochs == list(range(first, stop + 1))
        assert len(runs.checkpoints) == 1
    found, elapsed_s = runs.run()
    assert runs.epochs == [3, 4]
    assert found == whole
    assert runs.checkpoints == []
    assert elapsed_s > 0


def test_a_method_inside_another_starts_anew(tmp_path):
    step = of("Finetuning")
    runs = Runs(tmp_path, {"class": "Cascade", "parameters": {"steps": [step, step]}})
    with pytest.raises(Stopped):
        runs.run(stop_after=3)
    assert runs.checkpoints == []


def test_a_method_whose_epochs_are_looked_at_starts_anew(tmp_path):
    trace = {"measures": [], "trace": {"measures": [{"class": "Accuracy", "parameters": {"partition": "forget"}}]}}
    runs = Runs(tmp_path, of("Finetuning"), evaluator={"parameters": trace})
    assert runs.unlearning.is_traced
    with pytest.raises(Stopped):
        runs.run(stop_after=3)
    assert runs.checkpoints == []
