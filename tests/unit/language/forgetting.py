"""What the tests of methods for language models share: batches of the tiny data, plain losses, and a model that has moved."""

import copy

import torch
from tiny_llama import data, gradients, task

from erasure.functional.tokens import UNLABELLED
from erasure.training.batches import Batch
from erasure.training.calls import Optimizer

DATA = data()


def batch_of(ids):
    ids = torch.as_tensor(ids)
    return Batch(DATA.x.values[ids], DATA.y[ids], ids)


FORGET, RETAIN = batch_of(range(4)), batch_of(range(4, 8))


def term_of(method, model, before=None):
    """The method's forget loss of the forget batch, as a function of the model that is changed afterwards."""
    given = task(DATA).seen_by(method)
    term = method.forget_term(model if before is None else before, given)
    return term(FORGET, len(FORGET.y), (FORGET.y != UNLABELLED).sum())


def moved(model, seed=1, scale=0.05):
    """The same model a little elsewhere."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return other


def each_loss(model, batch):
    """Losses of the tokens of each answer, one list entry an answer."""
    log_p = model(batch.x).log_softmax(-1)
    found = []
    for row, labels in zip(log_p, batch.y, strict=True):
        kept = labels[labels != UNLABELLED]
        found.append(-row[torch.arange(len(kept)), kept])
    return found


def nll(model, batch):
    return torch.cat(each_loss(model, batch)).mean()


def sums(model, batch):
    return torch.stack([each.sum() for each in each_loss(model, batch)])


def means(model, batch):
    return torch.stack([each.mean() for each in each_loss(model, batch)])


class After:
    """A method's term on a model that has moved since the method saw it first: the reference stays."""

    def __init__(self, method, model):
        self.student = copy.deepcopy(model)
        self.term = method.forget_term(self.student, task(DATA).seen_by(method))
        self.student.load_state_dict(moved(model).state_dict())

    def loss(self):
        return self.term(FORGET, len(FORGET.y), (FORGET.y != UNLABELLED).sum())


def compare(first, second, model, other=None):
    torch.testing.assert_close(first, second, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(gradients(model, first), gradients(other or model, second), rtol=1e-9, atol=1e-11)


def stepped(method, model, **changes):
    """The weights after one step of plain descent with rate 1, less those before."""
    given = task(DATA, **changes)
    chosen = method.replace(epochs=1, optimizer=Optimizer.of("SGD", lr=1.0))
    after = chosen.run(model, given).model
    return torch.cat([(b - a).flatten() for a, b in zip(model.parameters(), after.parameters(), strict=True)]).detach()
