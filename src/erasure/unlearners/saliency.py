"""Weight saliency: which weights the loss of the forget set depends on most."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.masks import top_fraction_mask
from erasure.training.trial import require_gradients
from erasure.types import ANY_TASK, Fraction, Partition, PartitionRole, PositiveInt, Source, Task
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.masked import Mask, mask_key
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["SaliencyMapGeneration", "SaliencyMask", "saliency_mask"]

_SALUN = Source(
    paper="Fan, Liu, Zhang, Wong, Wei, Liu, ICLR 2024, arXiv:2310.12508",
    code="OPTML-Group/Unlearn-Saliency at a6e89fd (generate_mask.py)",
    tested="the signed gradients summed by a loop (tests/unit/unlearners/test_saliency.py)",
    deviations=("Ties are broken by position; the reference code leaves them to an unstable sort.",),
)


def saliency_mask(
    model: nn.Module, context: UnlearningContext, *, fraction: float, batch_size: int | None = None
) -> dict[str, Tensor]:
    r"""The weights with the largest gradient of the forget loss.

    .. math:: g = \Bigl| \sum_{B \subset D_f} \nabla_\theta \, \bigl(-\ell(B; \theta_o)\bigr) \Bigr|

    Signed gradients of batch means are summed before the absolute value is taken, as in the reference code, in eval mode and in the
    partition's order. A short last batch counts as much as a whole one.

    Args:
        model: The model, put into eval mode and otherwise left as it is; parameters without ``requires_grad`` get no mask.
        context: Must declare that it reads ``forget``.
        fraction: Share of the weights to select, over all tensors together.
        batch_size: Samples per batch; by default the task's.

    Returns:
        Parameter name to a boolean mask.

    Raises:
        RequirementNotMet: If the forget set is empty, as no weight is then more salient than another.
    """
    if context.n_samples("forget") == 0:
        raise RequirementNotMet(
            f"{context.reader} is not defined for an empty forget set: no weight is more salient than another"
        )
    batches = context.batches("forget", shuffle=False, batch_size=batch_size)

    def gradients() -> dict[str, Tensor]:
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
        for batch in batches:
            loss = context.loss(model, batch)
            require_gradients(model, loss)
            found = torch.autograd.grad(-loss, list(parameters.values()), allow_unused=True)
            for total, gradient in zip(sums.values(), found, strict=True):
                if gradient is not None:
                    total += gradient
        return sums

    model.eval()
    sums = context.precomputed("forget_gradient", model, ["forget"], gradients, samples_per_batch=batches.batch_size)
    ordered = {name: sums[name].abs() for name, _ in model.named_parameters() if name in sums}
    return top_fraction_mask(ordered, fraction)


@dataclass(frozen=True, kw_only=True)
class SaliencyMask(Mask):
    """Selects the weights with the largest gradient of the forget loss at the original.

    **Cost**: one pass over the forget set, forward and backward.

    Args:
        fraction: Share of the weights that may change, counted exactly over all of them.
        forget: Partition to forget.
        batch_size: Samples per batch; by default the data's.
    """

    source: ClassVar[Source | None] = _SALUN

    fraction: Fraction = 0.5
    forget: Partition = "forget"
    batch_size: PositiveInt | None = None

    def partitions(self) -> dict[PartitionRole, str]:
        """The forget set."""
        return {"forget": self.forget}

    def of(self, model: nn.Module, context: UnlearningContext) -> dict[str, Tensor]:
        """The mask."""
        return saliency_mask(model, context, fraction=self.fraction, batch_size=self.batch_size)


@dataclass(frozen=True, kw_only=True)
class SaliencyMapGeneration(Unlearner):
    """Makes a saliency mask for a later step of the same Cascade and leaves the model as it is.

    The mask is kept in memory under ``save_dir/file_name``, where ``Masked(mask_file=...)`` finds it.

    **Cost**: one pass over the forget set, forward and backward.

    Args:
        fraction: Share of the weights that may change.
        save_dir: First part of the mask's name.
        file_name: Last part of the mask's name.
        write: Also write the mask to that path, as safetensors.
    """

    source: ClassVar[Source | None] = _SALUN
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget"})
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    cost: ClassVar[str] = "one pass over the forget set"
    search_space: ClassVar[SearchSpace] = {"fraction": Range(0.1, 0.9)}

    fraction: Fraction = 0.5
    save_dir: str = ""
    file_name: Annotated[str, MinLen(1)] = "saliency_map"
    write: bool = False

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Keep the mask, return the model."""
        mask = saliency_mask(model, context, fraction=self.fraction)
        file = Path(self.save_dir) / self.file_name
        context.masks[mask_key(str(file))] = mask
        if self.write:
            from safetensors.torch import save_file

            file.parent.mkdir(parents=True, exist_ok=True)
            save_file({name: keep.cpu().contiguous() for name, keep in mask.items()}, file)
        return model
