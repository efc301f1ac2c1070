"""Rényi bounds, and what they say in eps and delta."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.optimize import minimize_scalar

from erasure.errors import DataError

__all__ = ["Divergence", "epsilon_of_renyi", "epsilon_of_zcdp", "langevin_sequence", "langevin_start"]

Divergence = Callable[[float], float]
"""Bound on the Rényi divergence of each order above 1."""

_LARGEST_ORDER = 1e8


def epsilon_of_renyi(divergence: Divergence, delta: float, *, conversion: str = "tight") -> float:
    """The smallest eps that a Rényi bound gives, over all orders.

    Source: Balle, Barthe, Gaboardi, Hsu, Sato, AISTATS 2020, arXiv:1905.09982, theorem 21 (``tight``); Mironov, CSF 2017,
    arXiv:1702.07476, proposition 3 (``plain``).

    Args:
        divergence: The bound.
        delta: In (0, 1).
        conversion: ``tight`` or ``plain``.

    Raises:
        DataError: If delta or the conversion's name is out of range.
    """
    if not 0 < delta < 1:
        raise DataError(f"delta lies in (0, 1), found {delta}")
    if conversion not in {"tight", "plain"}:
        raise DataError(f"a conversion is tight or plain, found {conversion!r}")

    def eps(log_above_one: float) -> float:
        above = math.exp(log_above_one)
        order = 1 + above
        bound = divergence(order) - math.log(delta) / above
        return bound if conversion == "plain" else bound + math.log(above / order) - math.log(order) / above

    # The curve may be flat at its ends: the best point of a grid first, then its neighbourhood.
    first, last, steps = math.log(1e-3), math.log(_LARGEST_ORDER), 400
    width = (last - first) / steps
    best = min((first + width * i for i in range(steps + 1)), key=eps)
    found = minimize_scalar(eps, bounds=(best - width, best + width), method="bounded", options={"xatol": 1e-12})
    return max(0.0, min(float(found.fun), eps(best)))


def epsilon_of_zcdp(rho: float, delta: float) -> float:
    """The eps of ``rho``-zCDP by the formula of its paper; looser than :func:`epsilon_of_renyi`.

    Source: Bun, Steinke, TCC 2016, arXiv:1605.02065, proposition 1.3.
    """
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def langevin_start(order: float, *, n_removed: int, lipschitz: float, convexity: float, sd: float, n_samples: int) -> float:
    """Rényi divergence of the stationary distributions of noisy descent on data sets that differ in ``n_removed`` samples.

    Source: Chien, Wang, Chen, Li, NeurIPS 2024, arXiv:2401.10371.

    Args:
        order: Above 1.
        n_removed: Samples that differ.
        lipschitz: Bound on every sample's gradient.
        convexity: Strong convexity of the mean loss.
        sd: Scale of the noise: a step of rate r adds ``sqrt(2 r) * sd``.
        n_samples: Size of the data set.
    """
    return 4 * order * (n_removed * lipschitz) ** 2 / (convexity * sd**2 * n_samples**2)


def langevin_sequence(steps: tuple[int, ...], start: Divergence, *, decay: float) -> Divergence:
    """Rényi divergence from retraining after a sequence of requests, each followed by some noisy steps on what is left.

    Source: as :func:`langevin_start`; the weak triangle inequality doubles the order at each earlier request.

    Args:
        steps: Noisy steps after each request, the first one first.
        start: The divergence that one request causes.
        decay: Strong convexity times the rate.
    """

    def after(request: int, order: float) -> float:
        contraction = math.exp(-steps[request] * decay / order)
        if request == 0:
            return contraction * start(order)
        return contraction * (order - 0.5) / (order - 1) * (start(2 * order) + after(request - 1, 2 * order))

    return lambda order: after(len(steps) - 1, order)
