"""Methods that are plain training, applied to a block of models at once."""

import dataclasses

import pytest
import torch
from small import small_experiment
from torch import nn

from erasure.errors import RequirementNotMet
from erasure.experiment.configuration import load_experiment
from erasure.stages import models as population
from erasure.store import Store
from erasure.training.calls import Optimizer
from erasure.unlearners.cf_k import CFk
from erasure.unlearners.contract import plain_training
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.neg_grad import NegGrad
from erasure.unlearners.scrub import Scrub
from erasure.workflows.options import RunOptions
from erasure.workflows.run import make_plan, run_experiment

METHODS = [
    {"class": "Finetuning", "parameters": {"epochs": 2, "optimizer": {"class": "Adam", "parameters": {"lr": 0.003}}}},
    {"class": "NegGrad", "parameters": {"epochs": 2, "optimizer": {"class": "SGD", "parameters": {"lr": 0.01, "momentum": 0.9}}}},
    {"class": "CF-k", "parameters": {"epochs": 2, "k": 1}},
    {"class": "EU-k", "parameters": {"epochs": 2, "k": 2}},
]


def unlearned_blocks(store, method):
    """Weights of every block of unlearned models."""
    configuration = small_experiment(unlearners=[method])
    configuration["evaluator"] = {
        "measures": [
            {"class": "U-LiRA", "parameters": {"n_shadows": 4}},
            {"class": "KLoM", "parameters": {"n_models": 4}},
        ],
        "floor_repeats": 0,
    }
    # One process: on a busy machine another would take a block that the tests count.
    experiment, options = load_experiment(configuration), RunOptions(store=store, workers=1)
    assert run_experiment(experiment, options).is_sound
    stages = [s for s in make_plan(experiment, options).stages.values() if s.kind == "models" and s.unlearner is not None]
    return {stage.name: Store(store).open(stage.address).tensors("models") for stage in stages}


@pytest.mark.parametrize(
    "method",
    [*(pytest.param(each, marks=pytest.mark.nightly) for each in METHODS[:3]), METHODS[3]],
    ids=lambda method: method["class"],
)
def test_a_block_ends_where_its_models_end_one_by_one(tmp_path, monkeypatch, method):
    blocks = []
    at_once = population.train_together

    def counted(models, *arguments, **named):
        blocks.append(len(models))
        return at_once(models, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(population, "train_together", counted)
        together = unlearned_blocks(tmp_path / "together", method)
    n_together = len(blocks)
    blocks.clear()
    with monkeypatch.context() as patch:
        patch.setattr(population, "train_together", counted)
        patch.setattr(population, "plain_training", lambda unlearner: None)
        alone = unlearned_blocks(tmp_path / "alone", method)
    assert n_together == len(blocks) + len(together)  # the shadows and golds are trained together either way
    assert together.keys() == alone.keys()
    assert len(together) == 2
    for name, weights in together.items():
        for key, values in weights.items():
            torch.testing.assert_close(values, alone[name][key], atol=2e-5, rtol=1e-4)


def test_only_the_class_that_unlearns_may_say_that_it_is_training():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Other(Finetuning):
        def unlearn(self, model, task):
            return model

    assert plain_training(Finetuning(epochs=3)).epochs == 3
    assert plain_training(Other()) is None
    assert plain_training(CFk()).prepare is not None
    assert plain_training(CFk(k=0)) is None
    assert plain_training(Scrub()) is None


def test_last_layers_behind_statistics_are_trained_one_by_one():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 4), nn.Linear(4, 2))
    with pytest.raises(RequirementNotMet, match="stay in eval mode"):
        plain_training(CFk(k=1)).prepare(model, None)
    plain_training(CFk(k=3)).prepare(model, None)


def test_what_ends_or_normalises_otherwise_is_no_plain_training():
    assert plain_training(NegGrad()).ascends
    assert plain_training(NegGrad(stop_above=3.0)) is None
    assert plain_training(NegGrad(steps_per_epoch="retain")) is None
    assert plain_training(Finetuning(batch_norm="frozen", optimizer=Optimizer.of("SGD", lr=0.1))) is None
