"""One model trained by several processes, each on its share of every batch.

All processes draw the same batches in the same order from the same random streams. Each computes the loss of its share, weighted by how
many samples it has (of answers: tokens), so that the averaged gradients are those of the whole batch; BatchNorm takes its statistics over
the whole batch too. The
result is that of one process up to the order of sums, and but for dropout, whose masks each process draws for its own samples.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from erasure.errors import MissingDependency, RequirementNotMet
from erasure.training.batches import Batch, Column, TensorColumn
from erasure.training.calls import Loss, Optimizer
from erasure.training.devices import autocast
from erasure.training.loop import Trainer, needing_statistics
from erasure.training.predictor import Predictor
from erasure.training.randomness import derive

__all__ = ["Rank", "Strategy", "SyncedBatchNorm", "share", "unsupported_reason"]

Strategy: TypeAlias = Literal["ddp", "fsdp"]

_BLOCK = 100_000
"""Elements of a ``Sequential`` or ``ModuleList`` with at least this many parameters are sharded, gathered and released on their own."""

_BY_ELEMENT = ("SGD", "Adam", "AdamW", "Adagrad", "Adadelta", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop")
"""Optimizers that treat each weight alone, so that a shard of the weights can be updated without the others."""

_PLAIN_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def share(n: int, rank: int, n_ranks: int) -> tuple[int, int]:
    """First sample of a rank's share of ``n`` samples, and their number; shares differ by one at most.

    Example:
        >>> [share(5, rank, 2) for rank in range(2)], share(1, 1, 2)
        ([(0, 3), (3, 2)], (1, 0))
    """
    start = rank * (n // n_ranks) + min(rank, n % n_ranks)
    return start, n // n_ranks + (rank < n % n_ranks)


def unsupported_reason(model: nn.Module, predictor: Predictor, x: Column | None, strategy: Strategy) -> str | None:
    """Why a recipe cannot be trained by several processes, or None if it can.

    Args:
        model: A network as the recipe builds it.
        predictor: The recipe.
        x: Inputs, where they are known.
        strategy: ``ddp`` or ``fsdp``.
    """
    return (
        _refuse_loss(predictor.loss_fn)
        or _refuse_optimizer(predictor.optimizer, strategy)
        or _refuse_norms(model)
        or (None if x is None or isinstance(x, TensorColumn) else "batches of graphs cannot be shared among devices")
    )


def _refuse_loss(loss: Loss | None) -> str | None:
    if loss is None:
        return None
    module = loss()
    if getattr(module, "reduction", "mean") not in {"mean", "none"}:
        return f'a loss with reduction="{module.reduction}" is no mean over the samples, so devices cannot share a batch'
    by_weight = isinstance(module, nn.CrossEntropyLoss | nn.NLLLoss)
    if by_weight and (module.weight is not None or module.ignore_index != -100):
        return f"{type(module).__name__} with weight or ignore_index is no mean over the samples, so devices cannot share a batch"
    return None


def _refuse_optimizer(optimizer: Optimizer, strategy: Strategy) -> str | None:
    name = optimizer.target().__name__
    if strategy == "fsdp" and name not in _BY_ELEMENT:
        return f"{name} needs all weights at once, and fsdp shards them; use {', '.join(_BY_ELEMENT[:3])} or --strategy ddp"
    return None


def _refuse_norms(model: nn.Module) -> str | None:
    other = [type(m).__name__ for m in model.modules() if isinstance(m, _BatchNorm) and type(m) not in _PLAIN_NORMS]
    return f"{other[0]} layers cannot take their statistics over several devices" if other else None


class _Sum(torch.autograd.Function):
    """Sum over all processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total


class SyncedBatchNorm(_BatchNorm):
    """BatchNorm over the whole batch, of which each process has a share; on every device, and for shares of no sample."""

    counts = True
    """Whether this process's samples are of the batch; a process without a share runs one that is not."""

    @classmethod
    def of(cls, norm: _BatchNorm) -> SyncedBatchNorm:
        """A layer with the same weights and statistics."""
        synced = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        synced.weight, synced.bias, synced.training = norm.weight, norm.bias, norm.training
        synced.running_mean, synced.running_var = norm.running_mean, norm.running_var
        synced.num_batches_tracked = norm.num_batches_tracked
        return synced

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - the name in PyTorch
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in PyTorch
        """Normalised by the batch while training, by the running statistics otherwise."""
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        axes, shape = [axis for axis in range(values.dim()) if axis != 1], [1, -1] + [1] * (values.dim() - 2)
        weight = float(self.counts)
        n = torch.full((1,), weight * values.numel() / values.shape[1], dtype=values.dtype, device=values.device)
        sums = _Sum.apply(torch.cat([weight * values.sum(axes), n]))  # type: ignore[no-untyped-call]
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = values - mean.view(shape)
        variance = _Sum.apply(weight * centred.square().sum(axes)) / count  # type: ignore[no-untyped-call]
        if self.training and self.running_mean is not None:
            self._follow(mean.detach(), variance.detach() * count / (count - 1))
        found = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is not None:
            found = found * self.weight.view(shape) + self.bias.view(shape)
        normalised: Tensor = found.to(input.dtype)
        return normalised

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None  # noqa: S101 - the caller has looked
        assert self.running_var is not None  # noqa: S101 - they come together
        assert self.num_batches_tracked is not None  # noqa: S101 - all three
        self.num_batches_tracked.add_(1)
        step = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), step)
        self.running_var.lerp_(variance.to(self.running_var.dtype), step)


@dataclass(frozen=True, eq=False)
class Rank:
    """One of the processes that train a model together.

    Args:
        number: Which one; the first one's weights are the result.
        n: How many there are.
        strategy: ``ddp`` has all weights on every device, ``fsdp`` a shard of them.
        fabric: Lightning Fabric, which places the model and moves its gradients.
    """

    number: int
    n: int
    strategy: Strategy
    fabric: Any

    @classmethod
    def joined(cls, number: int, n: int, strategy: Strategy, device: torch.device, meeting: Path) -> Rank:
        """Meet the other processes of this machine.

        Args:
            number: Which one this is, from 0.
            n: How many there are.
            strategy: ``ddp`` or ``fsdp``.
            device: Its own device.
            meeting: A file that does not exist yet, the same for all.

        Raises:
            MissingDependency: If Lightning Fabric is not installed.
        """
        try:
            from lightning_fabric import Fabric
        except ImportError as error:
            raise MissingDependency("lightning-fabric", "fabric", "training on several devices") from error
        is_cuda = device.type == "cuda"
        if is_cuda:
            torch.cuda.set_device(device)
        elif Path("/sys/class/net/lo").exists():
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a machine needs no network to talk to itself
        torch.distributed.init_process_group(
            "nccl" if is_cuda else "gloo", init_method=f"file://{meeting}", rank=number, world_size=n
        )
        fabric = Fabric(accelerator="cuda" if is_cuda else "cpu", devices=n, strategy=_strategy(number, n, strategy))
        fabric.launch()
        return cls(number, n, strategy, fabric)

    def trainer(
        self, model: nn.Module, optimizer: Optimizer, *, n_terms: Callable[[Tensor], int | Tensor], **options: Any
    ) -> Trainer:
        """A trainer that takes this process's share of each batch; its ``model`` is the one to call.

        Args:
            model: The network.
            optimizer: The optimizer.
            n_terms: What the mean loss of a batch with these labels is taken over, :meth:`Criterion.n_terms`.
            **options: As for :class:`Trainer`.
        """
        _synchronise_norms(model)
        return _SharingTrainer(self, self.fabric.setup_module(model, move_to_device=False), optimizer, n_terms, **options)

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """All weights and buffers of a trained model on the CPU, in the first process; every process has to ask."""
        state: Mapping[str, Tensor] = model.state_dict()
        if self.strategy == "fsdp":
            from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

            options = StateDictOptions(full_state_dict=True, cpu_offload=True)
            state = cast("dict[str, Tensor]", get_model_state_dict(model, options=options))
        # Weights that several layers share have a copy for each name: a file of tensors knows no others.
        return {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}


def _strategy(number: int, n: int, strategy: Strategy) -> Any:
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.strategies.model_parallel import ModelParallelStrategy

    class ThisMachine(LightningEnvironment):
        """Processes that are there already, and have met."""

        creates_processes_externally = True

        def world_size(self) -> int:
            return n

        def global_rank(self) -> int:
            return number

        def local_rank(self) -> int:
            return number

        def node_rank(self) -> int:
            return 0

    if strategy == "ddp":
        # A model may leave weights out of a pass; they are then left alone, as in one process.
        return DDPStrategy(cluster_environment=ThisMachine(), find_unused_parameters=True)
    found = ModelParallelStrategy(_sharded, data_parallel_size=n, tensor_parallel_size=1)
    found.cluster_environment = ThisMachine()
    return found


def _sharded(model: nn.Module, mesh: Any) -> nn.Module:
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise RequirementNotMet(f"fsdp needs torch 2.6 or newer, this is {torch.__version__}; use --strategy ddp") from error
    devices = mesh["data_parallel"]
    for parent in reversed(list(model.modules())):  # what is inside comes first
        if isinstance(parent, nn.Sequential | nn.ModuleList):
            for child in parent:
                if sum(p.numel() for p in child.parameters()) >= _BLOCK:
                    fully_shard(child, mesh=devices)
    fully_shard(model, mesh=devices)
    return model


def _synchronise_norms(model: nn.Module) -> None:
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and type(child) in _PLAIN_NORMS:
                setattr(parent, name, SyncedBatchNorm.of(child))


class _SharingTrainer(Trainer):
    """The loop of one of several processes."""

    def __init__(
        self,
        rank: Rank,
        model: nn.Module,
        optimizer: Optimizer,
        n_terms: Callable[[Tensor], int | Tensor],
        **options: Any,
    ) -> None:
        super().__init__(model, optimizer, **options)
        self.rank = rank
        self.n_terms = n_terms

    def epochs(self) -> Iterator[int]:
        """As in one process, with masks of dropout of this process's own."""
        # The caller has seeded the generators for this training and puts them back afterwards.
        seed = derive(torch.initial_seed(), "rank", self.rank.number)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield from super().epochs()

    def agreed(self, decision: bool) -> bool:
        """The first process's decision."""
        return bool(self.rank.fabric.broadcast(decision))

    def _loss_and_gradient(self, batch: Any, loss: Any) -> Tensor:
        n = len(batch.y)
        start, size = share(n, self.rank.number, self.rank.n)
        # A process that has no sample runs the first one with weight 0: all have to take part in every sum.
        first, length = (start, size) if size else (0, 1)
        mine = Batch(*(part.narrow(0, first, length) for part in batch))
        for norm in self.batch_norms:
            if isinstance(norm, SyncedBatchNorm):
                norm.counts = size > 0
        with needing_statistics(self.batch_norms if n == 1 else ()), autocast(self.device, self.precision):
            weight = self.n_terms(mine.y) / self.n_terms(batch.y) if size else 0.0
            value: Tensor = loss(mine) * weight
        # Gradients are averaged over the processes; their sum is wanted.
        (value * self.rank.n).backward()  # type: ignore[no-untyped-call]
        if n == 1:
            self.prepare()
        return value.detach()
