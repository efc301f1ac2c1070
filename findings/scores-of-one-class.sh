#!/usr/bin/env bash
# scikit-learn 1.9.1: some scores that one class leaves undefined are 0.0, an ordinary value, where others are nan or refused.
# One would expect nan (as of roc_auc_score): a perfect prediction of a part with one class is not as good as chance.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -r "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check scikit-learn==1.9.1
cat > "$folder/check.py" <<'PYTHON'
import sys
import warnings

import sklearn
from sklearn.metrics import average_precision_score, matthews_corrcoef, roc_auc_score

print("python", sys.version.split()[0], "scikit-learn", sklearn.__version__)


def answer(function, *given):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = function(*given)
        except ValueError as error:
            return f"refused: {error}"
    return f"{float(value)}" + (f" (warned: {str(caught[0].message).splitlines()[0]})" if caught else "")


found = {
    "matthews_corrcoef, all right": answer(matthews_corrcoef, [1, 1, 1], [1, 1, 1]),
    "matthews_corrcoef, a third wrong": answer(matthews_corrcoef, [1, 1, 1], [1, 1, 0]),
    "average_precision_score, no positive": answer(average_precision_score, [0, 0, 0], [0.1, 0.2, 0.3]),
    "roc_auc_score, no positive": answer(roc_auc_score, [0, 0, 0], [0.1, 0.2, 0.3]),
}
for name, value in found.items():
    print(f"{name}: expected nan, found {value}")
zero = [value for name, value in found.items() if "roc" not in name]
sys.exit(0 if all(value.startswith("0.0") for value in zero) and not found["roc_auc_score, no positive"].startswith("0") else 1)
PYTHON
"$folder/venv/bin/python" "$folder/check.py" && echo "As described." || { echo "The behaviour has changed."; exit 1; }
