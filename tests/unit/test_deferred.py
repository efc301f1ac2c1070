"""What a library imports and perhaps never uses is imported by whoever uses it, and is what it always was."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from erasure.deferred import for_scikit_learn
with for_scikit_learn():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import QuantileTransformer
    from sklearn.svm import SVC
print(*(name in sys.modules for name in ("pandas", "scipy.stats")))
x, y = [[0.0], [1.0], [2.0], [4.0]], [0, 0, 1, 1]
print(LogisticRegression().fit(x, y).score(x, y), SVC(C=100.0).fit(x, y).score(x, y), "scipy.stats" in sys.modules)
print(QuantileTransformer(n_quantiles=4, output_distribution="normal").fit_transform(x).round(2).ravel().tolist())
import pandas
from scipy import stats
from sklearn.metrics import roc_auc_score
print(pandas.DataFrame({"a": [1, 2]})["a"].sum(), stats.rankdata([3.0, 1.0]).tolist(), roc_auc_score(y, [0.1, 0.4, 0.3, 0.9]))
print(LogisticRegression().fit(pandas.DataFrame(x, columns=["a"]), y).feature_names_in_.tolist())
"""


def test_scikit_learn_works_as_ever():
    sklearn = pytest.importorskip("sklearn")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    left, fitted, *others = done.stdout.splitlines()
    if tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 9):  # earlier versions ask for more of it
        assert left == "False False"
        assert fitted == "1.0 1.0 False"
    assert fitted.startswith("1.0 1.0")
    assert others == ["[-5.2, -0.43, 0.43, 5.2]", "3 [2.0, 1.0] 0.75", "['a']"]
