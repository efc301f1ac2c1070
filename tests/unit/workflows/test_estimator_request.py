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
    assert "take the samples off the counts" in str(request(tmp_path, fitted, [1], dry_run=True))
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
