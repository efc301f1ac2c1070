"""Whether the layers of two models see the same samples as alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn

from erasure.errors import PartitionError, RequirementNotMet, nearest
from erasure.functional.cka import alignment, gram
from erasure.functional.diverged import outputs_diverged
from erasure.measures.contract import Evaluation, Value
from erasure.measures.layer_rows import column_of, rows_of_samples
from erasure.measures.referenced import Referenced
from erasure.training.layer_outputs import listening, name_of
from erasure.training.trial import inputs_kept
from erasure.types import Partition, Source

__all__ = ["CKA"]


@dataclass(frozen=True, kw_only=True)
class CKA(Referenced):
    r"""Centred kernel alignment of a model's layers with gold's.

    Answers: in which layers does the model organise the samples as a retrained one would?

    .. math:: \frac{\lVert Y^\top X \rVert_F^2}{\lVert X^\top X \rVert_F \lVert Y^\top Y \rVert_F}

    with the centred outputs :math:`X` and :math:`Y` of a layer, one row a sample. Of the nodes of a graph, all of which a layer
    computes, those of the partition count. One value ``CKA[layer]`` for each layer that has a matrix of weights, and ``CKA``, their
    mean. In [0, 1], in [-1, 1] if unbiased; 1 for equality up to rotation and scale. Early layers of any two networks are alike, so
    read it next to the noise floor.

    **Cost**: one pass of both models over the samples, in one batch, and :math:`O(n^2 d)` for a layer of width :math:`d`.

    Args:
        partition: Where outputs are compared.
        reference: The other model: ``gold`` or ``original``.
        layers: Modules by name, as ``named_modules`` gives them; by default all with a matrix of weights.
        unbiased: Use the unbiased estimate, for few samples of many dimensions.
        max_samples: Samples to look at, drawn at random, at least 4.
    """

    source: ClassVar[Source | None] = Source(
        paper="Kornblith, Norouzi, Lee, Hinton, ICML 2019, arXiv:1905.00414; unbiased: Song et al., JMLR 2012",
    )
    value_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    ideal: ClassVar[Literal["gold"] | float | None] = 1.0
    closer_is_higher: ClassVar[bool] = True

    partition: Partition = "forget"
    layers: Annotated[tuple[str, ...], MinLen(1)] | None = None
    unbiased: bool = False
    max_samples: Annotated[int, Ge(4)] = 256

    @property
    def title(self) -> str:
        """``CKA`` or ``unbiased CKA``."""
        return self.named("unbiased CKA" if self.unbiased else "CKA")

    @torch.no_grad()
    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean, then each layer."""
        ids = self._chosen(evaluation)
        least = 4 if self.unbiased else 2
        if len(ids) < least:
            raise RequirementNotMet(f'alignment needs at least {least} samples; "{self.partition}" has {len(ids)}')
        x = column_of(evaluation, self.partition).gather(ids)
        mine = self._grams(evaluation.subject.load(), x, len(ids))
        other = self._grams(evaluation.model(self.reference).load(), x, len(ids))
        if mine.keys() != other.keys():
            raise RequirementNotMet(f"the model and the {self.reference} model have different layers")
        found = {name: alignment(mine[name], other[name], unbiased=self.unbiased) for name in other}
        mean = sum(found.values()) / len(found)
        return [
            self.value(mean, partition=self.partition),
            *(
                self.value(number, name=f"{self.title}[{name_of(name)}]", partition=self.partition)
                for name, number in found.items()
            ),
        ]

    def _chosen(self, evaluation: Evaluation) -> Tensor:
        ids = evaluation.ids(self.partition)
        if not len(ids):
            raise PartitionError(f'the partition "{self.partition}" is empty')
        # By id, so that the order of the partition plays no part.
        ids = ids.sort().values
        if len(ids) <= self.max_samples:
            return ids
        drawn = evaluation.streams.numpy("samples").permutation(len(ids))[: self.max_samples]
        return ids[torch.from_numpy(np.sort(drawn)).to(ids.device)]

    def _grams(self, model: nn.Module, x: Any, n: int) -> dict[str, Tensor]:
        """Gram matrix of each layer; the outputs themselves are not kept."""
        found: dict[str, Tensor] = {}

        def note(name: str, output: Any) -> None:
            first = rows_of_samples(output[0] if isinstance(output, tuple | list) and len(output) else output, x, n)
            if first is None:
                raise RequirementNotMet(
                    f'the output of the layer "{name_of(name)}" is not one row for each sample; choose others'
                )
            if outputs_diverged(first):
                raise RequirementNotMet(f'the output of the layer "{name_of(name)}" is not finite or runs away')
            found[name] = gram(first)

        with listening(self._modules(model), note), inputs_kept(model):
            model(x)
        if not found:
            raise RequirementNotMet("none of the layers ran")
        return found

    def _modules(self, model: nn.Module) -> dict[str, nn.Module]:
        modules = dict(model.named_modules())
        if self.layers is None:
            chosen = {name: m for name, m in modules.items() if any(p.ndim > 1 for p in m.parameters(recurse=False))}
            if not chosen:
                raise RequirementNotMet("the model has no layer with a matrix of weights; name others in layers")
            return chosen
        unknown = [name for name in self.layers if name not in modules]
        if unknown:
            hint = nearest(unknown[0], modules) or f"it has {', '.join(filter(None, modules))}"
            raise RequirementNotMet(f'the model has no layer "{unknown[0]}"; {hint}')
        return {name: modules[name] for name in self.layers}
