"""Forgetting with scikit-learn: ``erasure.sklearn.forget(estimator, X, y, forget=mask)``.

With ledger and certificate ``erasure.forget(model=estimator, data=(X, y), forget=mask)`` does it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from erasure.engine.forgetful_estimators import EstimatorOutcome, forget
from erasure.engine.saved_estimators import load_estimator, save_estimator

__all__ = ["EstimatorOutcome", "forget", "load", "save"]


def save(estimator: Any, folder: Path | str) -> Path:
    """Save a fitted estimator as plain files, without pickle, for ``erasure request``.

    Raises:
        RequirementNotMet: If it holds something that cannot be written so.
    """
    save_estimator(estimator, Path(folder))
    return Path(folder)


def load(folder: Path | str) -> Any:
    """An estimator that :func:`save`, or an answer to a request, has written.

    Raises:
        DataError: If the folder holds none.
    """
    return load_estimator(Path(folder))
