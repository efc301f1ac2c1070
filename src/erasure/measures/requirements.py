"""What measures ask of the data, and how they say that it is not there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.measures.contract import Evaluation, Measure, Outputs
from erasure.training.predictor import ModelInput

__all__ = ["class_id", "class_names", "group_names", "groups_of", "require_defined", "require_sound", "unknown_class"]


def require_defined(measure: Measure, evaluation: Evaluation) -> None:
    """Refuse what the measure is not defined for.

    Raises:
        RequirementNotMet: With the measure's own reason.
    """
    reason = measure.unsupported_reason(_data_of(evaluation))
    if reason is not None:
        raise RequirementNotMet(reason)


def require_sound(measure: Measure, partition: str, said: Iterable[Outputs]) -> None:
    """Refuse models of which one has diverged.

    Raises:
        RequirementNotMet: If some logits are not finite or run away.
    """
    if any(outputs.diverged for outputs in said):
        raise RequirementNotMet(
            f'{measure.title} is not defined: some of what a model says of "{partition}" is not finite or runs away; its training or '
            "unlearning diverged"
        )


def _data_of(evaluation: Evaluation) -> ModelInput:
    names = tuple(str(name) for name in evaluation.facts.get("class_names") or ())
    return replace(evaluation.model_input, class_names=names)


def class_names(evaluation: Evaluation) -> list[str]:
    """Name of each class, or its number where it has none."""
    known = evaluation.facts.get("class_names")
    return [str(name) for name in (known or range(evaluation.model_input.n_classes))]


def class_id(evaluation: Evaluation, label: int | str) -> int:
    """Number of a class that is given by number or name.

    Raises:
        RequirementNotMet: If there is no such class.
    """
    return _data_of(evaluation).class_of(label)


def unknown_class(data: ModelInput, *labels: int | str | None) -> str | None:
    """Why one of the classes that a measure's parameters mean is none of the data, if so; None stands for a default."""
    try:
        for label in labels:
            if label is not None:
                data.class_of(label)
    except RequirementNotMet as error:
        return str(error)
    return None


def groups_of(evaluation: Evaluation, outputs: Outputs, column: int) -> Tensor:
    """Group of each sample, from one column of the data's z; ``(n,)`` int64, in the order of ``outputs``.

    Raises:
        RequirementNotMet: If the data has no groups, no such column, or all samples are of one group.
    """
    z = evaluation.z
    if z is None:
        raise RequirementNotMet("the data has no groups (z); name a column of groups in the data source")
    columns = z.reshape(len(z), -1)
    if column >= columns.shape[1]:
        raise RequirementNotMet(f"there is no column {column} of groups; z has {columns.shape[1]}, counted from 0")
    groups = columns[:, column].index_select(0, outputs.ids.to(z.device)).cpu().long()
    if bool((groups == groups[0]).all()):
        raise RequirementNotMet("all samples are of one group; there is nothing to compare")
    return groups


def group_names(evaluation: Evaluation, groups: Tensor) -> list[str]:
    """Name of each group, or its number where it has none."""
    known = evaluation.facts.get("z_names") or ()
    return [str(known[code]) if 0 <= code < len(known) else str(code) for code in groups.tolist()]
