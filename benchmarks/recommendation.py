"""Do disjoint sets of seeds recommend the same method? All pairs of disjoint sets of three and of five seeds.

``python benchmarks/recommendation.py [--store FOLDER] [--seeds 10-29] [--config configs/breast_cancer.jsonc]`` runs a configuration, by
default the proof of concept on ten seeds, and exits with 1 unless in at least 80 % of pairs each set's nearest method is among the ties of
the other, and, on the proof of concept, the nearest lies, on the seeds that did not choose it, within 2.1 (three seeds) and 1.9 (five)
standard deviations of a gold. ``--simulate`` does without a run: normal log distances of methods whose order is known.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from erasure.analysis.advice import References, advise
from erasure.analysis.choice import choose
from erasure.analysis.families import families_of
from erasure.analysis.findings import ORIGINAL
from erasure.analysis.gaps import RolePartitions
from erasure.analysis.nearest import Distances, Nearest, distances_of
from erasure.analysis.power import LEVEL
from erasure.analysis.roles import roles_of
from erasure.analysis.verdicts import judge_all
from erasure.experiment.configuration import load_experiment
from erasure.intervals import student_tail
from erasure.records.rows import Row
from erasure.records.run_folder import RunFolder
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment

CONFIGURATION = Path(__file__).parents[1] / "configs" / "proof_of_concept.jsonc"
MIN_AGREEMENT = 0.8
LIMITS = {3: 2.1, 5: 1.9}
NO_COMPETITORS = frozenset({"GoldModel", "Identity"})
MAX_SETS = 300
N_SIMULATED = 400
TRUTHS: Mapping[str, NDArray[np.float64]] = {
    "14 equal methods": np.zeros(14),
    "a ladder of 14": np.arange(14) / 10,
    "5 equal, 9 far": np.repeat([0.0, 1.5], [5, 9]),
    "2 close, 12 far": np.repeat([0.0, 0.3, 3.0], [1, 1, 12]),
}


def ties_by_pairs(table: NDArray[np.float64]) -> set[int]:
    """Methods that a paired t-test does not show to be farther than the best, as if that one had not been chosen by the same values."""
    best = int(table.mean(axis=1).argmin())
    apart = table - table[best]
    apart[best] = 1.0
    error = np.maximum(apart.std(axis=1, ddof=1) / math.sqrt(table.shape[1]), 1e-300)
    farther = student_tail(table.shape[1] - 1, apart.mean(axis=1) / error) / 2
    return {best, *np.flatnonzero(farther > LEVEL).tolist()}


def agree(first: tuple[Hashable, Collection[Hashable]], second: tuple[Hashable, Collection[Hashable]]) -> bool:
    """Whether two choices each have the other's best among their ties."""
    return first[0] in second[1] and second[0] in first[1]


def simulated() -> bool:
    """Print how often two sets of originals agree, and how often the ties miss the method that truly is nearest."""
    missed = False
    for (name, truth), n_originals in itertools.product(TRUTHS.items(), (3, 5, 10)):
        generator = np.random.default_rng(0)
        spread = np.where(np.arange(len(truth)) % 2, 0.2, 0.5)[:, None]
        choices, plain = [], []
        for _ in range(2 * N_SIMULATED):
            table = truth[:, None] + spread * generator.normal(size=(len(truth), n_originals))
            choice = choose(table, draws=1)
            assert choice is not None
            choices.append((choice.best, choice.ties))
            plain.append((choice.best, ties_by_pairs(table)))
        with_rule, without = (
            np.mean([agree(a, b) for a, b in zip(each[::2], each[1::2], strict=True)]) for each in (choices, plain)
        )
        absent, absent_without = (np.mean([0 not in ties for _, ties in each]) for each in (choices, plain))
        is_bad = n_originals in LIMITS and with_rule < MIN_AGREEMENT
        missed |= bool(is_bad)
        print(
            f"{name}, {n_originals} originals: {100 * with_rule:.0f} % of pairs agree ({100 * without:.0f} % by plain t-tests), "
            f"{np.mean([len(ties) for _, ties in choices]):.1f} ties, the nearest is not among them in {100 * absent:.1f} % "
            f"({100 * absent_without:.1f} %){'  MISSED' if is_bad else ''}",
            flush=True,
        )
    return missed


def chosen(rows: Sequence[Row], roles: RolePartitions, seeds: Sequence[int]) -> tuple[Distances, Nearest]:
    """Distances on some seeds, and what is nearest on them."""
    families, _ = families_of([row for row in rows if row.seed_train in seeds], roles)
    distances = distances_of({label: family for label, family in families.items() if label not in NO_COMPETITORS})
    nearest = distances.nearest(distances.logs)
    assert nearest is not None
    return distances, nearest


def pairwise(distances: Distances) -> set[str]:
    """Ties by plain paired t-tests."""
    labels = list(distances.logs)
    units = sorted(set.intersection(*(set(each) for each in distances.logs.values())), key=str)
    return {labels[i] for i in ties_by_pairs(np.array([[distances.logs[label][unit] for unit in units] for label in labels]))}


def judged(rows: Sequence[Row], roles: RolePartitions, seeds: Sequence[int], n_seeds: int, limit: float) -> bool:
    """Print how often disjoint sets agree, and how far their choice is."""
    generator = np.random.default_rng(0)
    sets = list(itertools.combinations(seeds, n_seeds))
    if len(sets) > MAX_SETS:
        sets = [tuple(sorted(generator.permutation(seeds)[:n_seeds].tolist())) for _ in range(MAX_SETS)]
    on = {each: chosen(rows, roles, each) for each in sets}
    nearest = {each: found for each, (_, found) in on.items()}
    pairs = [(a, b) for a, b in itertools.combinations(nearest, 2) if not set(a) & set(b)]
    choices = {each: (found.label, found.ties) for each, (_, found) in on.items()}
    plain = {each: (found.label, pairwise(distances)) for each, (distances, found) in on.items()}
    with_rule, without = (np.mean([agree(each[a], each[b]) for a, b in pairs]) for each in (choices, plain))
    others = {each: chosen(rows, roles, [seed for seed in seeds if seed not in each])[0] for each in nearest}
    far = [others[each].of(nearest[each].label) for each in nearest]
    best = [min(others[each].of(label) for label in others[each].logs) for each in nearest]
    mean = math.fsum(far) / len(far)
    is_bad = bool(with_rule < MIN_AGREEMENT or mean > limit)
    names = ", ".join(f"{label} {n}" for label, n in Counter(each.label for each in nearest.values()).most_common(4))
    n_ties = np.mean([len(each.ties) for each in nearest.values()])
    with_original = np.mean([ORIGINAL in each.ties for each in nearest.values()])
    print(
        f"{n_seeds} seeds: {100 * with_rule:.0f} % of {len(pairs)} pairs agree ({100 * without:.0f} % by plain t-tests), "
        f"{n_ties:.1f} of {len(others[sets[0]].logs)} models are ties; the nearest lies at {mean:.2f} sd on other seeds "
        f"({f'limit {limit}, ' if math.isfinite(limit) else ''}best possible {math.fsum(best) / len(best):.2f}); the original "
        f"is a tie in {100 * with_original:.0f} % of sets; named: {names}{'  MISSED' if is_bad else ''}",
        flush=True,
    )
    return is_bad


def numbers(text: str) -> tuple[int, ...]:
    first, _, last = text.partition("-")
    return tuple(range(int(first), int(last) + 1))


def main() -> int:
    """Print one line for each size of the sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="Where models are kept; by default nowhere.")
    parser.add_argument("--seeds", type=numbers, default=tuple(range(10)), metavar="FIRST-LAST")
    parser.add_argument("--config", type=Path, default=CONFIGURATION)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument("--simulate", action="store_true")
    given = parser.parse_args()
    if given.simulate:
        return int(simulated())
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        options = RunOptions(store=given.store or Path(folder) / "store", seeds=given.seeds, output=output, report=False)
        run_experiment(load_experiment(given.config, overrides=given.overrides), options)
        kept = RunFolder.load(output)
    rows, roles = [*kept.rows, *kept.jury], roles_of(kept)
    limits = LIMITS if given.config == CONFIGURATION else dict.fromkeys(LIMITS, math.inf)
    missed = [judged(rows, roles, given.seeds, n_seeds, limit) for n_seeds, limit in limits.items()]
    one = References(n_originals=1)
    alone = [advise(judge_all([row for row in rows if row.seed_train == seed], roles), one).best for seed in given.seeds]
    print(f"one seed names somebody in {sum(each is not None for each in alone)} of {len(given.seeds)} cases")
    return int(any(missed) or any(alone))


if __name__ == "__main__":
    sys.exit(main())
