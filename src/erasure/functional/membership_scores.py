r"""Membership scores from the outputs of shadow models: likelihood ratios of Gaussians and of kernel densities, and RMIA's ranks.

Statistics of shadow models are matrices ``(S, n)``, a row for each model; which of them count for a sample is a mask of the same shape.
Everything is vectorised over models and samples and computed in double precision.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from erasure.errors import DataError

__all__ = [
    "Gaussians",
    "gaussian_fits",
    "kernel_log_density",
    "log_mean_probability",
    "most_separated",
    "offline_prior",
    "offline_score",
    "online_score",
    "pairwise_rank",
]

_MIN_STD = 1e-6
"""A spread below this is that of models which are equal but for rounding."""


class Gaussians(NamedTuple):
    """A normal distribution for each sample.

    Args:
        mean: ``(n,)`` float64.
        std: ``(n,)`` float64, positive.
    """

    mean: Tensor
    std: Tensor

    def log_density(self, values: Tensor) -> Tensor:
        """Logarithm of the density of each sample's own distribution at its value, ``(n,)``."""
        return -((values.double() - self.mean) / self.std).square() / 2 - self.std.log() - math.log(2 * math.pi) / 2


def gaussian_fits(statistics: Tensor, counted: Tensor, *, pooled: bool = False) -> Gaussians:
    """Fit a normal distribution to what some of the models say about each sample.

    Args:
        statistics: ``(S, n)``, finite.
        counted: ``(S, n)`` booleans, or how often each entry counts.
        pooled: Whether all samples share one variance, the mean of theirs weighted by degrees of freedom. With fewer than some 64 models
            a sample's own variance is too uncertain.

    Returns:
        Means, and unbiased standard deviations, at least 1e-6.

    Raises:
        DataError: If a sample has fewer than two entries that count.

    Source:
        Carlini et al., IEEE S&P 2022, arXiv:2112.03570, algorithm 1 and section VI-A.

    Example:
        >>> fit = gaussian_fits(torch.tensor([[0.0], [2.0], [9.0]]), torch.tensor([[True], [True], [False]]))
        >>> fit.mean.tolist(), fit.std.tolist()
        ([1.0], [1.4142135623730951])
    """
    weights, values = counted.double(), statistics.double()
    n = weights.sum(0)
    if bool((n < 2).any()):
        raise DataError(f"{int((n < 2).sum())} of {len(n)} samples have fewer than two models to fit a distribution to")
    mean = (weights * values).sum(0) / n
    squares = (weights * (values - mean).square()).sum(0)
    variance = (squares.sum() / (n - 1).sum()).expand_as(mean) if pooled else squares / (n - 1)
    return Gaussians(mean, variance.sqrt().clamp(min=_MIN_STD))


def online_score(statistic: Tensor, inside: Gaussians, outside: Gaussians) -> Tensor:
    r"""LiRA's likelihood ratio.

    .. math:: \log \mathcal N(\phi; \mu_\mathrm{in}, \sigma_\mathrm{in}^2) - \log \mathcal N(\phi; \mu_\mathrm{out}, \sigma_\mathrm{out}^2)

    Args:
        statistic: What the attacked model says, ``(n,)``.
        inside: What models that saw the sample say.
        outside: What models that did not see it say.

    Returns:
        ``(n,)``; above 0 where "member" is the likelier. Exchanging ``inside`` and ``outside`` flips the sign.

    Source:
        Carlini et al., 2022, algorithm 1.

    Example:
        >>> unit = torch.ones(1, dtype=torch.float64)
        >>> online_score(torch.tensor([2.0]), Gaussians(2 * unit, unit), Gaussians(0 * unit, unit))
        tensor([2.], dtype=torch.float64)
    """
    return inside.log_density(statistic) - outside.log_density(statistic)


def offline_score(statistic: Tensor, outside: Gaussians) -> Tensor:
    r"""LiRA's one-sided test against models that did not see the sample, :math:`(\phi - \mu_\mathrm{out}) / \sigma_\mathrm{out}`.

    It ranks samples as :math:`\Pr[Z \le \phi]` does, without rounding to 0 or 1.

    Returns:
        ``(n,)``; above 0 where the model is surer than an average one that did not see the sample.

    Source:
        Carlini et al., 2022, section V-C.

    Example:
        >>> offline_score(torch.tensor([3.0]), Gaussians(torch.tensor([1.0]), torch.tensor([4.0])))
        tensor([0.5000])
    """
    return (statistic.to(outside.mean.dtype) - outside.mean) / outside.std


def kernel_log_density(statistic: Tensor, statistics: Tensor, counted: Tensor) -> Tensor:
    r"""Logarithm of a Gaussian kernel density of each sample, with Scott's bandwidth :math:`h = \hat\sigma\, n^{-1/5}` of that sample.

    Args:
        statistic: Where the densities are wanted, ``(n,)``.
        statistics: What the models say, ``(S, n)``, finite.
        counted: Which of them count, ``(S, n)`` booleans.

    Returns:
        ``(n,)`` float64; finite but for values very far from every model's.

    Raises:
        DataError: If a sample has fewer than two models that count.

    Source:
        Scott, Multivariate Density Estimation, 1992; tested against ``scipy.stats.gaussian_kde``.

    Example:
        >>> density = kernel_log_density(torch.zeros(1), torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1, dtype=torch.bool))
        >>> [round(each, 4) for each in density.tolist()]
        [-1.4568]
    """
    fit = gaussian_fits(statistics, counted)
    n = counted.double().sum(0)
    width = fit.std * n.pow(-0.2)
    exponents = -((statistic.double() - statistics.double()) / width).square() / 2
    total = exponents.masked_fill(~counted, -math.inf).logsumexp(0)
    return total - (n * width).log() - math.log(2 * math.pi) / 2


def log_mean_probability(log_probabilities: Tensor, counted: Tensor) -> Tensor:
    """Logarithm of the mean probability over the models that count, ``(S, n)`` to ``(n,)``.

    Raises:
        DataError: If no model counts for a sample.

    Example:
        >>> log_mean_probability(torch.tensor([[0.2], [0.4]]).log(), torch.ones(2, 1, dtype=torch.bool)).exp()
        tensor([0.3000], dtype=torch.float64)
    """
    n = counted.double().sum(0)
    if bool((n < 1).any()):
        raise DataError(f"{int((n < 1).sum())} of {len(n)} samples have no reference model")
    return log_probabilities.double().masked_fill(~counted, -math.inf).logsumexp(0) - n.log()


def offline_prior(log_outside: Tensor, a: float) -> Tensor:
    r"""RMIA's estimate of a sample's marginal probability from models that did not see it.

    .. math:: \Pr(x) \approx \tfrac12 \bigl((1 + a) \Pr(x)_\mathrm{OUT} + (1 - a)\bigr)

    Args:
        log_outside: Logarithm of the mean probability under those models, ``(n,)``.
        a: In [0, 1]; how far the probability under models that saw the sample follows that under models that did not.

    Returns:
        Logarithm of the estimate, ``(n,)``.

    Source:
        Zarifzadeh, Liu, Shokri, ICML 2024, arXiv:2312.03262, section 3 and appendix B.

    Example:
        >>> offline_prior(torch.tensor([0.5]).log(), 0.5).exp()
        tensor([0.6250], dtype=torch.float64)
    """
    # As logarithms: for a = 1 nothing is added, and a probability may be too small to be a number.
    added = math.log1p(-a) if a < 1 else -math.inf
    log_outside = log_outside.double() + math.log1p(a)
    return torch.logaddexp(log_outside, torch.full_like(log_outside, added)) - math.log(2)


def pairwise_rank(ratios: Tensor, population: Tensor, *, gamma: float) -> Tensor:
    r"""Share of population samples z that a sample beats by a factor, :math:`\Pr_z[r(x) / r(z) \ge \gamma]`.

    It never falls with :math:`r(x)`, so that a population which holds the samples themselves does not favour them.

    Args:
        ratios: Logarithms of :math:`r(x)`, ``(n,)``.
        population: Logarithms of :math:`r(z)`, ``(k,)``, ``k >= 1``.
        gamma: The factor, at least 1.

    Returns:
        ``(n,)`` float64, in [0, 1].

    Raises:
        DataError: If the population is empty.

    Source:
        Zarifzadeh, Liu, Shokri, ICML 2024, arXiv:2312.03262, equations 1 to 3.

    Example:
        >>> pairwise_rank(torch.tensor([2.0]), torch.tensor([0.0, 1.9]), gamma=2.0)
        tensor([0.5000], dtype=torch.float64)
    """
    if not len(population):
        raise DataError("samples are ranked among those of a population, which has none")
    beaten = torch.searchsorted(population.double().sort().values, ratios.double() - math.log(gamma), right=True)
    return beaten.double() / len(population)


def most_separated(statistics: Tensor, inside: Tensor, outside: Tensor, share: float) -> Tensor:
    """Positions of the samples on which having seen them changes models most, by the difference of the mean statistics.

    Args:
        statistics: ``(S, n)``.
        inside: Models that saw each sample, ``(S, n)`` booleans.
        outside: Models that did not.
        share: Share of the samples that is kept, in (0, 1]; at least one is.

    Returns:
        ``(max(1, round(share * n)),)`` int64, ascending; of equal samples the first ones.

    Example:
        >>> said = torch.tensor([[5.0, 1.0, 3.0], [0.0, 1.0, 0.0]])
        >>> saw = torch.tensor([[True, True, True], [False, False, False]])
        >>> most_separated(said, saw, ~saw, 0.5)
        tensor([0, 2])
    """
    means = [(mask.double() * statistics.double()).sum(0) / mask.double().sum(0) for mask in (inside, outside)]
    kept = max(1, round(share * statistics.shape[1]))
    order = torch.argsort(means[0] - means[1], descending=True, stable=True)
    return order[:kept].sort().values
