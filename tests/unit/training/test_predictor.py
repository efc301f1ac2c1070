"""The training recipe: reproducible, with early stopping and replay."""

import pytest
import torch

from erasure.errors import DataError, Diverged, InvalidParameters
from erasure.models.mlp import MLP
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.predictor import ModelInput, Predictor, build_model, train

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(120, 6, generator=GENERATOR)
Y = (X[:, 0] + 0.7 * torch.randn(120, generator=GENERATOR) > 0).long()
SHAPE = ModelInput((6,), 2)


def fitted(predictor, seed=0, ids=range(80), **options):
    model = build_model(predictor.model, SHAPE, seed, torch.device("cpu"))
    given = {
        "x": TensorColumn(X),
        "y": Y,
        "ids": torch.tensor(list(ids), dtype=torch.int64),
        "criterion": Criterion("classification"),
    }
    return train(model, predictor, **given, seed=seed, batch_size=16, **options)


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def recipe(**parameters):
    return Predictor(model=MLP(hidden_sizes=(32,), dropout=0.2), **{"epochs": 5, **parameters})


def test_the_same_seed_gives_the_same_bytes_whatever_the_global_generator_does():
    first = flat(fitted(recipe()))
    torch.rand(7)
    state = torch.get_rng_state()
    assert torch.equal(first, flat(fitted(recipe())))
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, flat(fitted(recipe(), seed=1)))


def test_early_stopping_returns_the_weights_of_the_best_epoch():
    held_out = torch.arange(80, 120)
    heard = []
    stopped = fitted(
        recipe(epochs=200, patience=3, validation_set="validation", optimizer=Optimizer.of("Adam", lr=0.03)),
        validation_ids=held_out,
        on_epoch=lambda epoch, epochs, model: heard.append(epoch),
    )
    long = fitted(recipe(epochs=200, optimizer=Optimizer.of("Adam", lr=0.03)))

    def loss(model):
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(model(X[held_out])[1], Y[held_out]))

    assert len(heard) < 100
    assert loss(stopped) < loss(long)


def test_patience_and_a_validation_set_belong_together():
    with pytest.raises(InvalidParameters, match="validation_set"):
        recipe(patience=2)
    with pytest.raises(InvalidParameters, match="patience"):
        recipe(validation_set="validation")


def test_an_empty_training_set_is_refused_and_no_epochs_leave_the_initial_weights():
    with pytest.raises(DataError, match="empty"):
        fitted(recipe(), ids=())
    untrained = fitted(recipe(epochs=0), ids=())
    assert torch.equal(flat(untrained), flat(build_model(recipe().model, SHAPE, 0, torch.device("cpu"))))


def test_listeners_see_the_initial_weights_and_every_update():
    seen = []
    fitted(recipe(epochs=2), on_step=lambda model, update: seen.append((update.batch and len(update.batch.y), flat(model))))
    assert [size for size, _ in seen] == [None, *[16] * 10]
    assert torch.equal(seen[0][1], flat(build_model(recipe().model, SHAPE, 0, torch.device("cpu"))))
    assert torch.equal(seen[-1][1], flat(fitted(recipe(epochs=2))))


def test_a_diverging_training_says_so():
    with pytest.raises(Diverged, match="lower the learning rate"):
        fitted(recipe(optimizer=Optimizer.of("SGD", lr=1e30)))


def test_bfloat16_trains_close_to_float32():
    half, full = fitted(recipe(), precision="bf16"), fitted(recipe())
    assert not torch.equal(flat(half), flat(full))
    assert torch.nn.functional.cosine_similarity(flat(half), flat(full), dim=0) > 0.95
