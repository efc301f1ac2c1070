"""Derivatives, outputs and parametrised weights of real networks, and what libraries do to them."""

import copy
from collections import namedtuple

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint
from toys import tiny_net, tiny_task, unlearned, weights

import erasure
from erasure.engine.given_data import OwnModels
from erasure.errors import DataError, RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.calls import Criterion, Optimizer
from erasure.training.curvature import Curvature, mathematical
from erasure.training.parametrized import plain_weights
from erasure.unlearners.boundary_shrink import BoundaryShrink
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.influence_unlearning import InfluenceUnlearning
from erasure.unlearners.l1_sparse import L1Sparse
from erasure.unlearners.selective_synaptic_dampening import SelectiveSynapticDampening as SSD

X, Y = torch.randn(30, 6, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
GIVEN = {"forget": (X[:9], Y[:9]), "retain": (X[9:], Y[9:])}


class Sequence(nn.Module):
    def __init__(self, read):
        super().__init__()
        self.read, self.head = read, nn.Linear(4, 3)

    def forward(self, x):
        states = self.read(x)
        return self.head((states[0] if isinstance(states, tuple) else states)[:, -1])


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.body, self.head, self.reentrant = nn.Linear(6, 4), nn.Linear(4, 3), reentrant

    def forward(self, x):
        inner = checkpoint(lambda z: self.body(z).tanh(), x.flatten(1).clone().requires_grad_(), use_reentrant=self.reentrant)
        return self.head(inner)


NETWORKS = {
    "LSTM": lambda: Sequence(nn.LSTM(2, 4, batch_first=True)),
    "attention": lambda: Sequence(nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)),
    "weight norm": lambda: nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(6, 4)), nn.Tanh(), nn.Linear(4, 3)),
    "checkpoint": lambda: Checkpointed(False),
}


@pytest.mark.parametrize("kind", ["gauss-newton", "hessian"])
@pytest.mark.parametrize("name", NETWORKS)
def test_products_with_the_curvature_agree_with_finite_differences(name, kind):
    torch.manual_seed(0)
    model = NETWORKS[name]().double().eval()
    x = torch.randn(5, 3, 4 if name == "attention" else 2, dtype=torch.float64)
    y = torch.arange(5) % 3
    curvature = Curvature(model, [Batch(x, y, y)], Criterion("classification"), kind)
    flat = torch.randn(sum(w.numel() for w in curvature.weights.values()), dtype=torch.float64)
    parameters = list(model.parameters())
    base = nn.utils.parameters_to_vector(parameters).detach().clone()

    def at(step):
        nn.utils.vector_to_parameters(base + step * flat, parameters)
        with mathematical(model):
            logits = model(x)
            slope = torch.cat([g.flatten() for g in torch.autograd.grad(F.cross_entropy(logits, y), parameters)])
        return logits.detach(), slope

    (ahead, slope_ahead), (behind, slope_behind) = at(1e-5), at(-1e-5)
    nn.utils.vector_to_parameters(base, parameters)
    expected = (slope_ahead - slope_behind) / 2e-5
    if kind == "gauss-newton":
        moved, logits = (ahead - behind) / 2e-5, model(x)
        p = logits.detach().softmax(1)
        seed = (p * moved - p * (p * moved).sum(1, keepdim=True)) / len(y)
        expected = torch.cat([g.flatten() for g in torch.autograd.grad(logits, parameters, seed)])
    assert torch.allclose(curvature(flat), expected, atol=1e-6)


@pytest.mark.parametrize("method", [InfluenceUnlearning(), SSD(), SSD(importance="batch")])
def test_weights_hidden_in_a_reentrant_checkpoint_are_refused_before_training(method):
    batch = Batch(X[:2], Y[:2], torch.arange(2))
    with pytest.raises(RequirementNotMet, match="use_reentrant=False"):
        method.try_on(Checkpointed(True).eval(), batch, Criterion("classification"))


class Sine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, slope):
        return slope * ctx.saved_tensors[0].cos()


class OnceDifferentiable(Sine):
    backward = staticmethod(once_differentiable(Sine.backward))


class Kernel(Sine):
    @staticmethod
    def backward(ctx, slope):
        with torch.no_grad():  # as kernels are, which write into memory
            return Sine.backward(ctx, slope)


@pytest.mark.parametrize("kind", ["gauss-newton", "hessian"])
@pytest.mark.parametrize("function", [OnceDifferentiable, Kernel])
def test_backward_passes_that_would_be_left_out_of_second_derivatives_are_refused(function, kind):
    class Waves(nn.Module):
        def forward(self, x):
            return function.apply(x) * x

    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), Waves(), nn.Linear(4, 3))
    batch, method = Batch(X[:2], Y[:2], torch.arange(2)), InfluenceUnlearning(curvature=kind)
    with pytest.raises(RequirementNotMet, match=f"backward pass of {function.__name__}"):
        method.try_on(model.eval(), batch, Criterion("classification"))
    # Gradients are all that this solver takes.
    InfluenceUnlearning(solver="woodfisher").try_on(model, batch, Criterion("classification"))


@pytest.mark.parametrize("kind", ["gauss-newton", "hessian"])
def test_a_function_of_somebodys_own_that_can_be_differentiated_twice_is_used(kind):
    class Waves(nn.Module):
        def __init__(self, wave):
            super().__init__()
            self.wave = wave

        def forward(self, x):
            return self.wave(x)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), Waves(Sine.apply), nn.Linear(4, 3)).double().eval()
    batch = Batch(X[:5].double(), Y[:5], torch.arange(5))
    direction = torch.randn(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    found = Curvature(model, [batch], Criterion("classification"), kind)(direction)
    model[1].wave = torch.sin
    assert torch.allclose(found, Curvature(model, [batch], Criterion("classification"), kind)(direction), atol=1e-12)


# Weights that are computed from others


def test_ssd_dampens_the_weight_that_weight_norm_computes():
    plain = tiny_net().eval()
    normed = copy.deepcopy(plain)
    parametrizations.weight_norm(normed[0])
    method = SSD(selection_weighting=1.1)
    expected, found = unlearned(method, plain, tiny_task()), unlearned(method, normed, tiny_task())
    assert torch.allclose(found[0].weight, expected[0].weight, atol=1e-12)
    assert not torch.equal(found[0].weight, plain[0].weight)
    assert torch.allclose(normed[0].weight, plain[0].weight)  # still there: copies share the class that carries it
    assert torch.allclose(normed(tiny_task().x.values), plain(tiny_task().x.values))


def test_spectral_norm_undoes_assignments_and_is_refused_with_its_layer():
    model = nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3)).double().eval()
    before = model[0].weight.clone()
    kept = copy.deepcopy(model)
    kept[0].weight = 0.5 * before.detach()
    assert torch.allclose(kept[0].weight, before)  # torch's own behaviour
    with pytest.raises(RequirementNotMet, match='layer "0"'):
        unlearned(SSD(), model, tiny_task())
    with pytest.raises(RequirementNotMet, match="SpectralNorm"), plain_weights(model):
        pass


def test_the_l1_penalty_counts_the_weight_that_is_computed():
    torch.manual_seed(0)
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3)).double().eval()
    sizes = [unlearned(L1Sparse(epochs=5, gamma=g), model, tiny_task())[0].weight.abs().sum() for g in (0.0, 0.05)]
    assert sizes[1] < 0.9 * sizes[0]


# Which output is the logits

Outputs = namedtuple("Outputs", ["logits", "aux_logits"])


class TwoHeads(nn.Module):
    def __init__(self, returns):
        super().__init__()
        self.body, self.fc, self.aux, self.returns = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 3), returns

    def forward(self, x):
        h = self.body(x).relu()
        return self.returns(self.fc(h), self.aux(h), h) if self.training else self.fc(h)


@pytest.mark.parametrize("method", ["Finetuning", "NegGrad", "SCRUB"])
def test_a_field_called_logits_wins_also_in_a_pair(method):
    torch.manual_seed(0)
    model = TwoHeads(lambda logits, aux, h: Outputs(logits, aux))
    found = erasure.unlearn(model, method, **GIVEN)
    assert torch.equal(found.aux.weight, model.aux.weight)
    assert not torch.equal(found.fc.weight, model.fc.weight)


@pytest.mark.parametrize("returns", [lambda logits, aux, h: (logits, aux), lambda logits, aux, h: (logits, h)])
def test_a_pair_whose_logits_cannot_be_told_is_refused(returns):
    with pytest.raises((RequirementNotMet, DataError), match="a field logits"):
        erasure.unlearn(TwoHeads(returns), "Finetuning", **GIVEN)


# Through the door


class ClassToken(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.head = nn.Parameter(torch.randn(1, 6)), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(x + self.token)


@pytest.mark.parametrize(
    "first", [ClassToken, lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 8)), nn.Linear(8, 3))]
)
def test_bad_teaching_draws_weights_of_modules_without_an_initialisation(first):
    torch.manual_seed(0)
    model = first()
    bank = OwnModels(model)
    fresh, again, other = weights(bank.fresh(1)), weights(bank.fresh(1)), weights(bank.fresh(2))
    for name, value in weights(model).items():
        assert torch.equal(fresh[name], again[name])
        assert not torch.equal(fresh[name], value), name
    assert any(not torch.equal(fresh[name], other[name]) for name in fresh)
    assert bool(torch.isfinite(erasure.unlearn(model, "BadTeaching", **GIVEN)(X)).all())


def test_images_are_clipped_by_boundary_shrink_through_the_door(monkeypatch):
    seen = []
    attack = BoundaryShrink._adversarial

    def noted(self, original, batch, task, bounds):
        found = attack(self, original, batch, task, bounds)
        seen.append((found, batch.x))
        return found

    monkeypatch.setattr(BoundaryShrink, "_adversarial", noted)
    pictures = torch.rand(9, 1, 4, 4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    erasure.unlearn(model, "BoundaryShrink", forget=(pictures, Y[:9]), bound=5.0)
    assert all(bool((adversarial <= x.max()).all() and (adversarial >= x.min()).all()) for adversarial, x in seen)
    seen.clear()
    erasure.unlearn(model, "BoundaryShrink", forget=(pictures, Y[:9]), bound=5.0, modality="table")
    assert float(seen[0][0].max()) > 1


@pytest.mark.filterwarnings("ignore::erasure.errors.UnlearningWarning")  # it may well go back to the start
def test_scrub_rewind_takes_a_validation_set_through_the_door():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    given = {"forget": (X[:9], Y[:9]), "retain": (X[9:21], Y[9:21])}
    with pytest.raises(RequirementNotMet, match="validation"):
        erasure.unlearn(model, "ScrubRewind", **given)
    assert erasure.unlearn(model, "ScrubRewind", **given, validation=(X[21:], Y[21:])) is not model


# Embeddings with sparse gradients


@pytest.mark.parametrize("method", ["BadTeaching", "SalUn", "SSD", "Finetuning", "SCRUB"])
def test_embeddings_with_sparse_gradients_are_learned_as_dense_ones(method):
    torch.manual_seed(0)
    tokens = torch.randint(0, 9, (30, 5))

    def run(sparse):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(9, 4, sparse=sparse), nn.Flatten(), nn.Linear(20, 3))
        given = {"forget": (tokens[:9], Y[:9]), "retain": (tokens[9:], Y[9:])}
        return erasure.unlearn(model, method, **given, **({"selection_weighting": 1.1} if method == "SSD" else {}))

    sparse, dense = run(True), run(False)
    assert sparse[0].sparse
    # Gradients of a token that occurs twice are summed in another order.
    for a, b in zip(sparse.state_dict().values(), dense.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


# Libraries' surprises, on which we are right


def test_adam_with_weight_decay_does_not_move_masked_weights():
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weight], lr=0.1, weight_decay=1e-6)
    weight.grad = torch.zeros(2)
    optimizer.step()
    assert float(weight.detach()[0]) < 0.95  # torch's own behaviour: a masked gradient alone does not hold a weight
    model, context = tiny_net(), tiny_task()
    mask = {"0.weight": torch.zeros(6, 4)}
    adam = Optimizer.of("Adam", lr=0.1, weight_decay=1e-6)
    found = Finetuning(epochs=2, optimizer=adam).run(model, context.masked(mask)).model
    assert torch.equal(found[0].weight, model[0].weight)
    assert not torch.equal(found[2].weight, model[2].weight)
