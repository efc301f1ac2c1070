"""Forgetting with estimators of scikit-learn: as fitted without the samples, and the API kept."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import BernoulliNB, ComplementNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import erasure.sklearn
from erasure.errors import DataError, RequirementNotMet

X, Y = load_digits(return_X_y=True)
X, Y = X[:400] / 16, Y[:400]
GONE = np.arange(400) % 9 == 0


@pytest.mark.parametrize(
    ("estimator", "way"),
    [
        (MultinomialNB(), "closed form"),
        (BernoulliNB(binarize=0.25), "closed form"),
        (ComplementNB(), "closed form"),
        (LogisticRegression(max_iter=500), "warm refit"),
        (LogisticRegression(max_iter=100, C=np.inf), "retraining"),
        (Ridge(), "retraining"),
        (KNeighborsClassifier(), "retraining"),
        (RandomForestClassifier(20, random_state=0), "retraining"),
        (make_pipeline(StandardScaler(), Ridge()), "retraining"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_it_is_as_fitted_without_the_samples(estimator, way):
    fitted = clone(estimator).fit(X, Y)
    before = fitted.predict(X)
    found = erasure.sklearn.forget(fitted, X, Y, forget=GONE)
    expected = clone(estimator).fit(X[~GONE], Y[~GONE])
    assert found.unlearning_.way == way
    assert type(found) is type(fitted)
    assert repr(found) == repr(fitted)
    answer = "predict_proba" if hasattr(expected, "predict_proba") else "predict"
    np.testing.assert_allclose(
        getattr(found, answer)(X), getattr(expected, answer)(X), atol=2e-2 if way == "warm refit" else 1e-8
    )
    np.testing.assert_array_equal(fitted.predict(X), before)


def test_what_has_one_value_a_sample_is_cut_too():
    x, y = load_iris(return_X_y=True)
    weights = np.linspace(1, 2, len(x))
    found = erasure.sklearn.forget(
        LogisticRegression(max_iter=500).fit(x, y, weights), x, y, forget=[0, 60], sample_weight=weights
    )
    kept = np.setdiff1d(np.arange(len(x)), [0, 60])
    expected = LogisticRegression(max_iter=500).fit(x[kept], y[kept], weights[kept])
    np.testing.assert_allclose(found.predict_proba(x), expected.predict_proba(x), atol=5e-3)


def test_a_data_frame_keeps_its_names():
    import pandas as pd

    frame = pd.DataFrame(X, columns=[f"pixel{k}" for k in range(64)])
    found = erasure.sklearn.forget(KNeighborsClassifier().fit(frame, Y), frame, Y, forget=GONE)
    assert list(found.feature_names_in_) == list(frame.columns)


@pytest.mark.parametrize(
    ("forget", "message"),
    [
        ([400], "1 of the positions are not in the data"),
        ([], "there is nothing to forget"),
        (np.ones(400, dtype=bool), "all 400 samples are to be forgotten"),
        (np.ones(5, dtype=bool), "a mask of 5 samples, and X has 400"),
        (["anna"], "must be a mask"),
    ],
)
def test_a_mistake_gets_one_sentence(forget, message):
    with pytest.raises(DataError, match=message):
        erasure.sklearn.forget(MultinomialNB().fit(X, Y), X, Y, forget=forget)


def test_an_estimator_that_is_not_fitted_is_refused():
    with pytest.raises(RequirementNotMet, match="MultinomialNB is not a fitted estimator"):
        erasure.sklearn.forget(MultinomialNB(), X, Y, forget=[0])
