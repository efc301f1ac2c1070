"""Any method with a mask: only some of the weights may change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Annotated, ClassVar

from annotated_types import MinLen
from torch import Tensor, nn

from erasure.component import Component
from erasure.errors import DataError, Diagnostic, InvalidParameters, RequirementNotMet
from erasure.training.predictor import ModelInput
from erasure.types import PartitionRole, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext

__all__ = ["Mask", "Masked", "confined", "mask_key"]


@dataclass(frozen=True, kw_only=True)
class Mask(Component):
    """A rule for which weights of a model may change."""

    kind: ClassVar[str] = "mask"

    def partitions(self) -> dict[PartitionRole, str]:
        """The partition that plays each role the rule reads."""
        raise NotImplementedError

    def of(self, model: nn.Module, context: UnlearningContext) -> dict[str, Tensor]:
        """Parameter name to a mask of its shape, true where the weight may change.

        Args:
            model: The original, in eval mode; left as it is.
            context: Data and loss.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Masked(Unlearner):
    r"""Applies a method to the weights that a mask selects.

    .. math:: \theta_u = m \odot U(\theta_o) + (1 - m) \odot \theta_o

    During gradient steps the other weights and their optimizer state never move, whatever weight decay and momentum would do;
    what methods without gradient steps did to them is undone at the end, and between the steps of a composition, so that no step
    trains around weights that are not there in the end. They are those of the original, bit for bit.
    Buffers are not masked: BatchNorm's running statistics move as the inner method moves them.

    **Cost**: the inner method, the mask, one copy of the masked weights.

    Args:
        inner: The method; it uses the partitions that it names itself.
        mask: The rule that makes the mask.
        mask_file: In place of ``mask``: the name of a mask that an earlier step of the same Cascade made, otherwise a safetensors file.
        mask_sha256: SHA-256 of that file; filled in where there is one, and an error if the file has another.
    """

    version: ClassVar[int] = 2
    source: ClassVar[Source | None] = Source(
        paper="Fan et al., ICLR 2024, arXiv:2310.12508",
        deviations=("Weights outside the mask stay exact under weight decay and momentum (gradient hooks let them move).",),
    )
    cost: ClassVar[str] = "the inner method and the mask"

    inner: Unlearner
    mask: Mask | None = None
    mask_file: Annotated[str, MinLen(1)] | None = None
    mask_sha256: Annotated[str, MinLen(64)] | None = field(default=None, metadata={"address": "changed"})

    def check(self) -> None:
        """One mask, from one place; results are cached by what is in a file, not by its name."""
        if (self.mask is None) == (self.mask_file is None):
            found = "neither was" if self.mask is None else "both were"
            raise InvalidParameters([Diagnostic(f"Masked needs one of mask and mask_file; {found} given")])
        if self.mask_file is None or not Path(self.mask_file).is_file():  # it may be made by a step before
            return
        with Path(self.mask_file).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if self.mask_sha256 not in {None, digest}:
            text = f'expected "{self.mask_file}" with SHA-256 {self.mask_sha256}, found {digest}'
            hint = "the file has changed, or another one was meant; leave mask_sha256 out to take what is there"
            raise InvalidParameters([Diagnostic(text, path="Masked.mask_file", hint=hint)])
        object.__setattr__(self, "mask_sha256", digest)

    def partitions(self) -> dict[PartitionRole, str]:
        """Those of the mask and of the inner method."""
        return {**(self.mask.partitions() if self.mask is not None else {}), **self.inner.partitions()}

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """The inner method's reason."""
        return self.inner.unsupported_reason(data)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Make the mask, then apply the inner method behind it."""
        if self.mask is not None:
            mask: Mapping[str, Tensor] = self.mask.of(
                model, replace(context, roles=self.mask.partitions(), reader=type(self.mask).__name__)
            )
        else:
            mask = _named_mask(str(self.mask_file), context)
        return confined(
            mask,
            model,
            context,
            lambda student, within: self.inner.unlearn(student, within.seen_by(self.inner).handed(self, self.inner)),
        )


def confined(
    mask: Mapping[str, Tensor],
    model: nn.Module,
    context: UnlearningContext,
    unlearn: Callable[[nn.Module, UnlearningContext], nn.Module],
) -> nn.Module:
    """What ``unlearn`` makes of ``model``, with the weights where ``mask`` is 0 as they were.

    Raises:
        RequirementNotMet: If the mask does not fit the model.
    """
    parameters = dict(model.named_parameters())
    misfits = [name for name, keep in mask.items() if name not in parameters or keep.shape != parameters[name].shape]
    if misfits:
        raise RequirementNotMet(f"the mask was made for another model; these parameters differ: {', '.join(misfits[:5])}")
    before = {name: parameters[name].detach().clone() for name in mask}
    within = context.masked(mask, before)
    unlearned = unlearn(model, within)
    within.confine(unlearned)
    return unlearned


def mask_key(file: str) -> str:
    """The name of a mask within a Cascade: its path, whatever way it is spelled."""
    return PurePath(file).as_posix()


def _named_mask(file: str, context: UnlearningContext) -> Mapping[str, Tensor]:
    made = context.masks.get(mask_key(file))
    if made is not None:
        return made
    if not Path(file).is_file():
        known = ", ".join(f'"{name}"' for name in context.masks) or "none"
        raise RequirementNotMet(
            f'there is no mask "{file}": no earlier step of this Cascade made it (there are: {known}) and there is no such file'
        )
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        mask: dict[str, Tensor] = load_file(file)
    except SafetensorError as error:
        raise DataError(f'the mask "{file}" is not a safetensors file ({error}); pickled masks are not read') from error
    return {name: keep.to(context.device) for name, keep in mask.items()}
