"""Trainings that a process of several does, and the same ones in one process."""

import functools
import os
import signal
from dataclasses import dataclass

import torch

from erasure.errors import Diverged
from erasure.functional.tokens import ANSWER, PADDING, PROMPT, answer_tokens
from erasure.models.cnn import CNN
from erasure.models.language import SmallLlama
from erasure.models.mlp import MLP
from erasure.models.text import SmallTransformer
from erasure.training import distributed
from erasure.training.augmentation import RandomCrop, RandomFlip
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.predictor import ModelInput, Predictor, build_model, train

SGD = Optimizer.of("SGD", lr=0.05, momentum=0.9, weight_decay=1e-3)
ADAM = Optimizer.of("Adam", lr=0.003, eps=1e-5)
"""Adam divides by the gradient's size: where that is 0 but for rounding, as before BatchNorm, a small ``eps`` makes steps of noise."""


@dataclass(frozen=True)
class Case:
    """A model, what it reads, and how it learns."""

    model: object
    data: ModelInput
    optimizer: Optimizer
    n: int
    double: bool = False
    max_grad_norm: float | None = None
    patience: int | None = None
    augment: tuple = ()


def cases():
    table, image, text = ModelInput((10,), 3), ModelInput((1, 8, 8), 3, modality="image"), ModelInput((12,), 3, modality="text")
    mlp, cnn = MLP(hidden_sizes=(16,), batch_norm=True), CNN(channels=(4, 8), hidden_sizes=(8,), batch_norm=True)
    small = SmallTransformer(n_tokens=20, width=16, n_layers=2, n_heads=2, dropout=0.0)
    # 33 = 2 * 16 + 1 and 35 = 2 * 16 + 3: the last batch is one sample, or of shares that differ.
    found = {}
    for name, optimizer in (("SGD", SGD), ("Adam", ADAM)):
        for double in (False, True):
            kind = "double" if double else "single"
            found[f"mlp-{name}-{kind}"] = Case(mlp, table, optimizer, 35, double)
            found[f"cnn-{name}-{kind}"] = Case(cnn, image, optimizer, 35, double)
            found[f"transformer-{name}-{kind}"] = Case(small, text, optimizer, 35, double)
    answers = ModelInput((2, 12), 20, task="generation", modality="text")
    found["llama-SGD-single"] = Case(SmallLlama(width=16, n_layers=2, n_heads=2), answers, SGD, 33)
    found["last-batch-of-one"] = Case(mlp, table, SGD, 33, double=True)
    found["clipped"] = Case(mlp, table, SGD, 35, double=True, max_grad_norm=0.1)
    found["stopped-early"] = Case(cnn, image, SGD, 35, double=True, patience=1)
    found["augmented"] = Case(cnn, image, SGD, 35, double=True, augment=(RandomFlip(), RandomCrop(padding=1)))
    return found


def answers_of_many_lengths(n, n_rows, length, generator):
    """Prompts of two tokens and answers of one token to many, as they are stored."""
    lengths = torch.randint(1, length - 1, (n, 1), generator=generator)
    places = torch.arange(length).expand(n, -1)
    roles = torch.where(places < 2, PROMPT, torch.where(places < 2 + lengths, ANSWER, PADDING))
    return torch.stack([torch.randint(1, 20, (n, length), generator=generator) * (roles != PADDING), roles], dim=1)


def trained(case, make_trainer=None, device="cpu"):
    """The weights after a few epochs."""
    generator = torch.Generator().manual_seed(1)
    dtype = torch.float64 if case.double else torch.float32
    y = torch.randint(0, 3, (case.n,), generator=generator)
    if case.data.task == "generation":
        x = answers_of_many_lengths(case.n, *case.data.x_shape, generator)
        y = answer_tokens(x)
    elif case.data.modality == "text":
        x = torch.randint(1, 20, (case.n, *case.data.x_shape), generator=generator)
    else:
        x = torch.randn(case.n, *case.data.x_shape, generator=generator, dtype=torch.float64).to(dtype)
    model = build_model(case.model, case.data, 0, torch.device(device)).to(dtype)
    recipe = Predictor(
        model=case.model,
        epochs=8 if case.patience else 2,
        optimizer=case.optimizer,
        max_grad_norm=case.max_grad_norm,
        patience=case.patience,
        validation_set="validation" if case.patience else None,
        augment=case.augment,
    )
    criterion = Criterion(case.data.task)
    return train(
        model,
        recipe,
        x=TensorColumn(x.to(device)),
        y=y.to(device),
        ids=torch.arange(case.n, device=device),
        criterion=criterion,
        seed=3,
        batch_size=16,
        validation_ids=torch.arange(5, device=device) if case.patience else None,
        **({} if make_trainer is None else {"make_trainer": functools.partial(make_trainer, n_terms=criterion.n_terms)}),
    )


def work(rank, device, directory, tell, names):
    """In each process: the weights of every case."""
    torch.set_num_threads(1)
    distributed._BLOCK = 100  # so that small models have more than one shard
    found = {}
    for name in names:
        model = trained(cases()[name], rank.trainer, device)
        found[name] = {key: value.numpy() for key, value in rank.weights(model).items()}
    return found


def fail(rank, device, directory, tell, arguments):
    """The second process diverges while the first waits for it."""
    (directory / f"pid-{rank.number}").write_text(str(os.getpid()))
    torch.distributed.barrier()
    if rank.number == 1:
        raise Diverged("the loss is not finite in epoch 1 of 4")
    torch.distributed.barrier()


def die(rank, device, directory, tell, arguments):
    """The second process is killed while the first waits for it."""
    (directory / f"pid-{rank.number}").write_text(str(os.getpid()))
    torch.distributed.barrier()
    if rank.number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    torch.distributed.barrier()


def complain(rank, device, directory, tell, arguments):
    """An error that is not ours."""
    if rank.number == 0:
        raise ZeroDivisionError("no such thing")
    torch.distributed.barrier()


def told(rank, device, directory, tell, name):
    """What a process finds in its environment, and which process has made it."""
    return os.environ.get(name), os.getppid()
