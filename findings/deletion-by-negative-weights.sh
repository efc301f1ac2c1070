#!/usr/bin/env bash
# partial_fit() with a weight of -1 takes a sample out of a naive Bayes model of scikit-learn: exactly for MultinomialNB, not for GaussianNB,
# whose smoothing of variances is that of the last batch alone: none at all after a single sample. Expected: the model that was never
# shown the sample, for both. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet scikit-learn==1.9.1 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import sklearn
from sklearn.naive_bayes import GaussianNB, MultinomialNB

print("scikit-learn", sklearn.__version__)
random = np.random.default_rng(0)
x, y = random.poisson(3.0, (60, 4)).astype(float), np.tile([0, 1], 30)


def apart(estimator, attribute):
    whole = estimator().fit(x, y)
    whole.partial_fit(x[:1], y[:1], sample_weight=[-1.0])
    again = estimator().fit(x[1:], y[1:])
    a, b = getattr(whole, attribute), getattr(again, attribute)
    return float(np.max(np.abs(a - b) / np.abs(b))), float(np.max(np.abs(whole.predict_proba(x[1:]) - again.predict_proba(x[1:]))))


found = {"MultinomialNB": apart(MultinomialNB, "feature_log_prob_"), "GaussianNB": apart(GaussianNB, "var_")}
smoothing = GaussianNB().fit(x, y).partial_fit(x[:1], y[:1], sample_weight=[-1.0]).epsilon_ / GaussianNB().fit(x[1:], y[1:]).epsilon_
for name, (parameters, probabilities) in found.items():
    print(f"{name}: parameters apart from a refit by a share of {parameters:.1e}, probabilities by {probabilities:.1e}; expected 0")
print(f"GaussianNB: its smoothing of variances is {smoothing:.0f} times that of the refit; expected 1")
sys.exit(0 if found["MultinomialNB"][0] < 1e-9 and smoothing == 0 else 1)
PYTHON
