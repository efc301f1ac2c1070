"""Deletion requests for estimators of scikit-learn: exact, recorded, certified, and saved without pickle."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import erasure
import erasure.sklearn
from erasure.certificates.verifying import verify
from erasure.errors import DataError, RequirementNotMet
from erasure.records.requests import Ledger
from erasure.workflows import estimator_price

X, Y = load_iris(return_X_y=True)
SHUFFLED = np.random.default_rng(0).permutation(len(Y))
X, Y = X[SHUFFLED], np.array(["setosa", "versicolor", "virginica"])[Y[SHUFFLED]]
DATA, TEST = (X[:100], Y[:100]), (X[100:], Y[100:])


def request(place, estimator, forget, **changes):
    return erasure.forget(model=estimator, forget=forget, data=DATA, test=TEST, folder=place / "requests", **changes)


@pytest.mark.parametrize(
    ("kind", "verdict"), [(MultinomialNB(), "exact"), (make_pipeline(StandardScaler(), LogisticRegression()), "retrained")]
)
def test_two_requests_for_an_estimator_and_their_certificates(tmp_path, kind, verdict):
    first = request(tmp_path, clone(kind).fit(*DATA), range(7), who=["anna"])
    assert (first.entry.verdict, first.entry.guarantee, first.entry.n_forgotten) == (verdict, "exact", 7)
    second = request(tmp_path, first.model, [3, 9, 11], who=["ben"])
    assert second.entry.n_forgotten == 2  # what anna has removed is gone
    kept = np.setdiff1d(np.arange(7, 100), [9, 11])
    alone = clone(kind).fit(X[kept], Y[kept])
    assert np.allclose(second.model.predict_proba(TEST[0]), alone.predict_proba(TEST[0]), atol=1e-9)
    folder, ledger = second.folder, tmp_path / "requests" / "ledger.jsonl"
    checked = verify(
        second.certificate, model=folder / "model", original=first.folder / "model", evidence=folder / "evidence", ledger=ledger
    )
    assert checked.passed, checked.checks
    again = request(tmp_path, second.model, [3, 9, 11], who=["ben"])
    assert again.entry == second.entry
    assert (again.model.predict(X) == second.model.predict(X)).all()
    assert len(Ledger(ledger)) == 2
    (folder / "model" / "arrays.safetensors").write_bytes(b"")
    assert not verify(second.certificate, model=folder / "model").passed


def test_what_is_saved_is_read_back_and_has_the_same_bytes(tmp_path):
    forest = RandomForestClassifier(3, random_state=0).fit(*DATA)
    for name, estimator in (("one", forest), ("two", erasure.sklearn.load(erasure.sklearn.save(forest, tmp_path / "one")))):
        erasure.sklearn.save(estimator, tmp_path / name)
    assert (erasure.sklearn.load(tmp_path / "two").predict(X) == forest.predict(X)).all()
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if not path.name.startswith(".")}
        for name in ("one", "two")
    )
    assert one == two
    state = tmp_path / "one" / "estimator.json"
    state.write_text(state.read_text().replace("sklearn.ensemble._forest:RandomForestClassifier", "os:system"))
    with pytest.raises(DataError, match=r"os\.system is no class of scikit-learn"):
        erasure.sklearn.load(tmp_path / "one")


def test_a_plan_and_mistakes(tmp_path):
    fitted = MultinomialNB().fit(*DATA)
    counted = request(tmp_path, fitted, [1], dry_run=True)
    assert "take the samples off the counts" in str(counted)
    assert 0 < counted.way_s < counted.total_s
    fresh = request(tmp_path, LogisticRegression().fit(*DATA), [1], dry_run=True, price_per_hour=3600.0)
    assert "fit the estimator from scratch" in str(fresh)
    assert "in money" in str(fresh)
    assert fresh.way_s == fresh.retraining_s > 0
    assert "Nothing has to be prepared" in str(request(tmp_path, fitted, [1], prepare=True))
    for forget, message in (
        ([100], "are not in the data"),
        (range(100), "nothing left to learn"),
        ([False] * 100, "nothing to forget"),
    ):
        with pytest.raises(DataError, match=message):
            request(tmp_path, fitted, forget)
    with pytest.raises(DataError, match="seems not to be trained on this data"):
        request(tmp_path, MultinomialNB().fit(X, np.roll(Y, 1)[::-1]), [1])
    with pytest.raises(RequirementNotMet, match="cannot be saved without pickle"):
        request(tmp_path, KNeighborsClassifier().fit(*DATA), [1])
    assert not (tmp_path / "requests" / "ledger.jsonl").exists()


class SlowEstimator:
    """Takes as long as the square of its samples, on a clock of its own."""

    def __init__(self, clock=None):
        self.clock = clock

    def get_params(self, deep=True):
        return {"clock": self.clock}

    def set_params(self, **given):
        return SlowEstimator(**given)

    def __sklearn_clone__(self):
        return self

    def fit(self, x, y):
        self.clock[0] += 1e-4 * len(x) ** 2
        return self

    def score(self, x, y):
        self.clock[0] += 0.2 + 0.01 * len(x)
        return 1.0


def test_a_price_grows_with_the_samples_as_the_estimator_does(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(estimator_price.time, "perf_counter", lambda: clock[0])
    slow, x, y = SlowEstimator(clock), np.zeros((4000, 1)), np.zeros(4000)
    assert estimator_price.fitting_seconds(slow, x, y) == pytest.approx(1e-4 * 4000**2, rel=0.01)
    assert clock[0] < 0.2 * 1e-4 * 4000**2  # learned from parts
    assert estimator_price.scoring_seconds(slow.score, x, y, 10_000) == pytest.approx(100.2, rel=0.01)
    assert estimator_price.fitting_seconds(slow, x[:40], y[:40]) == pytest.approx(0.16)  # quick enough to be tried


def test_samples_are_taken_off_counts_only_if_each_counts_once(tmp_path):
    weights = np.linspace(1, 3, 100)
    answer = request(tmp_path, MultinomialNB().fit(*DATA, sample_weight=weights), [1, 5], check_data=False)
    assert answer.entry.verdict == "retrained"
    kept = np.setdiff1d(np.arange(100), [1, 5])
    alone = MultinomialNB().fit(X[kept], Y[kept])
    assert np.allclose(answer.model.feature_log_prob_, alone.feature_log_prob_)
