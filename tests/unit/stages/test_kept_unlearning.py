"""A method that is stopped goes on from its last checkpoint, to the same bytes."""

import pytest
from small import small_experiment
from stopped_stages import Stopped, StoppedStage

from erasure.experiment.configuration import load_experiment

EPOCHS = 4
RATE = {"class": "Adam", "parameters": {"lr": 0.01}}
MODEL = {"class": "MLP", "parameters": {"hidden_sizes": [8], "dropout": 0.3}}


def runs_of(store, method, **evaluator):
    settings = {"unlearners": [method], "predictor": {"model": MODEL, "epochs": 1}}
    return StoppedStage(store, load_experiment(small_experiment(**settings, **evaluator)), "unlearned")


def of(name, **parameters):
    return {"class": name, "parameters": {"epochs": EPOCHS, "batch_size": 16, "optimizer": RATE, **parameters}}


@pytest.mark.parametrize("method", [of("Finetuning"), of("NegGrad"), of("NegGrad+")], ids=lambda method: method["class"])
def test_it_goes_on_to_the_same_bytes_and_leaves_nothing(tmp_path, method):
    whole = runs_of(tmp_path / "whole", method).run()[0]
    runs = runs_of(tmp_path / "stopped", method)
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


INSIDE = {
    "Cascade": ({"steps": [of("Finetuning"), of("NegGrad+")]}, [1, 2, 3, 4, 1, 2], [4, 2, 3, 4]),
    "Masked": ({"inner": of("Finetuning"), "mask": {"class": "SaliencyMask"}}, [1, 2], [2, 3, 4]),
    "LastLayers": ({"inner": of("Finetuning"), "reset": True}, [1, 2], [2, 3, 4]),
}


@pytest.mark.parametrize("name", INSIDE)
def test_a_method_inside_another_goes_on_too(tmp_path, name):
    parameters, before, after = INSIDE[name]
    method = {"class": name, "parameters": parameters}
    whole = runs_of(tmp_path / "whole", method).run()[0]
    runs = runs_of(tmp_path / "stopped", method)
    with pytest.raises(Stopped):
        runs.run(stop_after_n=len(before))
    assert runs.epochs == before
    assert runs.checkpoints
    assert runs.run()[0] == whole
    assert runs.epochs == after
    assert runs.checkpoints == []


TRACE = {"measures": [], "trace": {"measures": [{"class": "Accuracy", "parameters": {"partition": "forget"}}]}}


def traced(store):
    runs = runs_of(store, of("Finetuning"), evaluator={"parameters": TRACE})
    assert runs.stage.is_traced
    return runs


def epochs_of(runs, n_epochs=EPOCHS):
    artifact = runs.store.open(runs.stage.address)
    return [artifact.path(f"epoch-{epoch:04d}.safetensors").read_bytes() for epoch in range(1, n_epochs + 1)]


def test_a_method_whose_epochs_are_looked_at_has_all_of_them_in_the_end(tmp_path):
    whole, runs = traced(tmp_path / "whole"), traced(tmp_path / "stopped")
    weights = whole.run()[0]
    for first, stop in ((1, 2), (2, 4)):
        with pytest.raises(Stopped):
            runs.run(stop_after=stop)
        assert runs.epochs == list(range(first, stop + 1))
    found = runs.run()[0]
    assert runs.epochs == [4]
    assert found == weights
    assert epochs_of(runs) == epochs_of(whole)
    seconds = runs.store.open(runs.stage.address).facts["epoch_elapsed_s"]
    assert sorted(seconds) == seconds
    assert runs.checkpoints == []


def test_where_an_epoch_that_is_looked_at_is_damaged_all_starts_anew(tmp_path):
    runs = traced(tmp_path)
    with pytest.raises(Stopped):
        runs.run(stop_after=3)
    logged = [address for address in runs.checkpoints if "log.json" in runs.store.open(address).files]
    assert len(logged) == 2
    runs.store.remove(logged[0])
    runs.run()
    assert runs.epochs == [1, 2, 3, 4]
    assert runs.checkpoints == []


SHORT = {"class": "Finetuning", "parameters": {"epochs": 2, "batch_size": 16, "optimizer": RATE}}
TRACED = {
    # Each step's epochs are looked at: stopped in the second step, the first one does its last epoch again.
    "Cascade": ({"steps": [of("Finetuning"), of("NegGrad+")]}, [1, 2, 3, 4, 1, 2], [4, 2, 3, 4], 8),
    # Each request is looked at: stopped in the second one after it was told of the first.
    "Sequential": ({"method": SHORT, "requests": ["forget", "test"], "remaining": ["retain", "retain"]}, [1], [1, 2], 2),
}


@pytest.mark.parametrize("name", TRACED)
def test_steps_whose_epochs_are_looked_at_go_on_too(tmp_path, name):
    parameters, before, after, n_epochs = TRACED[name]
    method = {"class": name, "parameters": parameters}
    whole, runs = (runs_of(tmp_path / where, method, evaluator={"parameters": TRACE}) for where in ("whole", "stopped"))
    weights = whole.run()[0]
    with pytest.raises(Stopped):
        runs.run(stop_after_n=len(before))
    assert runs.epochs == before
    assert runs.checkpoints
    assert runs.run()[0] == weights
    assert runs.epochs == after
    assert epochs_of(runs, n_epochs) == epochs_of(whole, n_epochs)
    seconds = runs.store.open(runs.stage.address).facts["epoch_elapsed_s"]
    assert sorted(seconds) == seconds
    assert runs.checkpoints == []
