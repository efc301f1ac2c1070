import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss

from erasure.functional.losses import correctness, distillation_divergence, per_sample_loss, predictions, probabilities, targets

_TASKS = ["classification", "binary", "multilabel"]
_FINITE = st.floats(-30, 30, width=32)


@st.composite
def _problems(draw, n_max=6, k_max=5, n_matrices=1):
    n, k = draw(st.integers(1, n_max)), draw(st.integers(2, k_max))
    matrices = [
        torch.tensor(draw(st.lists(st.lists(_FINITE, min_size=k, max_size=k), min_size=n, max_size=n))) for _ in range(n_matrices)
    ]
    labels = torch.tensor(draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n)))
    return (*matrices, labels)


# Losses


@given(_problems())
def test_cross_entropy_agrees_with_scipy(problem):
    logits, y = problem
    expected = -log_softmax(logits.double().numpy(), axis=1)[np.arange(len(y)), y.numpy()]
    np.testing.assert_allclose(per_sample_loss("classification", logits.double(), y).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_binary_loss_agrees_with_scikit_learn(shape):
    z, y = torch.tensor([-3.0, -0.2, 0.0, 1.5, 4.0]).double(), torch.tensor([0, 1, 1, 0, 1])
    found = per_sample_loss("binary", z.reshape(shape), y)
    assert found.shape == (5,)
    for i in range(5):
        expected = log_loss([int(y[i])], [float(torch.sigmoid(z[i]))], labels=[0, 1])
        assert float(found[i]) == pytest.approx(expected)


def test_a_binary_loss_is_the_cross_entropy_of_two_logits_of_which_one_is_zero():
    z, y = torch.tensor([-3.0, -0.2, 0.0, 1.5]), torch.tensor([0, 1, 1, 0])
    two = torch.stack([torch.zeros(4), z], dim=1)
    torch.testing.assert_close(per_sample_loss("binary", z, y), per_sample_loss("classification", two, y))


def test_multilabel_loss_is_the_mean_of_the_labels_binary_losses():
    z, y = torch.tensor([[0.5, -2.0, 1.0], [3.0, 0.0, -1.0]]), torch.tensor([[1, 0, 0], [0, 1, 1]])
    by_label = torch.stack([per_sample_loss("binary", z[:, c], y[:, c]) for c in range(3)], dim=1)
    torch.testing.assert_close(per_sample_loss("multilabel", z, y), by_label.mean(1))


@given(_problems())
def test_losses_are_never_negative(problem):
    logits, y = problem
    labels = {"classification": y, "binary": (y > 0).long(), "multilabel": (logits > 1).long()}
    for task in _TASKS:
        z = logits[:, 0] if task == "binary" else logits
        assert bool((per_sample_loss(task, z, labels[task]) >= 0).all())


@pytest.mark.parametrize("task", _TASKS)
def test_huge_logits_give_finite_losses(task):
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])
    y = {"classification": torch.tensor([1, 0]), "binary": torch.tensor([0, 1]), "multilabel": torch.tensor([[0, 1], [1, 0]])}
    z = logits[:, 0] if task == "binary" else logits
    found = per_sample_loss(task, z, y[task])
    assert bool(found.isfinite().all()) and bool((found > 1000).all())


@pytest.mark.parametrize(
    ("task", "shape"), [("classification", (0, 3)), ("binary", (0,)), ("binary", (0, 1)), ("multilabel", (0, 3))]
)
def test_an_empty_batch_gives_empty_results(task, shape):
    logits = torch.zeros(shape)
    y = torch.zeros((0, 3) if task == "multilabel" else (0,), dtype=torch.int64)
    assert per_sample_loss(task, logits, y).shape == (0,)
    assert correctness(task, logits, y).shape == (0,)
    assert distillation_divergence(logits, logits, task=task).shape == (0,)


def test_labels_take_the_shape_and_type_of_the_logits_where_the_loss_needs_it():
    y = torch.tensor([0, 1])
    assert targets("classification", torch.zeros(2, 3), y) is y
    found = targets("binary", torch.zeros(2, 1, dtype=torch.float64), y)
    assert (found.shape, found.dtype) == ((2, 1), torch.float64)


# Probabilities and predictions


@given(_problems())
def test_probabilities_agree_with_scipy(problem):
    logits, _ = problem
    np.testing.assert_allclose(
        probabilities("classification", logits.double()).numpy(), softmax(logits.double().numpy(), axis=1), atol=1e-12
    )


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_a_binary_logit_becomes_two_probabilities(shape):
    z = torch.tensor([0.0, 2.0, -2.0]).reshape(shape)
    p = probabilities("binary", z)
    torch.testing.assert_close(p.sum(1), torch.ones(3))
    torch.testing.assert_close(p[:, 1], torch.tensor([0.5, 0.880797, 0.119203]))


def test_labels_are_independent():
    p = probabilities("multilabel", torch.tensor([[2.0, 2.0]]))
    torch.testing.assert_close(p, torch.tensor([[0.880797, 0.880797]]))


@given(_problems())
def test_the_most_probable_class_is_predicted(problem):
    logits, _ = problem
    for task, z in (("classification", logits), ("multilabel", logits), ("binary", logits[:, 0])):
        p, predicted = probabilities(task, z.double()), predictions(task, z.double())
        if task == "multilabel":
            assert bool(torch.equal(predicted, (z > 0).long()))
        else:
            chosen = p[torch.arange(len(p)), predicted]
            torch.testing.assert_close(chosen, p.max(1).values)


def test_a_logit_of_exactly_zero_is_class_zero():
    assert predictions("binary", torch.zeros(2, 1)).tolist() == [0, 0]
    assert predictions("multilabel", torch.zeros(1, 2)).tolist() == [[0, 0]]


def test_correctness_counts_samples_or_labels():
    assert correctness("classification", torch.eye(3), torch.tensor([0, 1, 0])).tolist() == [1, 1, 0]
    assert correctness("binary", torch.tensor([[1.0], [-1.0]]), torch.tensor([1, 1])).tolist() == [1, 0]
    assert correctness("multilabel", torch.tensor([[1.0, -1.0, 1.0, 1.0]]), torch.tensor([[1, 0, 0, 1]])).tolist() == [0.75]


# Distillation


@given(_problems(n_matrices=2), st.floats(0.25, 8))
def test_the_divergence_is_torchs_kl_from_the_student_to_the_teacher(problem, temperature):
    student, teacher, _ = problem
    s, t = student.double() / temperature, teacher.double() / temperature
    expected = F.kl_div(s.log_softmax(1), t.softmax(1), reduction="none").sum(1)
    found = distillation_divergence(student.double(), teacher.double(), temperature=temperature)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-9)


@given(_problems(n_matrices=2), st.floats(0.25, 8))
def test_the_divergence_of_labels_is_the_sum_of_two_outcome_divergences(problem, temperature):
    student, teacher, _ = problem
    s, t = student.double(), teacher.double()
    by_label = []
    for c in range(s.shape[1]):
        two_s, two_t = (torch.stack([torch.zeros(len(z)).double(), z[:, c]], dim=1) for z in (s, t))
        by_label.append(distillation_divergence(two_s, two_t, temperature=temperature))
    found = distillation_divergence(s, t, temperature=temperature, task="multilabel")
    torch.testing.assert_close(found, torch.stack(by_label, dim=1).sum(1), atol=1e-10, rtol=1e-9)


@given(_problems(n_matrices=2))
def test_divergences_are_never_negative_and_zero_for_the_same_logits(problem):
    student, teacher, _ = problem
    for task in ("classification", "multilabel"):
        found = distillation_divergence(student.double(), teacher.double(), task=task)
        assert bool((found >= -1e-9).all())
        assert bool((distillation_divergence(teacher, teacher, task=task).abs() < 1e-5).all())


def test_the_teacher_is_the_first_argument_of_the_divergence():
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
    p = float(torch.sigmoid(torch.tensor(2.0)))
    expected = p * np.log(p / 0.5) + (1 - p) * np.log((1 - p) / 0.5)
    assert float(distillation_divergence(student, teacher)) == pytest.approx(expected, rel=1e-5)
    assert float(distillation_divergence(teacher, student)) != pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_huge_logits_give_finite_divergences_and_gradients(task):
    student = torch.tensor([[1e4, -1e4]], requires_grad=True)
    found = distillation_divergence(student, torch.tensor([[-1e4, 1e4]]), task=task)
    found.sum().backward()
    assert bool(found.isfinite().all()) and bool(student.grad.isfinite().all())


def test_the_gradient_is_the_difference_of_probabilities_by_the_temperature():
    student = torch.tensor([[0.3, -0.2, 1.0]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64)
    distillation_divergence(student, teacher, temperature=2.0).sum().backward()
    expected = ((student / 2).softmax(1) - (teacher / 2).softmax(1)) / 2
    torch.testing.assert_close(student.grad, expected.detach())


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_a_binary_divergence_has_one_value_a_sample(shape):
    student, teacher = torch.linspace(-1, 1, 4), torch.linspace(2, -2, 4)
    found = distillation_divergence(student.reshape(shape), teacher.reshape(shape), task="binary")
    two_s, two_t = (torch.stack([torch.zeros(4), z], dim=1) for z in (student, teacher))
    torch.testing.assert_close(found, distillation_divergence(two_s, two_t))
