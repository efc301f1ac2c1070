"""What happened to a model on its way to release, as frozen values: each answers how well two origins of it can be told apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

from erasure.accounting.gaussian import delta_of_mu, epsilon_of_mu, noise_for
from erasure.accounting.renyi import epsilon_of_renyi, epsilon_of_zcdp, langevin_sequence, langevin_start
from erasure.errors import DataError

__all__ = ["ClippedSteps", "Composed", "GaussianEvent", "GaussianNoise", "LangevinRequests", "ProjectedSteps"]


@dataclass(frozen=True, kw_only=True)
class GaussianEvent:
    """An event whose two outcomes are no easier to tell apart than two unit Gaussians ``mu`` apart."""

    @property
    def mu(self) -> float:
        """Distance in standard deviations; 0 tells nothing, infinite everything."""
        raise NotImplementedError

    def delta(self, eps: float) -> float:
        """The delta that holds with ``eps``, exact."""
        return delta_of_mu(self.mu, eps)

    def epsilon(self, delta: float) -> float:
        """The eps that holds with ``delta``, exact."""
        return epsilon_of_mu(self.mu, delta)

    def renyi_epsilon(self, delta: float) -> float:
        """The eps by way of Rényi divergences; never below :meth:`epsilon`."""
        return epsilon_of_renyi(lambda order: order * self.mu**2 / 2, delta)

    def zcdp_epsilon(self, delta: float) -> float:
        """The eps by the formula of concentrated privacy; never below :meth:`renyi_epsilon`."""
        return epsilon_of_zcdp(self.mu**2 / 2, delta)


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(GaussianEvent):
    """One release with Gaussian noise.

    Args:
        sensitivity: Euclidean distance of the two vectors at most.
        sd: Standard deviation of every coordinate's noise.
    """

    sensitivity: float
    sd: float

    @property
    def mu(self) -> float:
        """Sensitivity in standard deviations."""
        if self.sensitivity == 0:
            return 0.0
        return self.sensitivity / self.sd if self.sd > 0 else math.inf


@dataclass(frozen=True, kw_only=True)
class ClippedSteps(GaussianEvent):
    """Steps of clipped gradients and weight decay with independent noise, from weights clipped to a ball; only the last is released.

    The two runs start at most ``2 * radius`` apart, and each step moves them apart by at most ``2 * rate * clip`` more. The noise of all
    steps hides the whole distance, that of later steps more (privacy amplification by iteration). No assumption on the loss.

    Source: Koloskova, Allouah, Jha, Guerraoui, Koyejo, ICML 2025, arXiv:2506.06985, with the exact conversion instead of the
    published one, which takes a bound on one Rényi order for all.

    Args:
        radius: Norm of the weights at the start at most.
        clip: Norm of every step's gradient at most.
        rate: Learning rate.
        weight_decay: Factor of the weights that is added to the clipped gradient.
        steps: How many.
        sd: Standard deviation of each step's noise.
    """

    radius: float
    clip: float
    rate: float
    weight_decay: float = 0.0
    steps: int
    sd: float

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 <= self.rate * self.weight_decay < 1:
            raise DataError(
                f"noisy steps are at least 1 and contract, found {self.steps} steps and rate * weight_decay = "
                f"{self.rate * self.weight_decay:g}, expected below 1"
            )

    @property
    def mu(self) -> float:
        """Shift of the trajectories in standard deviations of the noise that hides it."""
        if self.sd == 0:
            return math.inf
        return self.distance / (self.sd * math.sqrt(self._sum(2)))

    @property
    def distance(self) -> float:
        """How far apart the last iterates are at most without noise."""
        kept = (1 - self.rate * self.weight_decay) ** self.steps
        return 2 * self.radius * kept + 2 * self.clip * self.rate * self._sum(1)

    def _sum(self, power: int) -> float:
        """Sum of ``(1 - rate * weight_decay) ** (power * t)`` over the steps, exact where the decay is tiny."""
        loss = self.rate * self.weight_decay
        if loss == 0:
            return float(self.steps)
        log = power * math.log1p(-loss)
        return math.expm1(self.steps * log) / math.expm1(log)

    def noise(self, eps: float, delta: float) -> float:
        """The standard deviation that gives (eps, delta)."""
        return noise_for(self.distance / math.sqrt(self._sum(2)), eps, delta)


@dataclass(frozen=True, kw_only=True)
class Composed(GaussianEvent):
    """Several Gaussian events on the same model, all released.

    Args:
        events: In any order.
    """

    events: tuple[GaussianEvent, ...]

    @property
    def mu(self) -> float:
        """Distances add up as the sides of a right angle do."""
        return math.hypot(*(event.mu for event in self.events))


@dataclass(frozen=True, kw_only=True)
class ProjectedSteps:
    """Steps that each end in a ball and get independent noise: every step leaves a share of what could be told before.

    Source: as :class:`ClippedSteps`, section on model clipping; the order of the contraction is recomputed at each step.

    Args:
        start_radius: Norm of the weights at the start at most.
        start_sd: Noise of the weights at the start; 0 for none.
        radius: Norm of the weights after each step's projection at most.
        sd: Standard deviation of each step's noise.
        steps: How many.
        reach: How much further apart noise finds two iterates than the projection left them, for noise before the projection:
            rate times the gradients' bound; 0 for noise after it.
    """

    start_radius: float
    start_sd: float = 0.0
    radius: float
    sd: float
    steps: int
    reach: float = 0.0

    def deltas(self, eps: float) -> tuple[float, ...]:
        """The delta that holds with ``eps`` at the start and after each step."""
        found = [delta_of_mu(2 * self.start_radius / self.start_sd if self.start_sd > 0 else math.inf, eps)]
        mu = 2 * (self.radius + self.reach) / self.sd if self.sd > 0 else math.inf
        for _ in range(self.steps):
            before = found[-1]
            # log(1 + (e^eps - 1) / delta), which overflows nowhere: the smaller delta, the larger the order
            order = math.log1p(math.expm1(eps) / before) if before > 0 else math.inf
            found.append(before * delta_of_mu(mu, order) if before > 0 else 0.0)
        return tuple(found)

    def delta(self, eps: float) -> float:
        """The delta that holds with ``eps`` after the last step."""
        return self.deltas(eps)[-1]


@dataclass(frozen=True, kw_only=True)
class LangevinRequests:
    """Noisy gradient descent to stationarity, and some steps on what is left after each request.

    Source: Chien, Wang, Chen, Li, NeurIPS 2024, arXiv:2401.10371.

    Args:
        steps: Steps after each request.
        n_removed: Samples of each request.
        n_samples: Size of the data set.
        lipschitz: Bound on every sample's gradient.
        convexity: Strong convexity of the mean loss.
        rate: Learning rate.
        sd: Scale of the noise.
    """

    steps: tuple[int, ...]
    n_removed: int
    n_samples: int
    lipschitz: float
    convexity: float
    rate: float
    sd: float

    def renyi(self, order: float) -> float:
        """Divergence of an order from retraining."""

        def start(order: float) -> float:
            return langevin_start(
                order,
                n_removed=self.n_removed,
                lipschitz=self.lipschitz,
                convexity=self.convexity,
                sd=self.sd,
                n_samples=self.n_samples,
            )

        return langevin_sequence(self.steps, start, decay=self.convexity * self.rate)(order)

    def epsilon(self, delta: float, *, conversion: str = "tight") -> float:
        """The eps that holds with ``delta``."""
        return epsilon_of_renyi(self.renyi, delta, conversion=conversion)
