"""GKT: a student that learns from generated inputs, without the forgotten class."""

import dataclasses

import pytest
import torch
from torch import nn
from toys import (
    conv_net,
    distance,
    divergence_by_hand,
    logits_by_hand,
    make_task,
    picture_task,
    same_model,
    sgd,
    start,
    tiny_net,
    tiny_task,
    unlearned,
    weights,
)

from erasure.errors import RequirementNotMet
from erasure.training.calls import Optimizer
from erasure.training.predictor import ModelInput
from erasure.unlearners.gkt import GKT, attention

PICTURE = ModelInput(x_shape=(1, 5, 5), n_classes=3, modality="image")


class Fresh:
    """A bank of untrained networks."""

    def __init__(self, make):
        self.make = make

    def fresh(self, seed):
        return self.make()


def with_generator(monkeypatch, made):
    """The generator of the next run."""
    monkeypatch.setattr(GKT, "generator", lambda self, data: made)


def small_generator(n_inputs=4):
    drawn = torch.Generator().manual_seed(9)
    layer = nn.Linear(3, n_inputs, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=drawn, dtype=torch.float64))
    return nn.Sequential(layer)


def step_by_hand(loss, parameters, lr, max_norm):
    gradients = torch.autograd.grad(loss, parameters)
    norm = torch.sqrt(sum(g.square().sum() for g in gradients))
    factor = min(1.0, max_norm / (float(norm) + 1e-6))
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= lr * factor * gradient


def test_gkt_follows_the_authors_step_by_step(monkeypatch):
    context, model, generator = tiny_task(bank=Fresh(lambda: tiny_net(5)), batch_size=16), tiny_net(), small_generator()
    original, by_hand, (w, b) = start(model), start(tiny_net(5)), start(generator)
    noise, n_dropped = context.streams.torch("noise"), 0

    def passing(z):
        x = z @ w.T + b
        keeps = logits_by_hand(original, x).softmax(1)[:, 0] <= 0.35
        return x[keeps], int((~keeps).sum())

    for _ in range(4):
        z = torch.randn(16, 3, generator=noise, dtype=torch.float64)
        x, n = passing(z)
        n_dropped += n
        step_by_hand(-divergence_by_hand(logits_by_hand(original, x), logits_by_hand(by_hand, x)), [w, b], 0.05, 0.02)
        x = passing(z)[0].detach()
        for _ in range(3):
            step_by_hand(divergence_by_hand(logits_by_hand(original, x), logits_by_hand(by_hand, x)), by_hand, 0.5, 0.02)
    assert 0 < n_dropped < 4 * 16
    with_generator(monkeypatch, generator)
    method = GKT(
        epochs=4, student_steps=3, batch_size=16, noise_size=3, classes=(0,), max_probability=0.35, max_grad_norm=0.02,
        optimizer=sgd(0.5), generator_optimizer=sgd(0.05),
    )  # fmt: skip
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10
    assert distance(weights(generator), [w, b]) < 1e-10


def test_attention_is_transferred_by_the_formula(monkeypatch):
    model, generator = conv_net(), nn.Sequential(small_generator(25), nn.Unflatten(1, (1, 5, 5)))
    context = dataclasses.replace(picture_task(batch_size=8), models=Fresh(lambda: conv_net(6)), model_input=PICTURE)
    z = torch.randn(8, 3, generator=context.streams.torch("noise"), dtype=torch.float64)
    x = generator(z).detach()

    def said(parameters):
        kernel, bias, weight, shift = parameters
        maps = nn.functional.conv2d(x, kernel, bias)
        look = (maps**2).mean(1).flatten(1)
        return maps.tanh().flatten(1) @ weight.T + shift, look / look.norm(dim=1, keepdim=True)

    by_hand = start(conv_net(6))
    (answer, looks), (says, own) = said([p.detach() for p in model.parameters()]), said(by_hand)
    loss = divergence_by_hand(answer, says) + 7.0 * ((looks - own) ** 2).mean()
    step_by_hand(loss, by_hand, 0.1, 1e9)
    with_generator(monkeypatch, generator)
    method = GKT(
        epochs=1, student_steps=1, batch_size=8, noise_size=3, classes=(0,), max_probability=1.0, attention_weight=7.0,
        max_grad_norm=None, optimizer=sgd(0.1), generator_optimizer=sgd(0.0),
    )  # fmt: skip
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10
    assert torch.allclose(attention(torch.ones(2, 3, 2, 2)), torch.full((2, 4), 0.5))


def test_a_layer_that_writes_over_a_convolution_changes_nothing():
    def net(seed, *, inplace):
        plain = conv_net(seed)
        return nn.Sequential(plain[0], nn.LeakyReLU(inplace=inplace), *plain[2:])

    def taught(*, inplace):
        bank = Fresh(lambda: net(6, inplace=inplace))
        context = dataclasses.replace(picture_task(batch_size=8), models=bank, model_input=PICTURE)
        method = GKT(epochs=1, batch_size=8, noise_size=3, classes=(0,), max_probability=1.0, student_steps=2)
        return unlearned(method, net(1, inplace=inplace), context)

    assert distance(weights(taught(inplace=True)), list(weights(taught(inplace=False)).values())) == 0.0


def test_the_student_sees_only_what_passes_the_gate_and_no_sample(monkeypatch):
    model, seen = tiny_net(), []
    student = tiny_net(5)
    student.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    context = tiny_task(bank=Fresh(lambda: student), batch_size=32)
    method = GKT(epochs=5, batch_size=32, noise_size=4, classes=(1,), max_probability=0.3)
    assert method.access() == "nothing"
    assert GKT().access() == "forget"
    with monkeypatch.context() as patch:
        patch.setattr(type(context.x), "gather", lambda *_: pytest.fail("a sample was read"))
        unlearned(method, model, context)
    inputs = torch.cat(seen)
    assert len(inputs)
    assert float(model(inputs).detach().softmax(1)[:, 1].max()) <= 0.3


def test_a_step_of_the_generator_after_which_nothing_passes_is_taken_back(monkeypatch):
    model, generator = tiny_net(), small_generator()
    before = weights(generator)
    context = tiny_task(bank=Fresh(lambda: tiny_net(5)), batch_size=8)
    with_generator(monkeypatch, generator)
    shares = []

    def nothing_after_a_step(self, x, *rest):
        shares.append(len(x))
        return x if len(shares) != 2 else x[:0]

    monkeypatch.setattr(GKT, "_passing", nothing_after_a_step)
    with pytest.raises(RequirementNotMet, match="max_probability"):
        unlearned(GKT(epochs=1, batch_size=8, noise_size=3, generator_optimizer=sgd(0.5)), model, _of_class_0(context))
    assert distance(weights(generator), before) == 0


def _of_class_0(context):
    ids = (context.y == 0).nonzero().reshape(-1)[:3]
    return dataclasses.replace(context, partitions={**context.partitions, "forget": ids})


def test_what_gkt_cannot_do_is_refused_and_nothing_to_do_changes_nothing():
    model, context = tiny_net(), tiny_task(bank=Fresh(lambda: tiny_net(5)))
    with pytest.raises(RequirementNotMet, match="every class"):
        unlearned(GKT(epochs=1), model, context)
    with pytest.raises(RequirementNotMet, match="there is no class 7"):
        unlearned(GKT(epochs=1, classes=(7,)), model, context)
    texts = dataclasses.replace(context, model_input=ModelInput(x_shape=(4,), n_classes=3, modality="text"))
    with pytest.raises(RequirementNotMet, match="tables and images"):
        unlearned(GKT(epochs=1, classes=(0,)), model, texts)
    assert same_model(model, unlearned(GKT(), model, tiny_task(0)))
    assert same_model(model, unlearned(GKT(epochs=0), model, _of_class_0(context)))


@pytest.mark.parametrize("shape", [(7,), (1, 8, 8), (3, 9, 6)])
def test_generated_inputs_have_the_shape_and_the_scale_that_are_asked_for(shape):
    data = ModelInput(x_shape=shape, n_classes=3)
    with torch.no_grad():
        x = GKT(input_mean=3.0, input_std=0.5, noise_size=5).generator(data)(torch.randn(64, 5))
    assert x.shape == (64, *shape)
    assert float(x.mean()) == pytest.approx(3.0, abs=0.01)
    assert float(x.std()) == pytest.approx(0.5, abs=0.02)


def test_gkt_forgets_a_class_and_knows_the_others_without_a_sample():
    drawn = torch.Generator().manual_seed(0)
    y = torch.arange(180) % 3
    x = torch.randn(3, 6, generator=drawn)[y] * 2.0 + 0.5 * torch.randn(180, 6, generator=drawn)
    torch.manual_seed(0)
    made = [nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3)) for _ in range(2)]
    model, student = made
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    partitions = {"forget": (y == 1).nonzero().reshape(-1).tolist(), "retain": (y != 1).nonzero().reshape(-1).tolist()}
    context = make_task(x, y, partitions, bank=Fresh(lambda: student))
    adam = Optimizer.of("Adam", lr=0.01)
    method = GKT(epochs=25, student_steps=5, batch_size=64, noise_size=8, input_std=2.0, optimizer=adam)
    answers = unlearned(method, model, context)(x).argmax(1)
    assert float((model(x).argmax(1) == y).float().mean()) > 0.95
    assert float((answers[y == 1] == 1).float().mean()) < 0.1
    assert float((answers[y != 1] == y[y != 1]).float().mean()) > 0.85
