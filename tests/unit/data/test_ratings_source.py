"""Made-up ratings: their structure."""

import pytest
import torch

from erasure.data.sources.ratings import SyntheticRatings
from erasure.models.ease import EASE
from erasure.training.batches import Batch
from erasure.training.predictor import ModelInput


def test_ratings_are_what_was_asked_for():
    data = SyntheticRatings(n_users=2000, n_items=40, density=0.15, hidden=0.25).load()
    x, y = data.x.values, data.y
    assert (data.task, data.n_classes, data.x_shape, tuple(y.shape)) == ("multilabel", 40, (40,), (2000, 40))
    assert float(y.mean()) == pytest.approx(0.15, abs=0.01)
    assert bool((x <= y).all())
    assert float(x.sum() / y.sum()) == pytest.approx(0.75, abs=0.02)
    popular = y.mean(0).sort(descending=True).values
    assert float(popular[0]) > 3 * float(popular[20])
    again, other = SyntheticRatings(n_users=50, n_items=8).load(), SyntheticRatings(n_users=50, n_items=8, seed=1).load()
    assert torch.equal(again.y, SyntheticRatings(n_users=50, n_items=8).load().y)
    assert not torch.equal(again.y, other.y)


def found_by(scores, x, y):
    """Share of the hidden items that are among the ten best of those that a user does not show."""
    hidden = (y > x) & (x == 0)
    best = torch.where(x > 0, -torch.inf, scores).topk(10, dim=1).indices
    return float(hidden.gather(1, best).sum() / hidden.sum())


def test_tastes_tell_hidden_items_better_than_popularity():
    data = SyntheticRatings(n_users=1500, n_items=60, hidden=0.3).load()
    x, y, ids = data.x.values, data.y, torch.arange(1500)
    model = EASE(l2=50.0).build(ModelInput(x_shape=(60,), n_classes=60, task="multilabel"))
    model.fit(Batch(x[:1000], y[:1000], ids[:1000]), 0)
    popular = y[:1000].mean(0).expand(500, -1)
    assert found_by(model(x[1000:]), x[1000:], y[1000:]) > 1.2 * found_by(popular, x[1000:], y[1000:])
