"""Accounting: known values to their last digit, the formulas that the published code gets wrong, and what must hold for any numbers."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from erasure.accounting.events import ClippedSteps, Composed, GaussianNoise, LangevinRequests, ProjectedSteps
from erasure.accounting.gaussian import delta_of_mu, epsilon_of_mu, mu_of, noise_for
from erasure.accounting.guarantee import Guarantee
from erasure.accounting.renyi import epsilon_of_renyi
from erasure.accounting.sensitivity import (
    descent_distance,
    descent_noise,
    first_request_steps,
    further_request_steps,
    newton_budget,
    newton_budget_exact,
    rewind_distance,
)
from erasure.errors import DataError

N = 11982
CONVEX, SMOOTH = 1e-6 * N, 0.25 + 1e-6 * N
CLIPPED = {"radius": 1.0, "clip": 2.0, "rate": 0.05, "sd": 1.0}
DESCENT = {"n_samples": 1000, "convexity": 0.1, "smoothness": 1.0, "lipschitz": 1.0}
SEQUENTIAL = {"convexity": CONVEX, "smoothness": SMOOTH, "n_weights": 784}
REWIND = {"n_samples": 1000, "n_removed": 10, "smoothness": 1.0, "lipschitz": 1.0, "rate": 0.01, "steps": 100}


def langevin(*steps, n_removed=1):
    return LangevinRequests(
        steps=steps, n_removed=n_removed, n_samples=N, lipschitz=1.0, convexity=CONVEX, rate=1 / SMOOTH, sd=0.03
    )


def digits(value, known):
    """Equal in every digit of the known text, zeros at its end included."""
    mantissa, _, exponent = known.partition("e")
    return abs(value - float(known)) <= 0.501 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def test_digits_are_all_that_are_written():
    for known, other in (("4.37717810", 4.37717811), ("2.48303e-4", 2.48304e-4)):
        assert digits(float(known), known)
        assert not digits(other, known)


@pytest.mark.parametrize(
    ("mu", "exact", "renyi"),
    [(1.0, "4.37717810", "4.72838698"), (math.sqrt(2), "6.57297007", "7.07719670"), (2.0, "9.99725615", "10.72482411")],
)
def test_gaussian_noise_has_the_known_epsilon(mu, exact, renyi):
    event = GaussianNoise(sensitivity=mu, sd=1.0)
    assert digits(event.epsilon(1e-5), exact)
    assert digits(event.renyi_epsilon(1e-5), renyi)


def test_concentrated_privacy_has_the_known_epsilon():
    assert digits(GaussianNoise(sensitivity=1.0, sd=1.0).zcdp_epsilon(1e-5), "5.29852591")


def test_clipped_steps_have_the_known_values():
    plain = ClippedSteps(steps=10, **CLIPPED)
    assert digits(plain.mu, "1.26491106")
    assert digits(plain.epsilon(1e-5), "5.75948147")
    assert digits(plain.renyi_epsilon(1e-5), "6.20805370")
    assert digits(plain.zcdp_epsilon(1e-5), "6.86970852")
    assert digits(plain.noise(1.0, 1e-5), "4.71891723")
    decayed = ClippedSteps(steps=7, weight_decay=2.0, **CLIPPED)
    assert digits(decayed.mu, "0.99269139")
    assert digits(decayed.epsilon(1e-5), "4.34017038")
    assert digits(decayed.renyi_epsilon(1e-5), "4.68871915")


def test_noise_by_other_conversions_is_larger():
    # By Rényi divergences, by the paper's form, and by the classical bound of output perturbation.
    ours = ClippedSteps(steps=10, **CLIPPED).noise(1.0, 1e-5)
    by_renyi = ClippedSteps(steps=10, **{**CLIPPED, "sd": 5.11673015})
    assert by_renyi.renyi_epsilon(1e-5) == pytest.approx(1.0, abs=2e-9)
    published = math.sqrt(9 * math.log(1e5) * (1.0 + 2.0 * 0.05 * 10) ** 2 / 10)
    classical = 2 * math.sqrt(2 * math.log(1.25e5))
    assert digits(published, "6.43789808")
    assert digits(classical, "9.68961053")
    assert ours < 5.11673015 < published
    assert noise_for(2.0, 1.0, 1e-5) < classical
    # Bounds that prv-accountant gives of one Gaussian.
    assert 4.37618 < GaussianNoise(sensitivity=1.0, sd=1.0).epsilon(1e-5) < 4.37838


def test_projected_steps_have_the_known_deltas():
    known = ("1", "0.509861660", "0.216030894", "0.0648573672", "0.00954783917", "2.48303e-4", "2.65341e-8")
    found = ProjectedSteps(start_radius=1.0, radius=0.5, sd=0.5, steps=6).deltas(1.0)
    assert found[0] == 1.0
    assert all(digits(value, text) for value, text in zip(found[1:], known[1:], strict=True))
    assert found[6] < 1e-5 < found[5]
    assert found[1] ** 18 < 1e-5 < found[1] ** 17  # the paper's order for all steps asks for 18 where 6 do
    before = ProjectedSteps(start_radius=1.0, radius=0.5, sd=0.5, steps=6, reach=0.05 * 0.2).deltas(1.0)
    assert digits(before[1], "0.523837569")
    assert digits(before[2], "0.231927043")
    assert digits(before[6], "4.19533e-7")


def test_noise_of_one_release_has_the_known_size():
    assert digits(delta_of_mu(2.0, 1.0), "0.5098616600546702")
    assert digits(noise_for(2.0, 1.0, 1e-5), "7.46126327")


def test_descent_to_delete_has_the_known_values():
    for steps, known in ((1, "1.76419986"), (5, "0.226954673"), (20, "0.00721525911")):
        assert digits(descent_noise(1.0, 1e-5, steps=steps, **DESCENT), known)
    assert digits(descent_distance(steps=5, **DESCENT), "0.0231560165")
    assert digits(noise_for(descent_distance(steps=5, **DESCENT), 1.0, 1e-5), "0.0863865679")
    assert [first_request_steps(eps, 1 / N, **SEQUENTIAL) for eps in (0.5, 1, 2)] == [99, 91, 84]
    assert [further_request_steps(i, 1 / N, **SEQUENTIAL) for i in (1, 10, 100)] == [32, 33, 34]


def test_rewinding_has_the_known_distances():
    for rewound, known in ((0, "0.0340962766"), (50, "0.0212036402"), (90, "0.00512362310")):
        assert digits(rewind_distance(rewound=rewound, **REWIND), known)
    assert rewind_distance(rewound=100, **REWIND) == 0
    assert digits(noise_for(rewind_distance(rewound=50, **REWIND), 1.0, 1e-5), "0.0791029707")


def test_langevin_has_the_known_values():
    for steps, plain, tight in (
        (1, "0.313998752", "0.220257912"),
        (10, "0.312939625", "0.219200069"),  # 70 by an order that is not quite the best
        (100, "0.302730260", "0.209112508"),
    ):
        assert digits(langevin(steps).epsilon(1 / N, conversion="plain"), plain)
        assert digits(langevin(steps).epsilon(1 / N), tight)
    for steps, known in (((3,), "3.22068148"), ((3, 2), "13.0171618"), ((3, 2, 2), "32.6638968")):
        assert digits(langevin(*steps, n_removed=5).renyi(50.0), known)


def test_newtons_budget_has_the_known_values():
    c, budget = newton_budget(10.0, 1.0, 1e-4)
    assert digits(c, "4.38538607")
    assert digits(budget, "2.28030095")
    assert digits(epsilon_of_mu(0.1, 1e-5), "0.340669365")
    c, budget = newton_budget(1.0, 1.0, 1e-5)
    assert digits(budget, "0.20482")
    assert 0.1 * c > 0.488  # what the paper's bound says of the same residual
    assert newton_budget_exact(10.0, 1.0, 1e-4) > newton_budget(10.0, 1.0, 1e-4)[1]


# Google's dp-accounting 0.6.0: GaussianDpEvent(1 / mu) by the PLDAccountant (discretised by 1e-4, rounded upwards)
LIBRARY = [
    (0.25, 1e-05, 0.9263415237343752, 1.0122873643739292),
    (0.25, 0.001, 0.5920067218930314, 0.6880026747881294),
    (1, 1e-05, 4.37717810002493, 4.72842553386144),
    (1, 0.001, 3.138670552625377, 3.5365620688888635),
    (2, 1e-05, 9.99725615024243, 10.725284317042941),
    (2, 0.001, 7.581279926592959, 8.416496187447095),
    (3.5, 1e-05, 20.40101958195403, 21.73235232771325),
    (3.5, 0.001, 16.228581597194786, 17.77146091786225),
]


@pytest.mark.parametrize(("mu", "delta", "by_pld", "by_rdp"), LIBRARY)
def test_another_library_gives_the_same(mu, delta, by_pld, by_rdp):
    event = GaussianNoise(sensitivity=mu, sd=1.0)
    assert event.epsilon(delta) <= by_pld + 1e-9
    assert event.epsilon(delta) == pytest.approx(by_pld, rel=1e-5)
    # Its orders are a grid: it can only be above.
    assert event.renyi_epsilon(delta) <= by_rdp + 1e-9
    assert event.renyi_epsilon(delta) == pytest.approx(by_rdp, rel=1e-3)


def test_events_compose():
    one, two = GaussianNoise(sensitivity=1.0, sd=1.0), GaussianNoise(sensitivity=1.0, sd=2.0)
    assert Composed(events=(one, two)).epsilon(1e-5) == pytest.approx(4.983306411253372, rel=1e-5)
    assert Composed(events=()).epsilon(1e-5) == 0


def test_delta_is_the_integral_of_the_hockey_stick():
    for mu, eps in ((0.3, 0.1), (1.0, 1.0), (2.5, 4.0)):
        whole, _ = quad(lambda x, m=mu, e=eps: max(0.0, norm.pdf(x, m) - math.exp(e) * norm.pdf(x)), -12, 16, limit=400)
        assert delta_of_mu(mu, eps) == pytest.approx(whole, abs=1e-9)


@given(mu=st.floats(1e-3, 30), delta=st.floats(1e-12, 0.5))
def test_epsilon_and_delta_are_inverse(mu, delta):
    eps = epsilon_of_mu(mu, delta)
    assert delta_of_mu(mu, eps) <= delta * (1 + 1e-6)
    if eps > 0:
        assert mu_of(eps, delta) == pytest.approx(mu, rel=1e-6)


@given(eps=st.floats(0, 10), delta=st.floats(1e-12, 0.5), sensitivity=st.floats(1e-6, 1e3))
def test_noise_for_a_budget_keeps_it(eps, delta, sensitivity):
    assert GaussianNoise(sensitivity=sensitivity, sd=noise_for(sensitivity, eps, delta)).delta(eps) <= delta + 2e-16  # a rounding


@given(steps=st.integers(1, 300), weight_decay=st.floats(0, 10), sd=st.floats(0.01, 10))
def test_more_noise_tells_less_and_no_noise_tells_all(steps, weight_decay, sd):
    def event(sd):
        return ClippedSteps(radius=1.0, clip=0.5, rate=0.05, weight_decay=weight_decay, steps=steps, sd=sd)

    assert event(2 * sd).epsilon(1e-5) <= event(sd).epsilon(1e-5)
    assert event(sd).epsilon(1e-5) <= event(sd).renyi_epsilon(1e-5) * (1 + 1e-9)
    assert math.isinf(event(0.0).epsilon(1e-5))
    assert event(1e9).epsilon(1e-5) < 1e-6


@given(steps=st.integers(2, 30), sd=st.floats(0.1, 10), eps=st.floats(0.01, 5))
def test_more_steps_a_larger_epsilon_and_more_noise_leave_a_smaller_delta(steps, sd, eps):
    event = ProjectedSteps(start_radius=1.0, radius=0.5, sd=sd, steps=steps)
    found = event.deltas(eps)
    assert all(later <= earlier for earlier, later in itertools.pairwise(found))
    assert event.deltas(2 * eps)[-1] <= found[-1]
    assert ProjectedSteps(start_radius=1.0, radius=0.5, sd=2 * sd, steps=steps).deltas(eps)[-1] <= found[-1]


def test_noise_of_iterates_hides_the_shift_that_plain_iteration_makes():
    # Two runs with constant gradients of opposite sign: the last iterates are Gaussians that one can be distinguished from the other by.
    event = ClippedSteps(radius=1.0, clip=2.0, rate=0.05, weight_decay=2.0, steps=7, sd=0.8)
    means, variance = np.array([1.0, -1.0]), 0.0
    for _ in range(event.steps):
        means = means * (1 - 0.1) + 0.05 * 2.0 * np.array([1.0, -1.0])
        variance = variance * (1 - 0.1) ** 2 + 0.8**2
    assert abs(means[0] - means[1]) == pytest.approx(event.distance)
    assert abs(means[0] - means[1]) / math.sqrt(variance) == pytest.approx(event.mu)


def test_small_weight_decay_is_the_limit():
    none, tiny = (ClippedSteps(steps=50, weight_decay=w, **CLIPPED) for w in (0.0, 1e-12))
    assert tiny.mu == pytest.approx(none.mu, rel=1e-9)


def test_a_target_of_one_order_is_not_the_epsilon():
    # The published code calls a Rényi target of 1 an eps of 1.0036: at mu = 2 and mu = sqrt 2 it is ten and nearly seven times as much.
    assert GaussianNoise(sensitivity=2.0, sd=1.0).epsilon(1e-5) > 9.99
    assert GaussianNoise(sensitivity=math.sqrt(2), sd=1.0).epsilon(1e-5) > 6.57


def test_what_has_no_meaning_is_refused():
    for call in (
        lambda: delta_of_mu(-1.0, 1.0),
        lambda: epsilon_of_mu(1.0, 0.0),
        lambda: epsilon_of_renyi(lambda order: order, 1.0),
        lambda: epsilon_of_renyi(lambda order: order, 0.1, conversion="loose"),
        lambda: ClippedSteps(radius=1.0, clip=1.0, rate=0.5, weight_decay=2.0, steps=3, sd=1.0),
        lambda: ClippedSteps(steps=0, **CLIPPED),
    ):
        with pytest.raises(DataError, match="found"):
            call()


def test_a_guarantee_has_the_numbers_of_its_kind():
    assert str(Guarantee(kind="certified", eps=0.5, delta=1e-6)) == "(0.5, 1e-06)-certified"
    assert str(Guarantee(kind="exact")) == "exact"
    for fields in (
        {"kind": "sure"},
        {"kind": "certified"},
        {"kind": "exact", "eps": 0.0, "delta": 0.0},
        {"kind": "none", "eps": 1.0},
    ):
        with pytest.raises(DataError):
            Guarantee(**fields)
    for eps, delta in ((-1.0, 1e-5), (math.nan, 1e-5), (1.0, 1.0)):
        with pytest.raises(DataError):
            Guarantee(kind="certified", eps=eps, delta=delta)
