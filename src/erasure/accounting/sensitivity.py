"""How far apart two models can be before noise is added, and the noise and the steps that the papers ask for."""

from __future__ import annotations

import math

from erasure.accounting.gaussian import mu_of

__all__ = [
    "descent_distance",
    "descent_noise",
    "first_request_steps",
    "further_request_steps",
    "newton_budget",
    "newton_budget_exact",
    "rewind_distance",
]


def _contraction(convexity: float, smoothness: float) -> float:
    return (smoothness - convexity) / (smoothness + convexity)


def descent_distance(*, n_samples: int, convexity: float, smoothness: float, lipschitz: float, steps: int) -> float:
    """Distance of two iterates that descended ``steps`` steps to one minimum after every request of a stream, at most.

    Args:
        n_samples: Size of the data set.
        convexity: Strong convexity of the mean loss.
        smoothness: Of the mean loss.
        lipschitz: Bound on every sample's gradient.
        steps: After each request.
    """
    power = _contraction(convexity, smoothness) ** steps
    return 4 * lipschitz * power / (convexity * n_samples * (1 - power))


def descent_noise(
    eps: float, delta: float, *, n_samples: int, convexity: float, smoothness: float, lipschitz: float, steps: int
) -> float:
    """Noise of Descent-to-Delete as its paper states it; twice and more what :func:`descent_distance` needs.

    Source: Neel, Roth, Sharifi-Malvajerdi, ALT 2021, arXiv:2007.02923.
    """
    power = _contraction(convexity, smoothness) ** steps
    log = math.log(1 / delta)
    spread = math.sqrt(log + eps) - math.sqrt(log)
    return 4 * math.sqrt(2) * lipschitz * power / (convexity * n_samples * (1 - power) * spread)


def first_request_steps(eps: float, delta: float, *, convexity: float, smoothness: float, n_weights: int) -> int:
    """Steps of the first request when published weights are the start of the next one's descent.

    Source: as :func:`descent_noise`.
    """
    gamma = _contraction(convexity, smoothness)
    log = 2 * math.log(2 / delta)
    spread = math.sqrt(log + eps) - math.sqrt(log)
    return math.ceil(math.log(math.sqrt(2 * n_weights) / (1 - gamma) / spread) / math.log(1 / gamma))


def further_request_steps(request: int, delta: float, *, convexity: float, smoothness: float, n_weights: int) -> int:
    """Steps that request number ``request`` (from 1) adds to :func:`first_request_steps`."""
    gamma = _contraction(convexity, smoothness)
    return math.ceil(math.log(math.log(4 * n_weights * request / delta)) / math.log(1 / gamma))


def rewind_distance(
    *, n_samples: int, n_removed: int, smoothness: float, lipschitz: float, rate: float, steps: int, rewound: int
) -> float:
    """Distance from retraining of a model that was rewound ``rewound`` of its ``steps`` steps of descent and went on without the samples.

    Source: derived for full-batch descent on any smooth loss, after Mu, Klabjan, NeurIPS 2025, arXiv:2409.09778.

    Args:
        n_samples: Size of the data set.
        n_removed: Samples that are forgotten.
        smoothness: Of every sample's loss.
        lipschitz: Bound on every sample's gradient along the way.
        rate: Learning rate.
        steps: Of the training.
        rewound: Steps that are taken back and made again without the samples; all of them is retraining.
    """
    growth = rate * smoothness
    before = math.expm1((steps - rewound) * math.log1p(growth))
    return 2 * n_removed * lipschitz / (n_samples * smoothness) * before * (1 + growth) ** rewound


def newton_budget(sd: float, eps: float, delta: float) -> tuple[float, float]:
    """Guo's constant c and the gradient residual that noise of ``sd`` in the objective covers.

    Source: Guo, Goldstein, Hannun, van der Maaten, ICML 2020, arXiv:1911.03030, theorem 3.
    """
    c = math.sqrt(2 * math.log(1.5 / delta))
    return c, sd * eps / c


def newton_budget_exact(sd: float, eps: float, delta: float) -> float:
    """The same residual by the exact trade-off of two Gaussians; larger."""
    return sd * mu_of(eps, delta)
