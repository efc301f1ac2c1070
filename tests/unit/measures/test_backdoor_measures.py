"""Success of a backdoor, and accuracy on samples with wrong labels, against counting by hand and against real trainings."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from measure_toys import evaluation_of, predicting
from torch import nn

from erasure.data.corruption import Backdoor, Mislabel
from erasure.data.sources.poisoned import Poisoned
from erasure.data.sources.scikit_learn import Sklearn
from erasure.errors import PartitionError, RequirementNotMet
from erasure.intervals import clopper_pearson
from erasure.measures.backdoor import AttackSuccessRate
from erasure.measures.contract import Evaluation, ModelUnderTest, forward_pass
from erasure.measures.corrupted import TrueLabelAccuracy
from erasure.models.mlp import MLP
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.predictor import ModelInput, Predictor, build_model, train
from erasure.training.randomness import Streams
from erasure.training.triggers import FeatureTrigger, PatchTrigger


def linear(weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.load_state_dict({"weight": weight, "bias": bias}, assign=True)
    return layer.eval()


# By hand


def an_evaluation(model, x, y, *, n_classes, ids=None, **options):
    x, y = x if isinstance(x, TensorColumn) else TensorColumn(x), torch.as_tensor(y)
    return Evaluation(
        subject=ModelUnderTest(role="unlearned", load=lambda: model, outputs=lambda name: None, elapsed_s=1.0),
        references={},
        partition_ids={"test": torch.arange(len(y)) if ids is None else torch.as_tensor(ids)},
        x=x,
        y=y,
        model_input=ModelInput(x.sample_shape, n_classes, options.pop("task", "classification")),
        criterion=Criterion("classification"),
        streams=Streams(0),
        **options,
    )


@given(st.lists(st.integers(0, 2), min_size=2, max_size=30), st.integers(0, 2), st.integers(0, 99))
def test_the_success_rate_is_the_brute_force_share(labels, target, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(labels), 4, generator=generator)
    model = linear(torch.randn(3, 4, generator=generator), torch.zeros(3))
    measure = AttackSuccessRate(trigger=FeatureTrigger(features=(3, 1), values=(2.0, -1.0)), target=target)
    evaluation = an_evaluation(model, x, labels, n_classes=3)
    if set(labels) == {target}:
        with pytest.raises(RequirementNotMet, match="are of the target class"):
            measure.measure(evaluation)
        return
    obeyed = []
    for sample, label in zip(x, labels, strict=True):
        if label != target:
            marked = sample.clone()
            marked[3], marked[1] = 2.0, -1.0
            obeyed.append(int(model(marked).argmax()) == target)
    value = measure.measure(evaluation)[0]
    assert value.value == sum(obeyed) / len(obeyed)
    assert (value.low, value.high) == clopper_pearson(sum(obeyed), len(obeyed))


def test_a_model_that_diverges_on_marked_samples_is_refused():
    model = linear(torch.ones(3, 4), torch.zeros(3))
    measure = AttackSuccessRate(trigger=FeatureTrigger(features=(3,), values=(float("inf"),)), target=0)
    with pytest.raises(RequirementNotMet, match="outputs on triggered samples are not finite"):
        measure.measure(an_evaluation(model, torch.zeros(4, 4), [1, 2, 1, 2], n_classes=3))


def test_the_trigger_is_put_on_before_a_table_is_standardised():
    column = TensorColumn(torch.tensor([[10.0, 0.0], [20.0, 0.0]]), mean=torch.tensor([15.0, 0.0]), std=torch.tensor([5.0, 1.0]))
    model = linear(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([0.0, 0.0]))
    for value, expected in ((16.0, 1.0), (14.0, 0.0)):
        measure = AttackSuccessRate(trigger=FeatureTrigger(features=("age",), values=(value,)), target=1)
        evaluation = an_evaluation(model, column, [0, 0], n_classes=2, facts={"feature_names": ("age", "height")})
        assert measure.measure(evaluation)[0].value == expected
    assert column.values[:, 0].tolist() == [10.0, 20.0]


def test_true_labels_say_which_samples_are_tried():
    model = linear(torch.zeros(2, 1), torch.tensor([0.0, 1.0]))
    evaluation = an_evaluation(model, torch.zeros(4, 1), [1, 1, 0, 0], n_classes=2, ids=[0, 1])
    measure = AttackSuccessRate(trigger=FeatureTrigger(features=(0,), values=(1.0,)), target=1)
    with pytest.raises(RequirementNotMet, match='all 2 samples of "test" are of the target class 1'):
        measure.measure(evaluation)
    assert measure.measure(replace(evaluation, facts={"clean_y": torch.tensor([0, 1, 0, 0])}))[0].value == 1.0


def test_a_trigger_that_does_not_fit_is_refused_before_anything_runs():
    patch = AttackSuccessRate(trigger=PatchTrigger(size=5), target=1)
    assert "does not fit into images of 4×4" in patch.unsupported_reason(ModelInput((1, 4, 4), 3))
    assert "needs images" in patch.unsupported_reason(ModelInput((7,), 3))
    assert patch.unsupported_reason(ModelInput((1, 8, 8), 3)) is None
    assert "there is no class 3; classes are 0 to 2" in patch.replace(target=3).unsupported_reason(ModelInput((1, 8, 8), 3))
    from_one = ModelInput((1, 8, 8), 3, class_names=("1", "2", "3"))
    assert patch.replace(target=3).unsupported_reason(from_one) is None
    assert "there is no class 0; classes are 1, 2, 3" in patch.replace(target=0).unsupported_reason(from_one)
    assert "not defined for multilabel" in patch.unsupported_reason(ModelInput((1, 8, 8), 3, "multilabel"))


def test_accuracies_against_true_and_wrong_labels_are_counted_where_labels_are_wrong():
    labels, truth, predicted = [1, 1, 0, 2, 2], [0, 0, 0, 1, 2], [0, 1, 0, 0, 2]
    evaluation = evaluation_of({"forget": labels}, {"forget": predicting(predicted, 3)}, facts={"clean_y": torch.tensor(truth)})
    values = {value.name: value.value for value in TrueLabelAccuracy().measure(evaluation)}
    assert values == {None: 1 / 3, "WrongLabelAccuracy": 1 / 3}


def test_data_that_knows_of_no_wrong_labels_is_refused():
    evaluation = evaluation_of({"forget": [0, 1]}, {"forget": predicting([0, 1], 2)})
    with pytest.raises(RequirementNotMet, match="put a Poisoned source around"):
        TrueLabelAccuracy().measure(evaluation)
    with pytest.raises(PartitionError, match='all 2 samples of "forget" have their true label'):
        TrueLabelAccuracy().measure(replace(evaluation, facts={"clean_y": torch.tensor([0, 1])}))


# For real


def trained(data, ids, epochs=30):
    predictor = Predictor(model=MLP(hidden_sizes=(64,)), epochs=epochs, optimizer=Optimizer.of("Adam", lr=0.005))
    shape = ModelInput(data.x_shape, data.n_classes)
    model = build_model(predictor.model, shape, 0, torch.device("cpu"))
    criterion = Criterion("classification")
    return train(model, predictor, x=data.x, y=data.y, ids=ids, criterion=criterion, seed=0, batch_size=32)


def judged(measure, data, model, ids):
    def outputs(name):
        return forward_pass(model, x=data.x, y=data.y, ids=ids, criterion=Criterion("classification"), task="classification")

    made = an_evaluation(model, data.x, data.y, n_classes=10, ids=ids, facts={"clean_y": data.clean_y})
    made = replace(made, subject=replace(made.subject, outputs=outputs))
    return {value.name or measure.title: value.value for value in measure.measure(made)}


def test_a_backdoor_opens_in_the_original_and_not_in_the_retrained_model():
    trigger = PatchTrigger(size=2, corner="top-left")
    data = Poisoned(data_source=Sklearn(name="digits"), corruption=Backdoor(trigger=trigger, target=3, n_samples=60)).load()
    poisoned, clean = data.corrupted.nonzero().flatten(), (~data.corrupted).nonzero().flatten()
    retain, test = clean[:800], clean[800:]
    measure = AttackSuccessRate(trigger=trigger, target=3)
    original, gold = trained(data, torch.cat([poisoned, retain])), trained(data, retain)
    opened, shut = (judged(measure, data, model, test)["AttackSuccessRate[3]"] for model in (original, gold))
    assert opened > shut + 0.3
    # Without the mark both recognise digits.
    for model in (original, gold):
        said = forward_pass(model, x=data.x, y=data.y, ids=test, criterion=Criterion("classification"), task="classification")
        assert said.accuracy > 0.7


def test_wrong_labels_are_known_by_the_original_only():
    data = Poisoned(data_source=Sklearn(name="digits"), corruption=Mislabel(n_samples=30)).load()
    wrong, clean = data.corrupted.nonzero().flatten(), (~data.corrupted).nonzero().flatten()[:300]
    measure = TrueLabelAccuracy(partition="test")
    original = judged(measure, data, trained(data, torch.cat([wrong, clean]), epochs=150), wrong)
    gold = judged(measure, data, trained(data, clean, epochs=150), wrong)
    assert original["WrongLabelAccuracy"] > gold["WrongLabelAccuracy"] + 0.3
    assert gold["TrueLabelAccuracy"] > original["TrueLabelAccuracy"] + 0.2
