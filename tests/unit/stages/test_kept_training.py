"""A training that is stopped goes on from its last checkpoint, to the same bytes."""

import pytest
import torch
from small import small_experiment
from stopped_stages import Stopped, StoppedStage

from erasure.experiment.configuration import load_experiment
from erasure.stages.kept_training import KeptTraining
from erasure.stages.session import Session
from erasure.training.history import Checkpoint

EPOCHS = 8
PREDICTOR = {
    "model": {"class": "MLP", "parameters": {"hidden_sizes": [8], "dropout": 0.3, "batch_norm": True}},
    "epochs": EPOCHS,
    "optimizer": {"class": "AdamW", "parameters": {"lr": 0.01}},
}


def runs_of(store, **changes):
    return StoppedStage(store, load_experiment(small_experiment(unlearners=[], predictor={**PREDICTOR, **changes})), "model")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    runs = runs_of(tmp_path_factory.mktemp("whole"))
    return runs.run()[0]


def test_it_goes_on_to_the_same_bytes_and_leaves_nothing(tmp_path, whole):
    runs = runs_of(tmp_path)
    for first, stop in ((1, 3), (3, 4), (4, 6)):
        with pytest.raises(Stopped):
            runs.run(stop_after=stop)
        assert runs.epochs == list(range(first, stop + 1))
        assert len(runs.checkpoints) == 1
    found, elapsed_s = runs.run()
    assert runs.epochs == list(range(6, EPOCHS + 1))
    assert found == whole
    assert runs.checkpoints == []
    assert elapsed_s > 0


def test_the_time_of_all_processes_counts(tmp_path):
    runs = runs_of(tmp_path)
    session = Session(runs.store, torch.device("cpu"), runs.numerics)
    first = KeptTraining(session=session, content={"a": 1}, before_s=100.0)
    trainer_state = {"state": {0: {"step": torch.tensor(3.0), "none": None}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]}
    checkpoint = Checkpoint(
        epoch=2,
        model={"w": torch.ones(2)},
        optimizer=trainer_state,
        schedule=None,
        streams={"shuffle": torch.zeros(4, dtype=torch.uint8)},
    )
    first.keep(checkpoint)
    again = KeptTraining(session=session, content={"a": 1})
    found = again.found()
    assert again.elapsed_s >= 100
    assert found.optimizer["param_groups"] == trainer_state["param_groups"]
    assert found.optimizer["state"][0].keys() == trainer_state["state"][0].keys()
    assert KeptTraining(session=session, content={"a": 2}).found() is None
    again.ended()
    assert runs.checkpoints == []


def test_a_damaged_checkpoint_is_no_checkpoint(tmp_path, whole):
    runs = runs_of(tmp_path)
    with pytest.raises(Stopped):
        runs.run(stop_after=4)
    file = runs.store.open(runs.checkpoints[0]).path("model.safetensors")
    file.chmod(0o644)
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    assert runs.run()[0] == whole
    assert runs.epochs == list(range(1, EPOCHS + 1))


def test_short_trainings_keep_nothing(tmp_path):
    runs = runs_of(tmp_path)
    with pytest.raises(Stopped):
        runs.run(stop_after=4, checkpoint_s=60.0)
    assert runs.checkpoints == []


def test_early_stopping_is_not_taken_up(tmp_path):
    runs = runs_of(tmp_path, patience=2, validation_set="test")
    with pytest.raises(Stopped):
        runs.run(stop_after=2)
    assert runs.checkpoints == []
    runs.run()
    assert runs.epochs[0] == 1
