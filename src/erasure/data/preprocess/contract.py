"""The contract of a preprocess step."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, TypeAlias

from annotated_types import MinLen
from pydantic import BeforeValidator, WithJsonSchema

from erasure.component import Component
from erasure.data.fields import Label
from erasure.data.preprocess.samples import Part, Samples
from erasure.data.reading.files import file_digest
from erasure.types import Json

__all__ = ["Columns", "NonEmptyColumns", "PartStep", "Step", "code_digest"]

_AS_TUPLE = BeforeValidator(lambda value: value if isinstance(value, tuple | list) else (value,))
_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": ["integer", "string"]}, {"type": "array", "items": {"type": ["integer", "string"]}}]}
)

Columns: TypeAlias = Annotated[tuple[Label, ...], _AS_TUPLE, _SCHEMA]
"""Columns by name, or by position from 0; one or a list."""

NonEmptyColumns: TypeAlias = Annotated[tuple[Label, ...], _AS_TUPLE, MinLen(1), _SCHEMA]


@dataclass(frozen=True, kw_only=True)
class Step(Component):
    """What is done to all samples of a source, once, before they are cached and cut into partitions.

    A step works on whole columns and must not depend on which samples will be forgotten: the partitions do not exist yet.
    """

    kind: ClassVar[str] = "step"

    def fingerprint(self) -> Json:
        """What the result depends on beside the parameters: the code of steps from elsewhere, digests of files, versions."""
        return code_digest(type(self).__module__)

    def apply(self, samples: Samples) -> Samples:
        """The samples with this done to them; the given ones are not changed.

        Raises:
            DataError: If it cannot be done; names the column and the sample.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class PartStep(Step):
    """A step that does the same to inputs, labels or groups.

    Args:
        x: Whether it is done to the inputs.
        y: Whether it is done to the labels.
        z: Whether it is done to the groups.
        columns: Input columns that it is done to, by name or by position from 0; empty for all that it fits.
    """

    x: bool = False
    y: bool = False
    z: bool = False
    columns: Columns = ()

    def parts(self) -> Iterator[tuple[Part, tuple[Label, ...]]]:
        """Each part that it is done to, with the columns that are asked for."""
        if self.x:
            yield "x", self.columns
        if self.y:
            yield "y", ()
        if self.z:
            yield "z", ()


def code_digest(module: str) -> Json:
    """SHA-256 of the file of a module that is not part of this package, so that results follow its changes; None for others."""
    if module == "erasure" or module.startswith("erasure."):
        return None
    file = getattr(sys.modules.get(module), "__file__", None)
    return file_digest(file) if file is not None and Path(file).is_file() else None
