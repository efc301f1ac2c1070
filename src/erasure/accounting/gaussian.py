"""Gaussian differential privacy: two unit Gaussians a distance ``mu`` apart, and how well they can be told apart."""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from erasure.errors import DataError

__all__ = ["delta_of_mu", "epsilon_of_mu", "mu_of", "noise_for"]

_TOLERANCE = 1e-14


def delta_of_mu(mu: float, eps: float) -> float:
    """The smallest delta for which ``mu``-GDP gives (eps, delta): the hockey-stick divergence of N(mu, 1) from N(0, 1).

    It is also the contraction coefficient of adding unit noise to a set of diameter ``mu``.

    Source: Balle, Wang, ICML 2018, arXiv:1805.06530, theorem 8; Dong, Roth, Su, 2019, arXiv:1905.02383, corollary 2.13.

    Args:
        mu: Distance of the means in standard deviations, at least 0; infinite without noise.
        eps: At least 0.

    Returns:
        In [0, 1].

    Example:
        >>> round(delta_of_mu(2.0, 1.0), 12)
        0.509861660055
    """
    if not mu >= 0 or not eps >= 0:
        raise DataError(f"mu and eps are at least 0, found {mu} and {eps}")
    if mu == 0:
        return 0.0
    if math.isinf(mu):
        return 1.0
    low, high = -eps / mu + mu / 2, -eps / mu - mu / 2
    # exp(eps) overflows long before its product with the tail does.
    return min(1.0, max(0.0, float(ndtr(low)) - math.exp(min(0.0, eps + float(log_ndtr(high))))))


def epsilon_of_mu(mu: float, delta: float) -> float:
    """The smallest eps for which ``mu``-GDP gives (eps, delta).

    Args:
        mu: As in :func:`delta_of_mu`.
        delta: In (0, 1).

    Returns:
        At least 0; infinite if ``mu`` is.

    Example:
        >>> round(epsilon_of_mu(1.0, 1e-5), 8)
        4.3771781
    """
    _check_delta(delta)
    if math.isinf(mu):
        return math.inf
    if delta_of_mu(mu, 0.0) <= delta:
        return 0.0
    high = 1.0
    while delta_of_mu(mu, high) > delta:
        high *= 2
    return float(brentq(lambda eps: delta_of_mu(mu, eps) - delta, 0.0, high, xtol=1e-13, rtol=_TOLERANCE))


def mu_of(eps: float, delta: float) -> float:
    """The largest ``mu`` for which ``mu``-GDP gives (eps, delta).

    Args:
        eps: At least 0.
        delta: In (0, 1).
    """
    _check_delta(delta)
    high = 1.0
    while delta_of_mu(high, eps) <= delta:
        high *= 2
    # A hair below the root: the budget must hold after rounding.
    return float(brentq(lambda mu: delta_of_mu(mu, eps) - delta, 0.0, high, xtol=1e-15, rtol=_TOLERANCE)) * (1 - 1e-12)


def noise_for(sensitivity: float, eps: float, delta: float) -> float:
    """Standard deviation of the Gaussian noise that makes two vectors ``sensitivity`` apart (eps, delta)-indistinguishable.

    Args:
        sensitivity: Largest Euclidean distance, at least 0.
        eps: At least 0.
        delta: In (0, 1).

    Example:
        >>> round(noise_for(2.0, 1.0, 1e-5), 5)
        7.46126
    """
    return sensitivity / mu_of(eps, delta)


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise DataError(f"delta lies in (0, 1), found {delta}")
