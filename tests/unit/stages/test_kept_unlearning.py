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


def test_a_method_inside_another_starts_anew(tmp_path):
    step = of("Finetuning")
    runs = runs_of(tmp_path, {"class": "Cascade", "parameters": {"steps": [step, step]}})
    with pytest.raises(Stopped):
        runs.run(stop_after=3)
    assert runs.checkpoints == []


def test_a_method_whose_epochs_are_looked_at_starts_anew(tmp_path):
    trace = {"measures": [], "trace": {"measures": [{"class": "Accuracy", "parameters": {"partition": "forget"}}]}}
    runs = runs_of(tmp_path, of("Finetuning"), evaluator={"parameters": trace})
    assert runs.stage.is_traced
    with pytest.raises(Stopped):
        runs.run(stop_after=3)
    assert runs.checkpoints == []
