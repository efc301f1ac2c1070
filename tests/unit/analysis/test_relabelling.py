"""The relabelling test: against an enumeration, under permutation, its level and its power."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from erasure.analysis.labellings import Design, labellings
from erasure.analysis.power import basis_of, detection, expected_shift
from erasure.analysis.relabelling_test import Relabelled, gold_spread, relabel, t_test, usable_by_t
from erasure.errors import DataError

SMALL = [
    ((1, 3),),
    ((1, 19),),
    ((2, 3),),
    ((3, 3),),
    ((5, 9),),
    ((3, 6), (1, 4)),
    ((1, 1),) * 3,
    ((1, 2),) * 4,
    ((1, 9),) * 3,
    ((1, 4),) * 5,
    ((1, 3), (1, 5), (1, 2)),
    ((2, 2), (2, 4), (1, 1)),
]


def enumerated(x, blocks):
    """The test by its definition, one labelling at a time and in plain Python."""
    starts = list(itertools.accumulate((k + n for k, n in blocks), initial=0))
    precision = [1 / (1 / k + 1 / n) for k, n in blocks]
    share = [each / sum(precision) for each in precision]
    choices = [itertools.combinations(range(start, start + k + n), k) for start, (k, n) in zip(starts, blocks, strict=False)]
    ways = list(itertools.product(*choices))
    rows = [range(start, start + k + n) for start, (k, n) in zip(starts, blocks, strict=False)]
    table = []
    for column in x.T:
        mean = [sum(column[i] for i in own) / len(own) for own in rows]
        centred = {i: column[i] - mean[b] for b, own in enumerate(rows) for i in own}
        spread = math.sqrt(sum(v * v for v in centred.values()))
        if spread < 1e-9:
            table.append(None)
            continue
        z = {i: v / spread for i, v in centred.items()}
        location, scatter = [], []
        for way in ways:
            total = 0.0
            for b, chosen in enumerate(way):
                others = [i for i in rows[b] if i not in chosen]
                total += share[b] * (sum(z[i] for i in chosen) / len(chosen) - sum(z[i] for i in others) / len(others))
            location.append(abs(total))
            scatter.append(math.sqrt(sum(z[i] ** 2 for chosen in way for i in chosen)))
        rms = math.sqrt(sum(v * v for v in location) / len(location))
        statistic = [v / rms for v in location]
        if len(blocks) >= 3 or sum(k for k, _ in blocks) >= 3:
            middle = sum(scatter) / len(scatter)
            deviation = math.sqrt(sum((v - middle) ** 2 for v in scatter) / len(scatter))
            if deviation > 1e-9 * middle:
                statistic = [max(t, (q - middle) / deviation / 1.05) for t, q in zip(statistic, scatter, strict=True)]
        table.append(statistic)
    known = sorted((i for i, s in enumerate(table) if s is not None), key=lambda i: -table[i][0])
    adjusted, largest = [math.nan] * len(table), Fraction(0)
    for place, i in enumerate(known):
        count = sum(max(table[j][w] for j in known[place:]) >= table[i][0] - 1e-9 for w in range(len(ways)))
        largest = max(largest, Fraction(count, len(ways)))
        adjusted[i] = float(largest)
    return adjusted


@pytest.mark.parametrize("blocks", SMALL, ids=str)
@pytest.mark.parametrize("kind", ["normal", "shifted", "few values"])
def test_equals_an_enumeration_to_the_last_digit(blocks, kind):
    design = Design(blocks)
    assert design.n_labellings <= 5000
    generator = np.random.default_rng([len(blocks), design.n_models, len(kind)])
    x = generator.normal(size=(design.n_models, 4))
    if kind == "shifted":
        for rows, (unlearned, _) in zip(design.slices, blocks, strict=True):
            x[rows.start : rows.start + unlearned, 1] += 3
    if kind == "few values":
        x = generator.integers(0, 3, size=x.shape).astype(float)
    x[:, 3] = 0.25  # says nothing
    np.testing.assert_array_equal(relabel(x, design).adjusted, enumerated(x, blocks))


@pytest.mark.parametrize("blocks", [((1, 6),) * 3, ((1, 9),) * 5, ((3, 8),)], ids=str)
def test_the_order_of_values_golds_and_blocks_changes_nothing(blocks):
    design, generator = Design(blocks), np.random.default_rng(1)
    x = generator.normal(size=(design.n_models, 5))
    expected = relabel(x, design, seed=3).adjusted
    columns = generator.permutation(5)
    np.testing.assert_array_equal(relabel(x[:, columns], design, seed=3).adjusted, expected[columns])
    order = np.concatenate(
        [
            np.r_[rows.start : rows.start + k, rows.start + k + generator.permutation(n)]
            for rows, (k, n) in zip(design.slices, blocks, strict=True)
        ]
    )
    np.testing.assert_array_equal(relabel(x[order], design, seed=3).adjusted, expected)
    if design.n_labellings <= 10_000:
        swapped = np.concatenate([np.arange(rows.start, rows.stop) for rows in reversed(design.slices)])
        np.testing.assert_array_equal(relabel(x[swapped], Design(blocks[::-1])).adjusted, expected)


def test_of_a_value_with_a_side_only_that_side_counts():
    design = Design(((1, 19),))
    x = np.random.default_rng(0).normal(size=(20, 2))
    x[0] = [9.0, -9.0]
    for farther, expected in (([1, -1], [1, 1]), ([-1, 1], [0, 0]), ([0, 0], [1, 1])):
        told = [each <= 0.05 + 1e-9 for each in relabel(x, design, farther=farther).adjusted]
        assert told == expected == [each < 1e-3 for each in t_test(x, design, farther=farther)]
    # By enumeration: the share of labellings with as large a mean, on one side.
    shares = [(x[:, 0] - x[:, 0].mean() >= value - x[:, 0].mean() - 1e-12).mean() for value in x[:, 0]]
    ordered = [float(relabel(np.roll(x[:, :1], -i, axis=0), design, farther=[1]).adjusted[0]) for i in range(20)]
    above = x[:, 0] > x[:, 0].mean()
    assert np.allclose(np.array(ordered)[above], np.array(shares)[above])
    assert (np.array(ordered)[~above] == 1).all()


def test_scale_and_units_of_a_value_do_not_matter():
    design = Design(((1, 4),) * 5)
    x = np.random.default_rng(0).normal(size=(25, 3))
    scaled = x * [1e-12, 7.0, 1e200] + [0.0, -3.0, 0.0]
    np.testing.assert_array_equal(relabel(scaled, design).adjusted, relabel(x, design).adjusted)


def test_smallest_p_values():
    assert Design(((1, 3),)).smallest_p == 1 / 4
    assert Design(((1, 4),) * 5).smallest_p == 1 / 3125
    assert Design(((5, 19),)).n_labellings == 42_504
    assert Design(((5, 19),)).smallest_p == 1 / 10_000
    # As many unlearned as golds: to swap them all gives the same distance.
    design = Design(((3, 3),))
    x = np.arange(6.0)[:, None]
    assert relabel(x, design).p == pytest.approx(design.smallest_p) == pytest.approx(2 / 20)


def test_which_designs_can_accuse():
    assert basis_of(Design(((1, 3),)), 1) == ""
    assert basis_of(Design(((1, 5),)), 1) == "t"
    assert basis_of(Design(((1, 19),)), 1) == "labellings"
    assert basis_of(Design(((1, 19),)), 2) == "t"
    assert basis_of(Design(((1, 3),) * 3), 3) == "labellings"
    assert basis_of(Design(((1, 2),)), 1) == ""


def test_drawn_labellings_start_with_the_observed_one_and_are_fair():
    design = Design(((1, 9),) * 5)
    ways = labellings(design, seed=1)
    assert not ways.is_exact
    assert len(ways.players) == 10_000
    for rows in design.slices:
        assert ways.players[0, rows].tolist() == [True] + [False] * 9
        assert ways.players[:, rows].sum(axis=1).tolist() == [1] * 10_000
        assert np.abs(ways.players[:, rows].mean(axis=0) - 0.1).max() < 0.012
    np.testing.assert_allclose(ways.weights.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose((ways.weights * ways.players).sum(axis=1), 1)


def test_models_that_scatter_on_both_sides_are_found():
    design, generator = Design(((1, 9),) * 6), np.random.default_rng(0)
    x = generator.normal(size=(design.n_models, 3))
    for number, rows in enumerate(design.slices):
        x[rows.start, 0] += 8 * (-1) ** number
    found = relabel(x, design)
    assert found.adjusted[0] < 0.01
    assert found.is_scattered(0.05)[0]
    assert found.adjusted[1:].min() > 0.05


def test_a_value_whose_location_is_significant_is_shifted_however_much_it_scatters():
    common = {"adjusted": np.full(2, 0.001), "location": np.full(2, 3.0), "scatter": np.full(2, 4.0), "maxima": np.zeros(1)}
    found = Relabelled(**common, location_adjusted=np.array([0.01, 0.2]))
    assert found.is_scattered(0.05).tolist() == [False, True]
    assert found.is_scattered(0.0005).tolist() == [False, False]  # the spread itself is not told from golds'


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="unlearned and a retrained"):
        Design(((1, 0),))
    with pytest.raises(DataError, match="finite"):
        relabel(np.full((4, 1), np.nan), Design(((1, 3),)))
    with pytest.raises(DataError, match="4 models"):
        relabel(np.zeros((5, 1)), Design(((1, 3),)))
    assert math.isnan(relabel(np.zeros((4, 2)), Design(((1, 3),))).adjusted[0])
    assert relabel(np.zeros((4, 0)), Design(((1, 3),))).p == 1.0


DISTRIBUTIONS = {
    "normal": lambda g, shape: g.normal(size=shape),
    "binomial 0.95": lambda g, shape: g.binomial(89, 0.95, shape) / 89,
    "binomial 0.99": lambda g, shape: g.binomial(89, 0.99, shape) / 89,
    "binomial of 20": lambda g, shape: g.binomial(20, 0.5, shape) / 20,
    "lognormal": lambda g, shape: np.exp(2 * g.normal(size=shape)),
    "Cauchy": lambda g, shape: g.standard_cauchy(shape),
    "constant": lambda g, shape: np.ones(shape),
    "failures": lambda g, shape: g.normal(size=shape) + 100 * (g.random((shape[0], 1)) < 0.05),
}


def level_of(draw, design, n_values, correlation, n, seed=0, test=lambda x, d: relabel(x, d).p):
    """Share of data sets without any difference in which one is found at 5 %."""
    generator = np.random.default_rng(seed)
    shape = (design.n_models, n_values)
    hits = 0
    for _ in range(n):
        shared = generator.random((design.n_models, 1)) < correlation
        x = np.where(shared, draw(generator, (design.n_models, 1)), draw(generator, shape))
        hits += test(x, design) <= 0.05
    return hits / n


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_retrained_model_is_accused_in_at_most_five_percent(name):
    found = level_of(DISTRIBUTIONS[name], Design(((1, 9),) * 2 + ((1, 2),)), 10, 0.5, 500)
    assert found <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 500)


N_VALUES, CORRELATIONS = (1, 5, 10, 40), (0.0, 0.5, 0.9)
DESIGNS = (((1, 19),), ((1, 9),) * 3, ((1, 4),) * 5, ((5, 9),))
REPORTS = list(itertools.product(DISTRIBUTIONS, DESIGNS, N_VALUES, CORRELATIONS))
# Of the 384 every distribution meets each design, each number of values and each correlation here; the others are for the night.
FEW = [
    (name, blocks, N_VALUES[(i + j) % len(N_VALUES)], CORRELATIONS[(i + j) % len(CORRELATIONS)])
    for (i, name), (j, blocks) in itertools.product(enumerate(DISTRIBUTIONS), enumerate(DESIGNS))
]


def _report(name, blocks, n_values, correlation):
    marks = [] if (name, blocks, n_values, correlation) in FEW else [pytest.mark.nightly]
    return pytest.param(name, blocks, n_values, correlation, marks=marks, id=f"{name}-{blocks}-{n_values}-{correlation}")


def test_a_part_of_the_reports_has_every_pair_of_a_distribution_and_a_setting():
    for settings in zip(*(report[1:] for report in FEW), strict=True):
        pairs = {(report[0], setting) for report, setting in zip(FEW, settings, strict=True)}
        assert len(pairs) == len(DISTRIBUTIONS) * len(set(settings))
    assert [len(set(settings)) for settings in zip(*FEW, strict=True)] == [8, 4, 4, 3]
    assert set(FEW) < set(REPORTS)


@pytest.mark.parametrize(("name", "blocks", "n_values", "correlation"), [_report(*report) for report in REPORTS])
def test_a_retrained_model_is_accused_in_at_most_five_percent_of_all_reports(name, blocks, n_values, correlation):
    n = 200 if (name, blocks, n_values, correlation) in FEW else 1000
    found = level_of(DISTRIBUTIONS[name], Design(blocks), n_values, correlation, n, seed=DESIGNS.index(blocks))
    assert found <= 0.05 + 3.3 * math.sqrt(0.05 * 0.95 / n)


def test_the_t_test_holds_its_level_and_leaves_out_what_it_cannot_judge():
    design = Design(((1, 9),))

    def p(x, d):
        adjusted = t_test(x, d)
        return np.nanmin(adjusted) if not np.isnan(adjusted).all() else 1.0

    assert level_of(DISTRIBUTIONS["normal"], design, 10, 0.5, 1000, test=p) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)
    rates = np.zeros((10, 2))
    rates[1:, 0] = [0, 0, 0, 0, 0, 0, 0, 0, 0.01]
    rates[0] = 0.05
    rates[1:, 1] = np.arange(9) / 100
    assert usable_by_t(rates, design).tolist() == [False, True]
    assert np.isnan(t_test(rates, design)).tolist() == [True, False]


def test_a_t_test_is_students():
    from scipy.stats import ttest_ind

    x = np.random.default_rng(5).normal(size=(10, 1))
    found = t_test(x, Design(((1, 9),)))[0]
    assert found == pytest.approx(float(ttest_ind(x[:1], x[1:]).pvalue[0]))
    wide = t_test(x, Design(((1, 9),)), steps=[3.0])[0]
    assert wide > found
    assert gold_spread(x, Design(((1, 9),)))[0] == pytest.approx(x[1:].std(ddof=1))


def power_of(shift, design, n_values=10, n=200, shifted=1, seed=0):
    """Shares of data sets in which the first values, shifted, are found, and in which any other is."""
    generator = np.random.default_rng(seed)
    found = others = 0
    for _ in range(n):
        x = (generator.normal(size=(design.n_models, n_values)) + generator.normal(size=(design.n_models, 1))) / math.sqrt(2)
        for rows, (unlearned, _) in zip(design.slices, design.blocks, strict=True):
            x[rows.start : rows.start + unlearned, :shifted] += shift
        adjusted = relabel(x, design).adjusted
        found += adjusted[0] <= 0.05
        others += adjusted[shifted:].min() <= 0.05
    return found / n, others / n


def test_shifts_of_two_and_three_deviations_are_found():
    design = Design(((1, 4),) * 5)
    assert power_of(2.0, design, n=100)[0] >= 0.7
    assert power_of(3.0, design, n=60)[0] >= 0.95


def test_of_values_that_are_not_shifted_few_are_accused_beside_those_that_are():
    _, others = power_of(3.0, Design(((1, 4),) * 5), n=100, shifted=3)
    assert others <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 100)


def test_more_golds_or_originals_find_more():
    powers = [power_of(2.0, Design(blocks), n=100)[0] for blocks in [((1, 19),), ((1, 4),) * 3, ((1, 4),) * 5, ((1, 9),) * 5]]
    assert powers == sorted(powers)
    assert powers[-1] > 0.75


def test_the_detectable_shift_is_known_before_a_run_and_after_it():
    design = Design(((1, 4),) * 5)
    before = expected_shift(design, 10)
    generator = np.random.default_rng(0)
    golds = (generator.normal(size=(20, 10)) + generator.normal(size=(20, 1))) / math.sqrt(2)
    after = detection(golds, design).shift
    assert 1.7 < before < 2.3
    assert after == pytest.approx(before, rel=0.2)
    assert expected_shift(Design(((1, 3),)), 10) is None
    assert expected_shift(Design(((1, 9),)), 10, 15) == pytest.approx(7.5, abs=0.6)
    assert detection(golds[:9], Design(((1, 9),))).shift == pytest.approx(5, abs=0.6)


def test_the_power_curve_is_that_of_simulated_runs():
    design, generator = Design(((1, 4),) * 5), np.random.default_rng(5)
    golds = generator.standard_normal((20, 3))
    found = detection(golds, design)
    for shift in (1.0, found.shift, 3.0):
        drawn = generator.standard_normal((150, design.n_models, 3))
        drawn[:, [rows.start for rows in design.slices], 0] += shift
        share = np.mean([relabel(each, design).adjusted[0] <= 0.05 for each in drawn])
        assert share == pytest.approx(found.power(shift), abs=0.15)
    assert found.of_originals(20).shift == pytest.approx(found.shift / 2)


def test_what_a_run_finds_follows_the_sides_that_verdicts_count():
    golds, design = np.random.default_rng(3).normal(size=(27, 6)), Design(((1, 9),) * 3)
    both, far = detection(golds, design), detection(golds, design, farther=(1,) * 6)
    maxima = relabel(golds, design.golds_alone(), farther=(1,) * 6).maxima
    assert far.critical == np.quantile(maxima, 0.95, method="higher") < both.critical
    assert far.error == both.error
