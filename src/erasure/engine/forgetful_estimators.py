"""Estimators of scikit-learn that forget: by a closed form, a warm refit, or fitting again."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from erasure.errors import DataError, MissingDependency, RequirementNotMet

__all__ = ["EstimatorOutcome", "forget", "is_made_of_counts"]

_COUNTING = ("MultinomialNB", "BernoulliNB", "ComplementNB")
"""Models that are sums over samples: a sample is taken off as it was put on, with weight -1."""
_CONVEX = ("LogisticRegression",)
"""Models with one optimum, from wherever the search starts."""


@dataclass(frozen=True, kw_only=True)
class EstimatorOutcome:
    """What was done to an estimator.

    Args:
        way: ``closed form``, ``warm refit`` or ``retraining``.
        guarantee: ``exact``, or what holds instead.
        n_forgotten: Number of samples.
        elapsed_s: Seconds.
    """

    way: str
    guarantee: str
    n_forgotten: int
    elapsed_s: float

    def __str__(self) -> str:
        return f"{self.n_forgotten:,} samples forgotten by {self.way} in {self.elapsed_s:.2f} s: {self.guarantee}"


def forget(estimator: Any, X: Any, y: Any = None, *, forget: Any, may_start_warm: bool = True, **fit_parameters: Any) -> Any:
    """An estimator that has forgotten some of the samples that it was fitted on.

    Naive Bayes of counts takes the samples off its counts; a logistic regression with an L2 penalty is refitted from where it stands, to
    the same optimum that it would reach from anywhere; everything else, pipelines too, is cloned and fitted on the samples that are left,
    which is retraining and therefore exact.

    Args:
        estimator: Fitted. It is not changed.
        X: What it was fitted on: array, sparse matrix or data frame.
        y: The labels; None where there are none.
        forget: Mask of the samples to forget, or their positions.
        may_start_warm: Whether a logistic regression may be refitted from where it stands; else it is fitted from scratch, which leaves no
            doubt about what the solver's tolerance may hide.
        **fit_parameters: What ``fit`` was given beside; what has one value a sample, such as ``sample_weight``, is cut to those left.

    Returns:
        An estimator of the same class, with the attribute ``unlearning_``, an :class:`EstimatorOutcome`.

    Raises:
        DataError: If positions are not in the data, or all samples or none are to be forgotten.
        RequirementNotMet: If the estimator is not fitted.

    Example:
        >>> import numpy as np
        >>> from sklearn.naive_bayes import MultinomialNB
        >>> X, y = np.array([[2, 0], [0, 3], [1, 1], [0, 1]]), np.array([0, 1, 0, 1])
        >>> print(forget(MultinomialNB().fit(X, y), X, y, forget=[3]).unlearning_.way)
        closed form
    """
    try:
        from sklearn.base import clone
        from sklearn.exceptions import NotFittedError
        from sklearn.utils import _safe_indexing
        from sklearn.utils.validation import check_is_fitted
    except ModuleNotFoundError as error:
        raise MissingDependency("scikit-learn", "all", "forgetting with an estimator") from error
    try:
        check_is_fitted(estimator)
    except (NotFittedError, TypeError) as error:
        name = type(estimator).__name__
        raise RequirementNotMet(
            f"{name} is not a fitted estimator of scikit-learn: fit it on what it is to forget first"
        ) from error
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    gone = _mask(forget, n)
    kept = np.flatnonzero(~gone)
    start = time.perf_counter()
    own = {name: _safe_indexing(value, kept) if _is_per_sample(value, n) else value for name, value in fit_parameters.items()}
    x_kept, y_kept = _safe_indexing(X, kept), None if y is None else _safe_indexing(y, kept)
    way, guarantee = "retraining", "exact: it is fitted from scratch on the samples that are left"
    keeps_classes = y is not None and len(np.unique(np.asarray(y_kept))) == len(getattr(estimator, "classes_", ()))
    if not fit_parameters and is_made_of_counts(estimator, y, gone):
        x_gone, y_gone = _safe_indexing(X, np.flatnonzero(gone)), _safe_indexing(y, np.flatnonzero(gone))
        found = copy.deepcopy(estimator)
        found.partial_fit(x_gone, y_gone, sample_weight=np.full(int(gone.sum()), -1.0))
        way, guarantee = "closed form", "exact: the samples were taken off the counts"
    elif may_start_warm and _can_start_warm(estimator) and keeps_classes:
        found = copy.deepcopy(estimator).set_params(warm_start=True)
        found.fit(x_kept, y_kept, **own)
        found.set_params(warm_start=estimator.warm_start)
        way, guarantee = "warm refit", f"exact up to the tolerance of the solver (tol = {estimator.tol:g}): the optimum is unique"
    else:
        found = clone(estimator)
        found.fit(x_kept, **own) if y is None else found.fit(x_kept, y_kept, **own)
    found.unlearning_ = EstimatorOutcome(
        way=way, guarantee=guarantee, n_forgotten=int(gone.sum()), elapsed_s=time.perf_counter() - start
    )
    return found


def is_made_of_counts(estimator: Any, y: Any, gone: Any) -> bool:
    """Whether samples can be taken off an estimator: it is naive Bayes of counts, and counts each of these samples once.

    One that was fitted with weights, or on other samples, counts another number of a class than there are.

    Args:
        estimator: Fitted.
        y: Labels of all samples that it was fitted on, or None.
        gone: Mask of those that are to go; they must not be all of a class.
    """
    if y is None or type(estimator).__name__ not in _COUNTING or not _is_of_sklearn(estimator):
        return False
    labels = np.asarray(y)
    if labels.ndim != 1:
        return False
    classes, counts = np.unique(labels, return_counts=True)
    keeps_classes = len(np.unique(labels[~np.asarray(gone)])) == len(classes)
    is_known = np.array_equal(classes, estimator.classes_) and np.allclose(counts, estimator.class_count_)
    return bool(keeps_classes and is_known)


def _mask(forget: Any, n: int) -> np.ndarray[Any, Any]:
    values = np.asarray(list(forget) if isinstance(forget, set | range) else forget)
    if values.ndim != 1 or (values.size and values.dtype.kind not in {"b", "i", "u"}):
        raise DataError(f"forget must be a mask of {n:,} samples or whole numbers, found shape {values.shape} of {values.dtype}")
    if values.dtype == bool:
        if len(values) != n:
            raise DataError(f"forget is a mask of {len(values):,} samples, and X has {n:,}")
        mask = values
    else:
        outside = values[(values < 0) | (values >= n)]
        if len(outside):
            raise DataError(f"{len(outside):,} of the positions are not in the data (0 to {n - 1:,}), the first is {outside[0]}")
        mask = np.zeros(n, dtype=bool)
        mask[values.astype(int)] = True
    if not mask.any():
        raise DataError("there is nothing to forget: forget holds no samples")
    if mask.all():
        raise DataError(f"all {n:,} samples are to be forgotten: there is nothing left to learn from")
    return mask


def _is_of_sklearn(estimator: Any) -> bool:
    return type(estimator).__module__.partition(".")[0] == "sklearn"


def _can_start_warm(estimator: Any) -> bool:
    """Whether the optimum is unique, so that it does not matter where the search starts."""
    if type(estimator).__name__ not in _CONVEX or not _is_of_sklearn(estimator):
        return False
    parameters: Mapping[str, Any] = estimator.get_params()
    only_l2 = parameters.get("penalty", "l2") in {"l2", "deprecated"} and not parameters.get("l1_ratio")
    return only_l2 and parameters.get("solver") in {"lbfgs", "newton-cg", "newton-cholesky"} and np.isfinite(parameters["C"])


def _is_per_sample(value: Any, n: int) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | Mapping) and len(value) == n
