"""Which forgotten samples still show? Each method's log-odds of every forgotten sample beside those of the further golds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from erasure.analysis.labellings import Design
from erasure.analysis.power import LEVEL, basis_of
from erasure.analysis.relabelling_test import differences, gold_spread, relabel, t_test
from erasure.durable import write_atomically
from erasure.functional.membership import confidence_margin
from erasure.planning.plan import Plan, Repetition
from erasure.stages.blocks import split_member
from erasure.stages.data_spec import DataSpec
from erasure.stages.inference import outputs_address, outputs_of
from erasure.stages.session import Session

__all__ = ["SAMPLES_FILE", "write_samples"]

SAMPLES_FILE = "samples_that_show.json"
_MAX_SAMPLES = 500
"""Samples of a forget set that are tested: those on which all models together differ most, whoever they are."""
_Floats = NDArray[np.float64]


def write_samples(plan: Plan, session: Session, failed: Mapping[str, str], output: Path) -> None:
    """Write ``samples_that_show.json``: for each method the forgotten samples that still show, at 5 % for the whole list.

    The originals of one split are tested together, since each split forgets samples of its own; methods are not corrected for, nor splits.
    Nothing is run for it: where a run has not looked at the forget set with all models, there is no list.
    """
    data_of_seed = {data.seed: data for data in plan.data}
    by_split: dict[tuple[int, str], list[Repetition]] = {}
    for repetition in plan.repetitions:
        if repetition.floors and not failed:
            by_split.setdefault((repetition.seeds.split, repetition.retain), []).append(repetition)
    records = []
    for (split, _), groups in by_split.items():
        data = data_of_seed[groups[0].seeds.stream("split")]
        for place in range(len(groups[0].unlearned)):
            found = _tested(session, data, groups, place)
            if found is not None:
                records.append({"seed_split": split, **found})
    where = output / SAMPLES_FILE
    where.unlink(missing_ok=True)  # that of an earlier run would be of other models
    if records:
        write_atomically(where, json.dumps({"level": LEVEL, "methods": records}, indent=1, ensure_ascii=False).encode())


def _tested(session: Session, data: DataSpec, groups: Sequence[Repetition], place: int) -> dict[str, Any] | None:
    """The samples that show of one method under one split; None if something was not looked at."""
    entry = groups[0].unlearned[place].entry
    if entry is None or entry.unlearner.exact or entry.unlearner.forget not in data.partition_addresses:
        return None
    once = {
        (repetition.seeds.train, repetition.unlearned[place].model): repetition for repetition in groups
    }  # an original counts once
    blocks: dict[tuple[str, ...], list[str]] = {}
    for (_, model), repetition in once.items():
        blocks.setdefault(tuple(floor.model for floor in repetition.floors), []).append(model)
    design = Design(tuple((len(mine), len(golds)) for golds, mine in blocks.items()))
    basis = basis_of(design, 1)
    order = [model for golds, mine in blocks.items() for model in (*mine, *golds)]
    if not basis or not all(_is_there(session, data, model, entry.unlearner.forget) for model in order):
        return None
    said = [outputs_of(session, data, model, entry.unlearner.forget) for model in order]
    if any(outputs.diverged for outputs in said):
        return None
    table = torch.stack([confidence_margin(outputs.task, outputs.logits, outputs.labels) for outputs in said]).cpu().numpy()
    kept = np.sort(np.argsort(-table.std(axis=0), kind="stable")[:_MAX_SAMPLES])
    values: _Floats = table[:, kept].astype(np.float64)
    p = relabel(values, design).adjusted if basis == "labellings" else t_test(values, design)
    shown = np.flatnonzero(np.nan_to_num(p, nan=1.0) <= LEVEL + 1e-12)
    ids, apart, spread = said[0].ids[torch.from_numpy(kept)].tolist(), differences(values, design), gold_spread(values, design)
    return {
        "label": entry.label,
        "basis": basis,
        "tested": len(kept),
        "of": table.shape[1],
        "originals": design.n_unlearned,
        "samples": [
            {"id": ids[i], "p": float(p[i]), "difference": float(apart[i]), "gold_sd": float(spread[i])}
            for i in shown[np.argsort(p[shown], kind="stable")].tolist()
        ],
    }


def _is_there(session: Session, data: DataSpec, model: str, partition: str) -> bool:
    return session.store.contains(outputs_address(data, split_member(model)[0], partition))
