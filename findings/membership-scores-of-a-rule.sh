#!/usr/bin/env bash
# The rule-based membership attack of the Adversarial Robustness Toolbox (member = classified correctly) has one score for all samples when
# it is asked for probabilities, though its answers differ. Expected: each sample its own, as the answers. An AUC made of these scores is
# 0.5 for every model, whatever it remembers. Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet adversarial-robustness-toolbox==1.20.1 packaging==26.3 scikit-learn==1.9.1 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import art
import numpy as np
import sklearn
from art.attacks.inference.membership_inference import MembershipInferenceBlackBoxRuleBased
from art.estimators.classification import SklearnClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

warnings.filterwarnings("ignore")
print("adversarial-robustness-toolbox", art.__version__, "scikit-learn", sklearn.__version__)
random = np.random.default_rng(0)
x, y = random.normal(size=(200, 5)), random.integers(0, 2, 200)
members = np.repeat([True, False], 100)
forest = RandomForestClassifier(random_state=0).fit(x[members], y[members])  # random labels: whatever it knows it learned by heart
attack = MembershipInferenceBlackBoxRuleBased(SklearnClassifier(forest))
answers = attack.infer(x, y)
scores = attack.infer(x, y, probabilities=True)
print(f"called members: {int(answers[members].sum())} of 100 members, {int(answers[~members].sum())} of 100 others")
print(f"different rows among 200 scores: expected many, seen {len(np.unique(scores, axis=0))}")
by_answers, by_scores = roc_auc_score(members, answers), roc_auc_score(members, scores[:, 1])
print(f"AUC of the answers {by_answers:.2f}, of the scores: expected no less, seen {by_scores:.2f}")
sys.exit(0 if len(np.unique(scores, axis=0)) == 1 and by_scores == 0.5 < by_answers else 1)
PYTHON
