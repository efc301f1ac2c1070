"""Methods that need to have been there at training: SISA, checkpoints, rewinding."""

import copy
import dataclasses

import pytest
import torch
from toys import distance, logits_by_hand, make_task, same_model, start, tiny_net, weights

from erasure.accounting.gaussian import noise_for
from erasure.accounting.sensitivity import rewind_distance
from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.functional.quasi_newton import SecantCurvature
from erasure.models.ensemble import Ensemble
from erasure.models.mlp import MLP
from erasure.testing.problems import TinyNetwork, problem
from erasure.training.batches import Batch
from erasure.training.calls import Optimizer, Schedule
from erasure.training.history import Checkpoint, Update
from erasure.training.predictor import Model, Predictor, train
from erasure.unlearners.amnesiac import AmnesiacUnlearning
from erasure.unlearners.delta_grad import DeltaGrad
from erasure.unlearners.rewind_to_delete import RewindToDelete
from erasure.unlearners.sequential import Sequential
from erasure.unlearners.sisa import SISA

SHARDED = Predictor(model=Ensemble(model=TinyNetwork(), shards=3, slices=2), epochs=6, optimizer=Optimizer.of("Adam", lr=0.02))


@pytest.mark.parametrize("forget", ["none", "one", "some", "class"])
def test_sisa_is_training_without_the_samples_bit_for_bit(forget):
    given = problem(forget=forget, recipe=SHARDED)
    result = SISA().run(given.model, given.context)
    assert same_model(result.model, given.models.trained("retain"))
    assert same_model(result.model, given.model) == (forget == "none")
    assert result.guarantee.kind == "exact"
    assert result.kept_bytes == 2 * sum(v.numel() * v.element_size() for v in given.model.members.state_dict().values())


def test_methods_of_other_trainings_are_refused_before_anything_is_trained():
    plain, sharded = problem(), problem(recipe=SHARDED)
    batch = Batch(plain.context.x.gather(torch.arange(2)), plain.context.y[:2], torch.arange(2))
    for method, wrong, right in ((SISA(), plain, sharded), (DeltaGrad(), sharded, plain)):
        with pytest.raises(RequirementNotMet, match="ensemble"):
            method.try_on(wrong.model, batch, plain.context.criterion)
        method.try_on(right.model, batch, plain.context.criterion)


def test_what_sisa_keeps_is_made_once():
    given = problem(forget="one", recipe=SHARDED)
    SISA().run(given.model, given.context)
    kept = dict(given.models.cache)
    assert len(kept) == 2  # of the original and of the result
    SISA().run(given.model, given.context)
    assert dict(given.models.cache).keys() == kept.keys()


def test_a_stream_of_requests_trains_only_what_each_request_touches():
    given = problem(forget="none", recipe=SHARDED)
    requests, left = (4, 1, 11), {}  # the first two are in different shards
    for number, sample in enumerate(requests):
        given.context.partitions[f"request {number}"] = torch.tensor([sample])
        left[f"left {number}"] = torch.tensor([i for i in range(36) if i not in requests[: number + 1]])
    given.context.partitions.update(left)
    names = {"requests": tuple(f"request {n}" for n in range(3)), "remaining": tuple(left)}
    stream = Sequential(method=SISA(), **names)
    assert same_model(stream.run(given.model, given.context).model, given.models.trained("left 2"))
    once = SISA(retain="left 0").run(given.model, given.context).model
    shares = [
        resumed_share(given, model, left[name])
        for model, name in ((given.model, "left 0"), (once, "left 1"), (given.model, "left 1"))
    ]
    assert max(shares[:2]) <= 1 / 3  # a member each
    assert shares[2] == pytest.approx(sum(shares[:2]))
    with pytest.raises(RequirementNotMet, match="earlier request"):
        SISA(retain="train").run(once, given.context)


def resumed_share(given, model, ids):
    given.models.partitions["asked"] = ids
    return given.models.resumed(model, "asked", None).share


def test_sisa_refuses_what_is_no_ensemble_of_shards():
    given = problem()
    with pytest.raises(RequirementNotMet, match="model Ensemble"):
        SISA().run(given.model, given.context)
    sharded = problem(forget="one", recipe=SHARDED)
    other = copy.deepcopy(sharded.model)
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    with pytest.raises(RequirementNotMet, match="another model"):
        SISA().run(other, sharded.context)
    with pytest.raises(RequirementNotMet, match="no updates of one network"):
        AmnesiacUnlearning().run(sharded.model, sharded.context)


# Checkpoints


def parts(given, **changes):
    bank = given.models
    recipe = {
        "model": TinyNetwork(form="image"),
        "epochs": 5,
        "optimizer": Optimizer.of("Adam", lr=0.02),
        "schedule": Schedule.of("CosineAnnealingLR"),
    }
    predictor = Predictor(**{**recipe, **changes})
    arguments = {"x": bank.x, "y": bank.y, "criterion": bank.criterion, "seed": 3, "batch_size": 8}
    return predictor, lambda ids, **more: train(bank.fresh(3), predictor, ids=ids, **arguments, **more)


@pytest.mark.parametrize("form", ["image", "table"])  # BatchNorm, dropout
def test_a_training_that_is_taken_up_ends_as_one_without_a_stop(form):
    given = problem(form)
    _, run = parts(given, model=TinyNetwork(form=form))
    kept: list[Checkpoint] = []
    whole = run(torch.arange(36), on_checkpoint=kept.append)
    assert [checkpoint.epoch for checkpoint in kept] == [0, 1, 2, 3, 4]
    assert same_model(whole, run(torch.arange(36)))
    for checkpoint in kept:
        assert same_model(whole, run(torch.arange(36), resume=checkpoint))
    assert not same_model(whole, run(torch.arange(30), resume=kept[2]))


def test_updates_tell_rate_epoch_and_samples():
    given = problem("image")
    _, run = parts(given, optimizer=Optimizer.of("SGD", lr=0.1, weight_decay=0.01), schedule=Schedule.of("StepLR", step_size=2))
    seen: list[Update] = []
    run(torch.arange(36), on_step=lambda model, update: seen.append(update))
    assert [update.number for update in seen] == list(range(26))
    assert [update.epoch for update in seen[1:]] == [e for e in range(5) for _ in range(5)]
    assert [round(update.rate, 9) for update in seen[1::5]] == [0.1, 0.1, 0.01, 0.01, 0.001]
    assert {update.weight_decay for update in seen[1:]} == {0.01}
    assert sorted(torch.cat([update.batch.ids for update in seen[1:6]]).tolist()) == list(range(36))


def test_what_has_no_epochs_to_stop_between_is_refused():
    given = problem("image")
    _, run = parts(given, patience=2, validation_set="validation")
    with pytest.raises(RequirementNotMet, match="early stopping"):
        run(torch.arange(36), on_checkpoint=lambda checkpoint: None)


# Descent without the forget set


class Descent:
    """A bank whose original is ``tiny_net`` after plain descent in fixed batches, by plain formulas."""

    def __init__(self, task, *, batches, rate=0.3, decay=0.0):
        self.x, self.y = task.x.values, task.y
        self.batches, self.rate, self.decay = [torch.tensor(b) for b in batches], rate, decay

    def run(self, gone=(), on_update=None):
        parameters = start(tiny_net(5))
        for number, batch in enumerate(self.batches, start=1):
            ids = torch.tensor([i for i in batch.tolist() if i not in gone], dtype=torch.int64)
            if len(ids):
                loss = torch.nn.functional.cross_entropy(logits_by_hand(parameters, self.x[ids]), self.y[ids])
                gradients = torch.autograd.grad(loss, parameters)
                with torch.no_grad():
                    for p, g in zip(parameters, gradients, strict=True):
                        p -= self.rate * (g + self.decay * p)
            if on_update is not None:
                on_update(number, batch, parameters)
        return [p.detach() for p in parameters]

    def model(self, gone=()):
        return self.network(self.run(gone))

    def network(self, parameters):
        model = tiny_net()
        with torch.no_grad():
            for p, value in zip(model.parameters(), parameters, strict=True):
                p.copy_(value)
        return model

    def replay(self, on_step):
        on_step(tiny_net(5), Update())

        def show(number, ids, parameters):
            batch = Batch(self.x[ids], self.y[ids], ids)
            on_step(self.network(parameters), Update(number=number, rate=self.rate, weight_decay=self.decay, batch=batch))

        self.run(on_update=show)
        return 1.0


def descent(forget=(0, 5), **options):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(24, 4, generator=generator, dtype=torch.float64)
    partitions = {"forget": forget, "retain": [i for i in range(24) if i not in forget], "train": range(24)}
    context = make_task(x, torch.arange(24) % 3, partitions)
    batches = [list(range(first, first + 6)) for first in (0, 6, 12, 18)] * 8
    bank = Descent(context, **{"batches": batches, **options})
    return bank, dataclasses.replace(context, models=bank)


@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("forget", [(0,), (0, 5, 9), (0, 1, 2, 3, 4, 5, 7)])  # the last one empties a batch
def test_delta_grad_with_period_one_is_retraining_in_the_same_batches(forget, decay):
    bank, task = descent(forget, decay=decay)
    result = DeltaGrad(period=1).run(bank.model(), task).model
    assert distance(weights(result), weights(bank.model(forget))) < 1e-12


def test_delta_grad_is_closer_to_retraining_than_the_original_and_reads_kept_gradients():
    bank, task = descent((0, 5))
    original, retrained = bank.model(), bank.model((0, 5))
    result = DeltaGrad(period=5, burn_in=6).run(original, task)
    before, after = (distance(weights(model), weights(retrained)) for model in (original, result.model))
    assert after < 0.4 * before
    assert result.kept_bytes > 32 * 2 * 8 * sum(p.numel() for p in original.parameters())


def test_delta_grad_corrects_a_kept_gradient_as_the_paper():
    # Three updates by hand: two computed ones give the curvature, the third uses it.
    bank, task = descent((0,), batches=[list(range(6))] * 4, decay=0.1)
    kept = []
    bank.run(on_update=lambda number, ids, parameters: kept.append([p.detach().clone() for p in parameters]))
    kept.insert(0, list(start(tiny_net(5))))

    def gradient(parameters, ids):
        leaves = [p.detach().clone().requires_grad_() for p in parameters]
        loss = torch.nn.functional.cross_entropy(logits_by_hand(leaves, bank.x[ids]), bank.y[ids])
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, leaves)])

    def flat(parameters):
        return torch.cat([p.detach().flatten() for p in parameters])

    def shaped(vector):
        pieces = torch.split(vector, [p.numel() for p in kept[0]])
        return [piece.reshape(p.shape) for piece, p in zip(pieces, kept[0], strict=True)]

    w, everyone, left, pairs = flat(kept[0]), torch.arange(6), torch.arange(1, 6), []
    for t in range(4):
        moved = w - flat(kept[t])
        if t < 3:
            found, g_t = gradient(shaped(w), left), gradient(kept[t], everyone)
            if t:
                pairs.append((moved, gradient(shaped(w), everyone) - g_t))
        else:
            s, y = (torch.stack(each, 1) for each in zip(*pairs[-2:], strict=True))
            matrix, sigma = s.T @ y, (s[:, -1] @ y[:, -1]) / (s[:, -1] @ s[:, -1])
            lower = torch.tril(matrix, -1)
            middle = torch.cat([torch.cat([-torch.diag(matrix.diag()), lower.T], 1), torch.cat([lower, sigma * s.T @ s], 1)])
            outer = torch.cat([y, sigma * s], 1)
            product = sigma * moved - outer @ torch.linalg.inv(middle) @ (outer.T @ moved)
            found = (6 * (gradient(kept[t], everyone) + product) - gradient(shaped(w), torch.tensor([0]))) / 5
        w = w - 0.3 * (found + 0.1 * w)
    result = DeltaGrad(period=100, burn_in=2).run(bank.model(), task).model
    assert all(float(s @ y) > 0 for s, y in pairs)
    assert float((flat(result.parameters()) - w).abs().max()) < 1e-9


def test_delta_grad_without_forgotten_samples_changes_nothing():
    bank, task = descent(())
    assert same_model(DeltaGrad().run(bank.model(), task).model, bank.model())


def test_the_secant_equation_holds():
    generator = torch.Generator().manual_seed(0)
    steps = [torch.randn(7, generator=generator, dtype=torch.float64) for _ in range(3)]
    root = torch.randn(7, 7, generator=generator, dtype=torch.float64)
    curvature = root @ root.T + torch.eye(7, dtype=torch.float64)
    product = SecantCurvature(steps, [curvature @ s for s in steps])
    assert float((product(steps[-1]) - curvature @ steps[-1]).abs().max()) < 1e-10


def test_the_curvature_of_one_parameter_is_exact():
    one = [torch.tensor([value], dtype=torch.float64) for value in (0.3, 2.0)]
    product = SecantCurvature(one[:1], [3.7 * one[0]])
    assert float(product(one[1])) == pytest.approx(7.4, rel=1e-14)


def test_steps_that_are_not_plain_descent_are_refused():
    given = problem()  # Adam, dropout
    with pytest.raises(RequirementNotMet, match="SGD without momentum"):
        DeltaGrad().run(given.model, given.context)
    bank, task = descent()
    with pytest.raises(RequirementNotMet, match="another model than the one given"):
        DeltaGrad().run(bank.model((3,)), task)


def plain(given, epochs=6, batch_size=36, lr=0.1):
    """The problem's bank with full-batch descent, and its original."""
    linear = MLP(hidden_sizes=())
    recipe = Predictor(model=linear, epochs=epochs, optimizer=Optimizer.of("SGD", lr=lr), schedule=None, batch_size=batch_size)
    bank = dataclasses.replace(given.models, predictor=recipe)
    return bank, bank.trained("train"), dataclasses.replace(given.context, models=bank)


def test_rewinding_goes_on_without_the_samples_and_all_the_way_is_retraining():
    given = problem("image")
    result = RewindToDelete(epochs=2).run(given.model, given.context)
    kept = []
    train_recipe = given.models.predictor
    arguments = {
        "x": given.models.x,
        "y": given.models.y,
        "criterion": given.models.criterion,
        "seed": 0,
        "batch_size": 8,
    }
    train(given.models.fresh(0), train_recipe, ids=torch.arange(36), on_checkpoint=kept.append, **arguments)
    by_hand = train(given.models.fresh(0), train_recipe, ids=given.context.partitions["retain"], resume=kept[4], **arguments)
    assert same_model(result.model, by_hand)
    assert result.guarantee.kind == "none"
    assert result.kept_bytes > 0
    whole = RewindToDelete(epochs=100).run(given.model, given.context).model
    assert same_model(whole, given.models.trained("retain"))


def test_rewinding_with_a_guarantee_adds_the_noise_of_its_distance():
    bank, original, task = plain(problem())
    bounds = {"smoothness": 2.0, "lipschitz": 5.0}
    result = RewindToDelete(epochs=2, eps=1.0, **bounds).run(original, task)
    quiet = RewindToDelete(epochs=2).run(original, task).model
    far = rewind_distance(n_samples=36, n_removed=9, rate=0.1, steps=6, rewound=2, **bounds)
    generator = task.streams.torch("noise")
    for found, expected in zip(result.model.parameters(), quiet.parameters(), strict=True):
        noise = noise_for(far, 1.0, 1e-5) * torch.randn(found.shape, generator=generator, dtype=torch.float64)
        assert torch.equal(found, expected + noise.float())
    assert (result.guarantee.eps, result.guarantee.delta) == (1.0, 1e-5)
    retrained = torch.cat([p.flatten() for p in bank.trained("retain").parameters()])
    assert float((torch.cat([p.flatten() for p in quiet.parameters()]) - retrained).detach().norm()) <= far


class Counting(torch.nn.Sequential):
    """A linear network that counts the samples it was trained on."""

    def __init__(self, width, n_outputs):
        super().__init__(torch.nn.Linear(width, n_outputs))
        self.register_buffer("n_seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("places", torch.arange(3))

    def forward(self, x):
        self.n_seen += len(x) * self.training
        return super().forward(x)


@dataclasses.dataclass(frozen=True)
class CountingModel(Model):
    def build(self, data):
        return Counting(data.x_shape[0], data.n_outputs)


def test_rewinding_does_not_promise_anything_of_what_training_counted():
    bounds = {"eps": 1.0, "smoothness": 2.0, "lipschitz": 5.0}
    bank, _, task = plain(problem())
    bank = dataclasses.replace(bank, predictor=dataclasses.replace(bank.predictor, model=CountingModel()))
    original, task = bank.trained("train"), dataclasses.replace(task, models=bank)
    assert int(original.n_seen) == 6 * 36
    with pytest.raises(RequirementNotMet, match="the buffer n_seen is not as it was before training"):
        RewindToDelete(epochs=2, **bounds).run(original, task)
    assert RewindToDelete(epochs=2).run(original, task).guarantee.kind == "none"


def test_rewinding_does_not_promise_what_the_recipe_breaks():
    bounds = {"eps": 1.0, "smoothness": 2.0, "lipschitz": 5.0}
    _, original, task = plain(problem(), batch_size=8)
    with pytest.raises(RequirementNotMet, match="full-batch descent"):
        RewindToDelete(**bounds).run(original, task)
    _, original, task = plain(problem())
    with pytest.raises(RequirementNotMet, match="would not hold"):
        RewindToDelete(**{**bounds, "lipschitz": 1e-3}).run(original, task)
    with pytest.raises(RequirementNotMet, match=r"smoothness is 0\.01: the guarantee would not hold"):
        RewindToDelete(**{**bounds, "smoothness": 0.01}).run(original, task)
    with pytest.raises(InvalidParameters, match="needs smoothness"):
        RewindToDelete(eps=1.0)
