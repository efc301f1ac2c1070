"""From stored values to result rows: gold, gap, noise floor, interval and status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from erasure.experiment.configuration import difference
from erasure.intervals import student_t
from erasure.measures.contract import Measure
from erasure.planning.plan import Plan, Repetition, ReportedModel
from erasure.records.originals import by_original, mean_by_original
from erasure.records.rows import Row
from erasure.stages.value_records import meaning
from erasure.store import Store

__all__ = ["assemble", "assemble_jury", "assemble_trace", "suffixes", "value_row"]

_Key = tuple[str, str]
"""Name of a value and its partition."""


def assemble(plan: Plan, store: Store, failed: Mapping[str, str], dataset: str) -> list[Row]:
    """All rows of a plan, in a stable order: by repetition, then original, gold and unlearned models.

    Args:
        plan: What was run.
        store: Where the values are.
        failed: Address to reason of what could not be computed.
        dataset: Name of the data set.
    """
    rows: list[Row] = []
    n_groups = len({repetition.retain for repetition in plan.repetitions})
    for repetition in plan.repetitions:
        rows += _GroupRows(plan, store, failed, dataset, repetition, several=n_groups > 1).rows()
    return _with_intervals(rows)


def assemble_jury(plan: Plan, store: Store, failed: Mapping[str, str], dataset: str) -> list[Row]:
    """Rows of the further golds, whose ``number`` is 1 and more; they have neither gap nor floor.

    Those that several originals share are there once, without a seed of training.
    """
    n_groups = len({repetition.retain for repetition in plan.repetitions})
    rows: list[Row] = []
    seen: set[tuple[int, str]] = set()
    for repetition in plan.repetitions:
        key = (repetition.seeds.split, repetition.retain)
        if repetition.shares_jury and key in seen:
            continue
        seen.add(key)
        found = _GroupRows(plan, store, failed, dataset, repetition, several=n_groups > 1).jury_rows()
        rows += [replace(row, seed_train=None) for row in found] if repetition.shares_jury else found
    return rows


def assemble_trace(plan: Plan, store: Store, failed: Mapping[str, str], dataset: str) -> list[tuple[int, Row]]:
    """Epoch and row of everything that was measured during unlearning."""
    rows: list[tuple[int, Row]] = []
    for repetition in plan.repetitions:
        maker = _GroupRows(plan, store, failed, dataset, repetition, several=False)
        for reported in repetition.unlearned:
            if reported.trace and reported.trace not in failed:
                rows += maker.trace_rows(reported)
    return rows


class _GroupRows:
    """Rows of one repetition and one gold."""

    def __init__(
        self, plan: Plan, store: Store, failed: Mapping[str, str], dataset: str, repetition: Repetition, *, several: bool
    ) -> None:
        self.plan, self.store, self.failed, self.dataset, self.group = plan, store, failed, dataset, repetition
        self.several = several
        self.measures = plan.experiment.evaluator.measures
        self.suffixes = suffixes(self.measures)
        gold = [self._values(address) for address in repetition.gold.values] if repetition.gold is not None else []
        self.gold = gold or [{} for _ in self.measures]
        self.floors = [[self._values(address) for address in floor.values] for floor in repetition.floors]

        self.subjects = [repetition.original, *([repetition.gold] if repetition.gold else []), *repetition.unlearned]

    def rows(self) -> list[Row]:
        return [row for reported in self.subjects for row in self._subject_rows(reported)]

    def _values(self, address: str | None) -> dict[_Key, dict[str, Any]]:
        if address is None or address in self.failed:
            return {}
        return {(record["name"], record["partition"]): record for record in self.store.open(address).json("values")}

    def _subject_rows(self, reported: ReportedModel) -> Iterable[Row]:
        of_model, (status, reason) = self._base(reported, ""), self._verdict(reported)
        for number, (measure, address) in enumerate(zip(self.measures, reported.values, strict=True)):
            if address is None:
                continue
            if address in self.failed:
                base = replace(of_model, address=address, status="failed", reason=self.failed[address])
                yield from self._failed_rows(base, number, measure)
                continue
            artifact = self.store.open(address)
            elapsed_s = cast(float, artifact.facts["elapsed_s"])
            base = replace(of_model, address=address, elapsed_s=elapsed_s, status=cast(Any, status), reason=reason)
            for record in artifact.json("values"):
                yield self._row(base, record, number, measure)

    def jury_rows(self) -> Iterable[Row]:
        """Rows of the golds of other seeds; of what could not be measured on one there is none.

        Those of attacks that were calibrated for a method (or for the original) have its label and its unlearner.
        """
        for place, reported in enumerate(self.group.floors, start=1):
            yield from self._juror_rows(replace(self._base(reported, ""), number=place), reported.values)
        for reported in (self.group.original, *self.group.unlearned):
            for place, values in enumerate(reported.jury, start=1):
                yield from self._juror_rows(
                    replace(self._base(reported, ""), model_role="gold", number=place, treated_like=reported.role), values
                )

    def _juror_rows(self, base: Row, values: Sequence[str | None]) -> Iterable[Row]:
        for number, (measure, address) in enumerate(zip(self.measures, values, strict=True)):
            if address is None or address in self.failed:
                continue
            artifact = self.store.open(address)
            base = replace(base, address=address, elapsed_s=cast(float, artifact.facts["elapsed_s"]))
            for record in artifact.json("values"):
                yield self._told_apart(value_row(base, record, measure, gold=None, others=()), number)

    def _failed_rows(self, base: Row, number: int, measure: Measure) -> Iterable[Row]:
        """A row for each value that other models have of the measure; one row if no model has any."""
        known = next(filter(None, (self._values(reported.values[number]) for reported in self.subjects)), {})
        if not known:
            yield replace(base, measure=measure.title + self.suffixes[number])
        for (name, partition), record in known.items():
            yield replace(base, measure=name + self.suffixes[number], partition=partition, **meaning(record, measure))

    def trace_rows(self, reported: ReportedModel) -> Iterable[tuple[int, Row]]:
        """Rows of every epoch, with gold's value beside each."""
        records = self.store.open(reported.trace).json("trace")
        gold = {(r["number"], r["name"], r["partition"]): r["value"] for r in records if r["epoch"] == "gold"}
        base = self._base(reported, reported.trace)
        followed = self.plan.experiment.evaluator.trace
        traced = followed.measures if followed is not None else ()
        for record in records:
            if record["epoch"] == "gold":
                continue
            reference = gold.get((record["number"], record["name"], record["partition"]))
            value = record["value"]
            compared = record["ideal"] is not None and value is not None and reference is not None
            yield (
                int(record["epoch"]),
                replace(
                    base,
                    measure=record["name"],
                    partition=record["partition"],
                    value=value,
                    **meaning(record, traced[record["number"]]),
                    gold=reference if compared else None,
                    gap=abs(value - reference) if compared else None,
                    status="ok" if value is not None else "non-finite",
                    reason="" if value is not None else f"the value is {record['found']}",
                ),
            )

    def _base(self, reported: ReportedModel, address: str) -> Row:
        entry, seeds = reported.entry, self.group.seeds
        suffix = f" ({self.group.retain})" if self.several else ""
        return Row(
            experiment=self.plan.experiment.name,
            dataset=self.dataset,
            unlearner=entry.key if entry is not None else "",
            label=entry.label if entry is not None else f"{reported.role}{suffix}",
            model_role=reported.role,
            measure="",
            seed_split=seeds.split,
            seed_train=seeds.train,
            seed_unlearn=seeds.unlearn if entry is not None else None,
            seed_evaluate=seeds.evaluate,
            address=address,
            number=0 if reported.role == "gold" else None,
            access=entry.unlearner.access() if entry is not None else "",
            guarantee=self._guarantee(reported) if entry is not None else "",
        )

    def _guarantee(self, reported: ReportedModel) -> str:
        if reported.model in self.failed or not self.store.contains(reported.model):
            return ""
        return str(cast(dict[str, Any], self.store.open(reported.model).facts.get("guarantee") or {}).get("text", ""))

    def _verdict(self, reported: ReportedModel) -> tuple[str, str]:
        """Status and reason of a model; of a reference what the guards of the methods that are compared with it have found."""
        if reported.role != "unlearned":
            found = [self._judged(each).get(reported.role, "") for each in self.group.unlearned]
            reason = next(filter(None, found), "")
            return ("collapsed", reason) if reason else ("ok", "")
        verdict = self._judged(reported)
        return cast(str, verdict.get("status", "ok")), cast(str, verdict.get("reason", ""))

    def _judged(self, reported: ReportedModel) -> dict[str, Any]:
        if not reported.check or reported.check in self.failed:
            return {}
        return dict(self.store.open(reported.check).json("verdict"))

    def _row(self, base: Row, record: Mapping[str, Any], number: int, measure: Measure) -> Row:
        key = (record["name"], record["partition"])
        others = [floor[number].get(key, {}).get("value") for floor in self.floors]
        gold = self.gold[number].get(key, {}).get("value")
        return self._told_apart(value_row(base, record, measure, gold=gold, others=others), number)

    def _told_apart(self, row: Row, number: int) -> Row:
        suffix = self.suffixes[number]
        return replace(row, measure=row.measure + suffix) if suffix else row


def value_row(
    base: Row, record: Mapping[str, Any], measure: Measure, *, gold: float | None, others: Sequence[float | None]
) -> Row:
    """The row of a stored value.

    Args:
        base: What it shares with the other rows of the model.
        record: The value, as the store keeps it.
        measure: The measure.
        gold: The same value of gold.
        others: The same value of golds of other seeds; the noise floor is the largest of their distances from gold's.
    """
    value, is_compared = record["value"], record["ideal"] is not None
    gold = gold if is_compared else None
    gaps = [abs(other - gold) for other in others if other is not None and gold is not None]
    row = replace(
        base,
        measure=record["name"],
        partition=record["partition"],
        value=value,
        **meaning(record, measure),
        gold=gold,
        gap=abs(value - gold) if value is not None and gold is not None else None,
        noise_floor=max(gaps) if gaps else None,
        low=record["low"],
        high=record["high"],
        n=1,
    )
    return row if value is not None else replace(row, status="non-finite", reason=f"the value is {record['found']}")


def suffixes(measures: Sequence[Measure]) -> list[str]:
    """What sets each measure apart from others of its title whose values are of the same partition, the first that it names: their rows
    would be taken for repetitions.
    """
    names = [(measure.title, measure.partitions()[:1]) for measure in measures]
    suffixes = []
    for measure, name in zip(measures, names, strict=True):
        twins = [other for other, theirs in zip(measures, names, strict=True) if theirs == name]
        found = difference(measure, twins) if len(twins) > 1 else ""
        suffixes.append(f" ({found})" if found else "")
    return suffixes


def _with_intervals(rows: Sequence[Row]) -> list[Row]:
    """Give rows that are repeated the 95 % Student-t interval of their mean; ``n`` counts the repetitions it rests on.

    Repetitions of one original (other seeds of unlearning or measuring) are not independent of one another: they count as one, by their
    mean. Where there is one original only, the interval is over its repetitions, and says nothing of other originals.
    """
    repeated: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        repeated.setdefault(_identity(row), []).append(row)
    intervals = {}
    for identity, own in repeated.items():
        originals = by_original(own)
        values = (
            list(mean_by_original(originals).values()) if len(originals) > 1 else [v for each in originals.values() for v in each]
        )
        intervals[identity] = (student_t(values), len(values))
    result = []
    for row in rows:
        interval, n = intervals[_identity(row)]
        if interval is not None and row.value is not None:
            row = replace(row, low=interval[0], high=interval[1], n=n)
        result.append(row)
    return result


def _identity(row: Row) -> tuple[str, str, str, str]:
    return row.label, row.model_role, row.measure, row.partition
