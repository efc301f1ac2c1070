"""``verdicts.json``: the verdicts of a run with the numbers behind them, for programs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from erasure.analysis.equivalence import Limits
from erasure.analysis.findings import Difference, Tested
from erasure.analysis.overview import Overview
from erasure.analysis.verdicts import Verdict
from erasure.durable import write_atomically

__all__ = ["FORMAT", "VERDICTS_FILE", "verdicts_record", "write_verdicts"]

VERDICTS_FILE = "verdicts.json"
FORMAT = 1


def write_verdicts(overview: Overview, directory: Path) -> None:
    """Write the file.

    Raises:
        StoreError: If it cannot be written.
    """
    text = json.dumps({"format": FORMAT, **verdicts_record(overview)}, ensure_ascii=False, allow_nan=False, indent=1)
    write_atomically(directory / VERDICTS_FILE, f"{text}\n".encode("utf-8", "replace"))


def verdicts_record(overview: Overview) -> dict[str, Any]:
    """The verdicts as JSON; of a sweep over several problems those of each, by its name."""
    if overview.parts:
        return {"problems": {name: verdicts_record(part) for name, part in overview.parts}}
    report, advice = overview.judged.report, overview.advice
    control = report.control
    return {
        "level": report.level,
        "methods_tested": report.n_tested,
        "detectable_shift": _finite(report.shift),
        "control": {"verdict": str(control.finding), "p": control.p} if control is not None else None,
        "notices": list(report.notices),
        "methods": [_method(each) for each in overview.verdicts],
        "recommendation": {
            "advice": str(advice.kind),
            "sentence": overview.recommendation,
            "method": advice.best.label if advice.best is not None else None,
            "nearest": advice.nearest.label if advice.nearest is not None else None,
            "ties": list(advice.ties),
            "chances": dict(advice.chances),
            "distance": advice.among.distance if advice.among is not None else None,
            "cross_fitted_distance": advice.among.cross_fitted if advice.among is not None else None,
        },
    }


def _method(verdict: Verdict) -> dict[str, Any]:
    found: dict[str, Any] = {
        "method": verdict.label,
        "verdict": str(verdict.finding),
        "title": verdict.title,
        "evidence": list(verdict.reasons),
        "distance": _finite(verdict.distance),
        "cost": verdict.cost,
        "is_retraining": verdict.is_exact,
        "repetitions": verdict.n,
    }
    return found | (_tested(verdict.tested) if verdict.tested is not None else {})


def _tested(tested: Tested) -> dict[str, Any]:
    return {
        "p": tested.p,
        "p_holm": tested.adjusted,
        "basis": tested.basis,
        "originals": tested.n_originals,
        "labellings": tested.n_labellings,
        "reason": tested.reason,
        "remedy": tested.remedy,
        "populations": [
            {"measure": each.measure, "p": each.p, "p_holm": each.adjusted, "repetitions": each.n} for each in tested.populations
        ],
        "memory_left": _limits(tested.memory),
        "left_out": list(tested.left_out),
        "values": [_difference(each) for each in tested.differences],
    }


def _difference(each: Difference) -> dict[str, Any]:
    return {
        "measure": each.column.measure,
        "partition": each.column.partition,
        "claim": each.column.claim,
        "unit": each.column.unit,
        "value": each.value,
        "retrained": each.gold,
        "difference": each.amount,
        "retrained_sd": each.gold_sd,
        "deviations": each.deviations,
        "telling_rate": each.telling_rate,
        "p": each.p,
        "is_scattered": each.is_scattered,
        "is_negligible": each.is_negligible,
    }


def _limits(found: Limits | None) -> dict[str, float] | None:
    return None if found is None else {"estimate": found.mean, "low": found.low, "high": found.high}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
