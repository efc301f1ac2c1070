"""The evidence of an audit: what a report needs beside the rows, of models that no plan has made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from erasure.engine.given_data import GivenData
from erasure.engine.given_models import GivenBlock, GivenModel
from erasure.engine.recording import provenance
from erasure.engine.recording.evidence import measure_record
from erasure.measures.contract import Measure
from erasure.records.evidence import DatasetRecord, ModelRecord, RunRecord
from erasure.records.figure_records import ClassShare, ForgottenRecord, PartitionSize, RepetitionRecord
from erasure.records.rows import ModelRole
from erasure.stages.numerics import Numerics

__all__ = ["given_evidence"]

_MAX_NAMES = 1000


def given_evidence(
    data: GivenData,
    blocks: Sequence[GivenBlock],
    measures: Mapping[str, Measure],
    *,
    name: str,
    dataset: str,
    keys: Mapping[str, str] | None = None,
    exact: Sequence[str] = (),
) -> RunRecord:
    """Everything a report needs beside the rows.

    Args:
        data: The data.
        blocks: What was measured.
        measures: The measure behind each name that rows have.
        name: Name of the audit.
        dataset: Name of the data.
        keys: Label to registered name of the method.
        exact: Labels of methods that retrain.
    """
    shape, kind = data.model_input, data.model_input
    described = DatasetRecord(
        name=dataset,
        modality=kind.modality,
        task=kind.task,
        n=len(data.y),
        n_classes=shape.n_classes,
        x_shape=tuple(shape.x_shape),
        class_names=tuple(data.class_names[:_MAX_NAMES]),
        fingerprint=data.fingerprint(),
    )
    group = RepetitionRecord(
        retain="retain",
        forget="forget",
        training="train",
        heldout="test" if "test" in data.partitions else "",
        seed=0,
        partitions=tuple(PartitionSize(name=each, n=len(ids)) for each, ids in data.partitions.items()),
        forgotten=_forgotten(data),
    )
    return RunRecord(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        experiment=name,
        versions={name: str(version) for name, version in provenance.versions().items()},
        machine=provenance.machine(Numerics(data.device.type, "fp32", torch.get_num_threads(), 1, "ddp"), data.device),
        dataset=described,
        models=tuple(_models(blocks, keys or {}, exact)),
        measures={name: measure_record(measure) for name, measure in measures.items()},
        repetitions=(group,),
    )


def _forgotten(data: GivenData) -> ForgottenRecord:
    gone, train = data.partitions["forget"], data.partitions["train"]
    classes: tuple[ClassShare, ...] = ()
    if data.model_input.task != "multilabel":
        counts = [torch.bincount(data.y[ids].cpu().long(), minlength=data.model_input.n_classes) for ids in (gone, train)]
        names = data.class_names or tuple(str(number) for number in range(len(counts[0])))
        classes = tuple(
            ClassShare(name=str(label), forget=int(n), training=int(of))
            for label, n, of in zip(names, *counts, strict=False)
            if int(n)
        )
    return ForgottenRecord(n=len(gone), n_training=len(train), classes=classes)


def _models(blocks: Sequence[GivenBlock], keys: Mapping[str, str], exact: Sequence[str]) -> list[ModelRecord]:
    found = []

    def add(label: str, role: ModelRole, model: GivenModel, block: GivenBlock, **more: Any) -> None:
        found.append(
            ModelRecord(
                label=label,
                role=role,
                retain="retain",
                seed=block.number,
                address=model.address,
                elapsed_s=model.elapsed_s or None,
                precompute_s=model.precompute_s or None,
                **more,
            )
        )

    for block in blocks:
        add("original", "original", block.original, block)
        for gold in block.golds[:1]:
            add("gold", "gold", gold, block)
        for label, model in block.unlearned.items():
            add(label, "unlearned", model, block, key=keys.get(label, ""), exact=label in exact, forget="forget")
    return found
