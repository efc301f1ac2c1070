"""``erasure calibrate``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from erasure.cli.designs import golds_in_words, originals_in_words
from erasure.cli.listeners import listening
from erasure.cli.options import configuration_options, experiment_from, options_from, run_options
from erasure.cli.prose import printable

if TYPE_CHECKING:
    from erasure.analysis.calibration import Calibration

__all__ = ["command"]

_FOUND = 0.8
_ENOUGH = 5


@click.command("calibrate")
@configuration_options
@run_options
@click.option("--golds", "n_pool", type=click.IntRange(min=2), help="Golds per original to draw from. [default: 20]")
@click.option("--draws", type=click.IntRange(min=20), default=300, show_default=True, help="Reports to draw.")
@click.option("--quiet", is_flag=True, help="Hide progress.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def command(
    config: Path,
    overrides: tuple[str, ...],
    trust: tuple[str, ...],
    n_pool: int | None,
    draws: int,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Ask how often reports of CONFIG would accuse a retrained model, and what they would miss.

    Trains the originals and golds of the configuration, more golds than a report has, and lets golds play its methods: by lot, in several
    hundred reports. Its methods are not run. The store keeps the models.

    \b
    erasure calibrate configs/proof_of_concept.jsonc --seeds 0-2
    erasure calibrate configs/adult.jsonc --set evaluator.floor_repeats=9 --json
    """  # noqa: D301 - click's mark for lines that stay as they are
    from erasure.cli.progress import Terminal
    from erasure.workflows.calibration import calibrate_experiment

    experiment = experiment_from(config, overrides, trust)
    with listening(Terminal(quiet=quiet), None, ()) as listener:
        found = calibrate_experiment(experiment, options_from(**options), n_pool=n_pool, n_draws=draws, listener=listener)
    click.echo(json.dumps(_record(found)) if as_json else printable_lines(found))
    return 0


def printable_lines(found: Calibration) -> str:
    """What was found, in words."""
    low, high = found.interval
    n_methods = f"{found.n_methods} method{'s' if found.n_methods > 1 else ''}"
    lines = [
        f"{originals_in_words(found.n_originals)} with {golds_in_words(found.n_golds, found.n_originals)}, {n_methods} judged together; "
        f"{found.n_draws} reports from {found.n_pool} golds of each original, in which {found.n_played} of them "
        f"play{'s' if found.n_played == 1 else ''} methods.",
        f"A retrained model is accused in {_percent(found.accused)} of reports (95 % interval {_percent(low)} to {_percent(high)}); "
        "at most 5 % are promised.",
        "Retrained models are found " + ", ".join(_findings(found)) + ".",
        f"The original itself is found “under-forgotten” in {_percent(found.n_found / found.n_draws)} of reports.",
        *_unseen(found),
        *_bounded(found),
    ]
    lines += [printable(notice) for notice in found.notices]
    if not found.missed:
        return "\n".join([*lines, "This design can accuse nobody: erasure plan says what would be enough."])
    width = max(len(_name(each.column.measure, each.column.partition)) for each in found.missed)
    lines += ["", f"{'what 80 % of reports find':{max(width, 25)}} {'retrained':>20} {'a shift by':>12} {'in sd':>7}"]
    for each in found.missed:
        name = _name(each.column.measure, each.column.partition)
        golds = f"{each.gold:.3g} ± {each.gold_sd:.2g}"
        shift = ("none", "") if math.isinf(each.shift) else (f"{each.shift:.2g}", f"{each.deviations:.1f}")
        lines.append(printable(f"{name:{max(width, 25)}} {golds:>20} {shift[0]:>12} {shift[1]:>7}"))
    return "\n".join(lines)


def _unseen(found: Calibration) -> list[str]:
    """That a design which does not find the original finds no method."""
    if found.n_found >= _FOUND * found.n_draws or not found.missed:
        return []
    more = [] if found.n_originals >= _ENOUGH else ["five originals with four golds each (--seeds 0-4)"]
    if all(each.column.statistic != "memory" for each in found.missed):
        more.append("the measure ResidualMemory")
    remedy = f" More is seen by {' and by '.join(more)}." if more else " More is seen by more originals."
    return [f"In the others a method that forgets nothing would pass: this design is blind to what is remembered here.{remedy}"]


def _bounded(found: Calibration) -> list[str]:
    """How many originals it takes to bound memory left."""
    from erasure.analysis.equivalence import originals_within
    from erasure.analysis.findings import MEMORY_MARGIN

    spreads = [each.gold_sd for each in found.missed if each.column.statistic == "memory"]
    if not spreads or (found.is_shared and found.n_golds < 2):
        return []
    n = originals_within(max(spreads), MEMORY_MARGIN, n_golds=found.n_golds, is_shared=found.is_shared, chance=_FOUND)
    takes = f"about {n} originals" if n is not None else "more than a hundred originals"
    return [
        f"Memory left of retrained models spreads by {max(spreads):.2f} of the original's: to bound it within {MEMORY_MARGIN:g} in "
        f"{100 * _FOUND:.0f} % of reports takes {takes} with {golds_in_words(found.n_golds, 2)}."
    ]


def _findings(found: Calibration) -> list[str]:
    from erasure.analysis.verdicts import TITLES

    total = sum(found.findings.values())
    ordered = sorted(found.findings.items(), key=lambda each: -each[1])
    return [f"“{TITLES[finding]}” in {_percent(n / total)}" for finding, n in ordered]


def _name(measure: str, partition: str) -> str:
    return f"{measure} on {partition}" if partition else measure


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _record(found: Calibration) -> dict[str, Any]:
    low, high = found.interval
    return {
        "originals": found.n_originals,
        "golds": found.n_golds,
        "pool": found.n_pool,
        "methods": found.n_methods,
        "played": found.n_played,
        "draws": found.n_draws,
        "accused": found.accused,
        "accused_low": low,
        "accused_high": high,
        "findings": {finding.value: n for finding, n in found.findings.items()},
        "original_found": found.n_found / found.n_draws,
        "values": [
            {
                "measure": each.column.measure,
                "partition": each.column.partition,
                "gold": each.gold,
                "gold_sd": each.gold_sd,
                "found_shift": None if math.isinf(each.shift) else each.shift,
            }
            for each in found.missed
        ],
    }
