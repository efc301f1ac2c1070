"""What a request will cost, from timing parts of it."""

import pytest
import torch
from own_models import N, network, problem, trainer

from erasure.engine.fits import Fits
from erasure.engine.given_data import given_data
from erasure.engine.sharded_fits import ShardedFit
from erasure.store import Store
from erasure.workflows import deletion_price
from erasure.workflows.deletion_price import retraining_price


@pytest.mark.parametrize(
    ("took", "expected"),
    [
        ((1.0, 4.0), 40.0),  # all of it grows with the data
        ((4.0, 4.0), 4.0),  # none of it does
        ((3.0, 4.0), 16.0),  # 8 / 3 for the start, and 1 / 30 a sample
        ((5.0, 4.0), 4.0),  # noise: a training does not get cheaper with more data
        ((0.5, 4.0), 40.0),  # noise: nor is there a start that takes less than nothing
    ],
)
def test_two_timings_tell_what_grows_with_the_data(took, expected):
    assert deletion_price._extended((10, 40), took, 400) == pytest.approx(expected)


def test_a_training_that_starts_slowly_is_not_taken_for_a_slow_one(tmp_path, monkeypatch):
    data, _ = problem()
    clock, plain = [0.0], trainer(data, steps=2)

    def fit(indices, seed):
        clock[0] += 100 + len(indices)  # seconds: a start, and one a sample
        return plain(indices, seed)

    model = plain(range(N), 1)
    given = given_data(model, forget=range(10), data=data, device=torch.device("cpu"))
    fits = Fits(fit, model, given, Store(tmp_path / "store"))
    monkeypatch.setattr("erasure.engine.fits.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(deletion_price, "_MIN_TRAINED", 20)
    assert retraining_price(fits, given, [], 0) == pytest.approx(100 + N - 10)
    ids = torch.arange(10, N)
    fits.model(ids, 7)
    assert retraining_price(fits, given, [(ids, 7)], 0) == pytest.approx(100 + N - 10)  # of one that is there


def test_each_network_of_the_shards_starts(tmp_path, monkeypatch):
    data, _ = problem()
    clock, plain = [0.0], trainer(data, steps=2)

    def fit(indices, seed):
        clock[0] += 100 + len(indices)  # seconds: a start, and one a sample
        return plain(indices, seed)

    sharded = ShardedFit(fit, network, [place // 3 for place in range(N)], shards=4)
    model = sharded(range(N), 1)
    given = given_data(model, forget=range(10), data=data, device=torch.device("cpu"))
    fits = Fits(sharded, model, given, Store(tmp_path / "store"))
    monkeypatch.setattr("erasure.engine.fits.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(deletion_price, "_MIN_TRAINED", 10)
    assert retraining_price(fits, given, [], 0) == pytest.approx(4 * 100 + N - 10)
