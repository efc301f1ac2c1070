"""Do disjoint sets of seeds recommend the same method? The proof of concept on ten seeds, all pairs of disjoint sets of three and of five.

``python benchmarks/recommendation.py [--store FOLDER]`` runs it, and exits with 1 unless in at least 80 % of pairs each set's nearest
method is among the ties of the other, and the nearest lies, on the seeds that did not choose it, within 2.1 (three seeds) and 1.9 (five)
standard deviations of a gold.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from erasure.analysis.advice import References, advise
from erasure.analysis.families import families_of
from erasure.analysis.findings import ORIGINAL
from erasure.analysis.gaps import Roles
from erasure.analysis.nearest import Distances, Nearest, distances_of
from erasure.analysis.power import LEVEL
from erasure.analysis.verdicts import judge_all
from erasure.experiment.configuration import load_experiment
from erasure.records.rows import Row
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment

CONFIGURATION = Path(__file__).parents[1] / "configs" / "proof_of_concept.jsonc"
N_SEEDS = 10
LEAST_AGREEMENT = 0.8
LIMITS = {3: 2.1, 5: 1.9}
NO_COMPETITORS = frozenset({"GoldModel", "Identity"})
ROLES = Roles(sizes={"forget": 89, "retain": 809, "test": 899})


def chosen(rows: Sequence[Row], seeds: Sequence[int]) -> tuple[Distances, Nearest]:
    """Distances on some seeds, and what is nearest on them."""
    families, _ = families_of([row for row in rows if row.seed_train in seeds], ROLES)
    distances = distances_of({label: family for label, family in families.items() if label not in NO_COMPETITORS})
    nearest = distances.nearest(distances.logs)
    assert nearest is not None
    return distances, nearest


def judged(rows: Sequence[Row], n_seeds: int) -> bool:
    """Print how often disjoint sets agree, and how far their choice is."""
    sets = list(itertools.combinations(range(N_SEEDS), n_seeds))
    nearest = {seeds: chosen(rows, seeds)[1] for seeds in sets}
    pairs = [(a, b) for a, b in itertools.combinations(sets, 2) if not set(a) & set(b)]
    agree = [nearest[a].label in nearest[b].ties and nearest[b].label in nearest[a].ties for a, b in pairs]
    stricter = [min(nearest[a].farther[nearest[b].label], nearest[b].farther[nearest[a].label]) > LEVEL for a, b in pairs]
    others = {seeds: chosen(rows, [seed for seed in range(N_SEEDS) if seed not in seeds])[0] for seeds in sets}
    far = [others[seeds].of(nearest[seeds].label) for seeds in sets]
    best = [min(others[seeds].of(label) for label in others[seeds].logs) for seeds in sets]
    at_level = sum(stricter) / len(stricter)
    share, mean = sum(agree) / len(agree), math.fsum(far) / len(far)
    is_bad = share < LEAST_AGREEMENT or mean > LIMITS[n_seeds]
    names = ", ".join(f"{label} {n}" for label, n in Counter(each.label for each in nearest.values()).most_common(4))
    with_original = sum(each.farther[ORIGINAL] > LEVEL for each in nearest.values()) / len(sets)
    print(
        f"{n_seeds} seeds: {100 * share:.0f} % of {len(pairs)} pairs agree ({100 * at_level:.0f} % if ties were tested at "
        f"{100 * LEVEL:.0f} %); the nearest lies at {mean:.2f} sd on other seeds "
        f"(limit {LIMITS[n_seeds]}, best possible {math.fsum(best) / len(best):.2f}); nothing is shown to be nearer than the original by "
        f"{100 * with_original:.0f} % of sets; named: {names}{'  MISSED' if is_bad else ''}",
        flush=True,
    )
    return is_bad


def main() -> int:
    """Print one line for each size of the sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="Where models are kept; by default nowhere.")
    store = parser.parse_args().store
    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(store=store or Path(folder), seeds=tuple(range(N_SEEDS)))
        results = run_experiment(load_experiment(CONFIGURATION), options)
    rows = [*results.rows, *results.jury]
    missed = [judged(rows, n_seeds) for n_seeds in LIMITS]
    one = References(n_originals=1)
    alone = [advise(judge_all([row for row in rows if row.seed_train == seed], ROLES), one).best for seed in range(N_SEEDS)]
    print(f"one seed names somebody in {sum(each is not None for each in alone)} of {N_SEEDS} cases")
    return int(any(missed) or any(alone))


if __name__ == "__main__":
    sys.exit(main())
