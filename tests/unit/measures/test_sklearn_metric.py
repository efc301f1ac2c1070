import warnings

import numpy as np
import pytest
import sklearn.metrics
import torch
from measure_toys import evaluation_of, predicting

from erasure.component import canonical
from erasure.errors import InvalidParameters, PartitionError, RequirementNotMet
from erasure.measures.sklearn_metric import Accuracy, Metric, SklearnMetric

_Y = torch.tensor([0, 1, 2, 2, 1, 0, 2, 1])
_LOGITS = torch.tensor(
    [
        [2.0, 0.5, -1.0],
        [0.1, 1.2, 0.3],
        [0.2, 0.9, 0.4],
        [-1.0, 0.0, 2.0],
        [1.5, 0.2, 0.1],
        [0.7, 0.6, 0.0],
        [0.0, 0.3, 0.9],
        [0.4, 0.8, 0.5],
    ]
)
_P = torch.softmax(_LOGITS.double(), 1).numpy()
_YB = torch.tensor([0, 1, 1, 0, 1, 0])
_ZB = torch.tensor([-0.3, 0.4, 0.2, 0.1, -0.6, -2.0])
_PB = torch.sigmoid(_ZB.double()).numpy()
_YM = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 0, 0], [0, 1, 0]])
_ZM = torch.tensor([[0.5, -0.2, 1.0], [-1.0, 0.3, -0.1], [0.2, 0.4, -2.0], [0.1, 1.0, -0.5]])
_PM = torch.sigmoid(_ZM.double()).numpy()


def _value(name, labels=_Y, logits=_LOGITS, task="classification", **parameters):
    measure = SklearnMetric(function=Metric.of(name, **parameters))
    [value] = measure.measure(evaluation_of({"test": labels}, {"test": logits}, task=task))
    return value


def test_accuracy_counts_the_right_predictions():
    assert _value("accuracy_score").value == 6 / 8


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("log_loss", {}, -np.log(_P[np.arange(8), _Y.numpy()]).mean()),
        ("brier_score_loss", {}, ((_P - np.eye(3)[_Y.numpy()]) ** 2).sum(1).mean()),
        ("top_k_accuracy_score", {"k": 2}, np.mean([y in np.argsort(p)[-2:] for y, p in zip(_Y.tolist(), _P, strict=True)])),
        ("zero_one_loss", {}, 2 / 8),
    ],
)
def test_multiclass_metrics_agree_with_their_definition(name, parameters, expected):
    assert _value(name, **parameters).value == pytest.approx(expected)


def test_f1_of_several_classes_is_the_mean_over_classes():
    predicted = _LOGITS.argmax(1)
    f1 = []
    for c in range(3):
        hits = int(((predicted == c) & (c == _Y)).sum())
        f1.append(2 * hits / (int((predicted == c).sum()) + int((c == _Y).sum())))
    assert _value("f1_score").value == pytest.approx(np.mean(f1))


@pytest.mark.parametrize("name", ["f1_score", "precision_score", "recall_score", "jaccard_score"])
def test_the_average_that_was_asked_for_is_taken(name):
    oracle = getattr(sklearn.metrics, name)
    assert _value(name, average="micro").value == pytest.approx(oracle(_Y, _LOGITS.argmax(1), average="micro"))
    assert _value(name, average="macro").value == _value(name).value


def test_two_classes_keep_the_positive_class():
    labels, predicted = torch.tensor([0, 1, 1, 0, 0]), torch.tensor([0, 1, 0, 0, 1])
    value = _value("f1_score", labels, predicting(predicted, 2)).value
    assert value == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))


def test_roc_auc_of_several_classes_is_one_against_the_rest():
    pairwise = []
    for c in range(3):
        own, others = _P[_Y.numpy() == c, c], _P[_Y.numpy() != c, c]
        pairwise.append(np.mean([(a > b) + 0.5 * (a == b) for a in own for b in others]))
    assert _value("roc_auc_score").value == pytest.approx(np.mean(pairwise))
    assert _value("roc_auc_score", multi_class="ovo").value == pytest.approx(
        sklearn.metrics.roc_auc_score(_Y, _P, multi_class="ovo")
    )


def test_average_precision_uses_probabilities():
    assert _value("average_precision_score").value == pytest.approx(sklearn.metrics.average_precision_score(_Y, _P))


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_a_binary_logit_is_class_one_above_zero(shape):
    value = _value("accuracy_score", _YB, _ZB.reshape(shape), "binary").value
    # At a threshold of 0.5 on the logit, which upstream uses, no sample would be predicted as class 1.
    assert value == 4 / 6


@pytest.mark.parametrize("name", ["roc_auc_score", "average_precision_score", "log_loss", "brier_score_loss"])
def test_binary_scores_are_probabilities_of_class_one(name):
    assert _value(name, _YB, _ZB, "binary").value == pytest.approx(getattr(sklearn.metrics, name)(_YB, _PB))


def test_a_two_column_model_gives_the_same_as_a_single_logit():
    two = torch.stack([torch.zeros(6), _ZB], dim=1)
    for name in ("accuracy_score", "roc_auc_score", "log_loss", "f1_score", "hinge_loss", "brier_score_loss"):
        assert _value(name, _YB, two).value == pytest.approx(_value(name, _YB, _ZB, "binary").value), name


def test_hinge_loss_gets_logits():
    margins = np.where(_YB.numpy() == 1, _ZB.numpy(), -_ZB.numpy())
    assert _value("hinge_loss", _YB, _ZB, "binary").value == pytest.approx(np.maximum(0, 1 - margins).mean())
    assert _value("hinge_loss").value == pytest.approx(sklearn.metrics.hinge_loss(_Y, _LOGITS.double().numpy()))


def test_ranking_metrics_get_a_matrix_of_labels():
    ranks = [int((p >= p[y]).sum()) for y, p in zip(_Y.tolist(), _P, strict=True)]
    assert _value("coverage_error").value == pytest.approx(np.mean(ranks))
    assert _value("ndcg_score").value == pytest.approx(np.mean([1 / np.log2(rank + 1) for rank in ranks]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy_score", 1 / 4),
        ("hamming_loss", 3 / 12),
        ("roc_auc_score", sklearn.metrics.roc_auc_score(_YM, _PM, average="macro")),
        ("average_precision_score", sklearn.metrics.average_precision_score(_YM, _PM)),
        ("f1_score", sklearn.metrics.f1_score(_YM, _PM > 0.5, average="macro")),
        ("label_ranking_loss", sklearn.metrics.label_ranking_loss(_YM, _PM)),
    ],
)
def test_multilabel_metrics_see_every_label(name, expected):
    assert _value(name, _YM, _ZM, "multilabel").value == pytest.approx(expected)


@pytest.mark.parametrize("name", ["log_loss", "brier_score_loss", "d2_log_loss_score"])
def test_metrics_of_one_class_among_several_refuse_independent_labels(name):
    with pytest.raises(RequirementNotMet, match="multilabel"):
        _value(name, _YM, _ZM, "multilabel")


def test_log_loss_of_a_saturated_model_is_finite():
    value = _value("log_loss", torch.tensor([0, 1]), torch.tensor([[0.0, 200.0], [0.0, 200.0]])).value
    assert np.isfinite(value) and value > 10


def test_log_loss_of_a_partition_with_one_class_is_defined():
    assert _value("log_loss", torch.tensor([1, 1]), _LOGITS[:2]).value == pytest.approx(-np.log(_P[:2, 1]).mean())


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 1, 1]])
def test_roc_auc_without_samples_of_a_class_is_refused_with_the_class(labels):
    with pytest.raises(RequirementNotMet, match=r'roc_auc_score is not defined on "test".*no sample of class .*2'):
        _value("roc_auc_score", torch.tensor(labels), _LOGITS[:3])


def test_average_precision_without_samples_of_a_class_is_refused():
    with pytest.raises(RequirementNotMet, match="no sample of class 2"):
        _value("average_precision_score", torch.tensor([0, 1, 1]), _LOGITS[:3])


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("name", ["matthews_corrcoef", "average_precision_score", "cohen_kappa_score", "roc_auc_score"])
@pytest.mark.parametrize("predicted", [[0, 0, 0], [1, 1, 1], [0, 1, 1]])
def test_what_tells_classes_apart_is_refused_where_there_is_one_class(name, label, predicted):
    """scikit-learn answers 0.0 (or 1.0) for every model, which would then not be told from gold."""
    with pytest.raises(RequirementNotMet, match=f'{name} is not defined on "test": .*class'):
        _value(name, torch.full((3,), label), predicting(predicted, 2))


@pytest.mark.parametrize("name", ["f1_score", "precision_score", "recall_score", "jaccard_score"])
def test_hits_of_a_class_that_no_sample_is_of_are_refused(name):
    with pytest.raises(RequirementNotMet, match="no sample is of class 1"):
        _value(name, torch.zeros(3, dtype=torch.int64), predicting([0, 1, 1], 2))
    with pytest.raises(RequirementNotMet, match="no sample is of class 1"):
        _value(name, torch.zeros(3, dtype=torch.int64), torch.tensor([-1.0, 1.0, 1.0]), task="binary")
    # Of several classes the mean is defined: wrong predictions bring their classes in.
    assert _value(name, torch.full((3,), 2), predicting([2, 1, 2], 3)).value > 0
    assert _value(name, torch.ones(3, dtype=torch.int64), predicting([0, 1, 1], 2)).value > 0
    assert _value(name, torch.full((3,), 2), predicting([2, 1, 2], 3), average="micro").value > 0


@pytest.mark.parametrize(
    "name", ["d2_log_loss_score", "d2_tweedie_score", "r2_score", "adjusted_rand_score", "homogeneity_score", "v_measure_score"]
)
def test_what_compares_with_the_best_constant_is_refused_where_that_is_perfect(name):
    with pytest.raises(RequirementNotMet, match=f'{name} is not defined on "test": all 3 samples are of class 1'):
        _value(name, torch.ones(3, dtype=torch.int64), predicting([0, 1, 1], 2))


def test_what_one_class_leaves_defined_is_measured():
    labels, logits = torch.full((4,), 2), predicting([2, 1, 2, 2], 3)
    assert _value("accuracy_score", labels, logits).value == 0.75
    assert _value("balanced_accuracy_score", labels, logits).value == 0.75
    assert _value("log_loss", labels, logits).value > 0


def test_independent_labels_need_samples_of_both_kinds_for_each_label():
    labels = torch.tensor([[1, 0], [0, 0], [1, 0]])
    logits = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    with pytest.raises(RequirementNotMet, match="label 1 is 0 for all 3 samples"):
        _value("average_precision_score", labels, logits, task="multilabel")
    assert _value("f1_score", labels, logits, task="multilabel").value == 0.5
    with pytest.raises(RequirementNotMet, match="label 0 is 0 for all 3 samples"):
        _value("f1_score", labels * 0, logits, task="multilabel")


def test_precision_without_a_prediction_is_zero_and_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = _value("precision_score", torch.tensor([0, 1, 1]), predicting([0, 0, 0], 2)).value
        given = _value("precision_score", torch.tensor([0, 1, 1]), predicting([0, 0, 0], 2), zero_division=1.0).value
    assert (value, given) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("name", "parameters", "what"),
    [
        ("confusion_matrix", {}, r"array of shape \(3, 3\)"),
        ("f1_score", {"average": None}, r"array of shape \(3,\)"),
        ("classification_report", {}, "str"),
        ("precision_recall_fscore_support", {"average": "macro"}, "tuple"),
    ],
)
def test_a_metric_that_is_not_one_number_is_refused(name, parameters, what):
    with pytest.raises(RequirementNotMet, match=what):
        _value(name, **parameters)


@pytest.mark.parametrize(
    ("name", "higher", "unit"),
    [
        ("accuracy_score", True, ""),
        ("matthews_corrcoef", True, ""),
        ("log_loss", False, "nats"),
        ("hamming_loss", False, ""),
        ("mean_absolute_error", False, ""),
        ("mean_poisson_deviance", False, ""),
        ("d2_log_loss_score", True, ""),
    ],
)
def test_direction_and_unit_follow_from_the_function(name, higher, unit):
    function = Metric.of(name)
    assert (function.higher_is_better, function.unit) == (higher, unit)


def test_every_loss_that_scikit_learn_minimises_is_lower_better():
    # scikit-learn's scorers negate what is to be minimised, independently of our rule on names.
    for name in sklearn.metrics.get_scorer_names():
        scorer = sklearn.metrics.get_scorer(name)
        function = scorer._score_func
        if function.__module__ == "sklearn.metrics._scorer":
            continue
        assert Metric(path=f"sklearn.metrics.{function.__name__}").higher_is_better == (scorer._sign > 0), name


def test_counts_are_in_samples():
    value = _value("accuracy_score", normalize=False)
    assert (value.value, value.unit) == (6.0, "samples")


def test_titles_are_short_and_can_be_given():
    titles = [SklearnMetric(function=Metric.of(name)).title for name in ("accuracy_score", "roc_auc_score", "log_loss")]
    assert titles == ["accuracy", "roc_auc", "log_loss"]
    assert SklearnMetric(name="Test accuracy").title == "Test accuracy"


def test_a_target_restricts_the_models_that_are_measured():
    assert SklearnMetric(target="unlearned").targets() == {"unlearned", "gold"}  # a value alone says nothing of forgetting
    assert SklearnMetric().targets() == {"original", "gold", "unlearned"}
    assert Accuracy(target="gold").targets() == {"gold"}


@pytest.mark.parametrize("name", ["silhouette_score", "auc", "pairwise_distances", "make_scorer"])
def test_a_function_that_does_not_compare_predictions_with_labels_is_refused_at_once(name):
    with pytest.raises(InvalidParameters, match="does not compare predictions with labels"):
        Metric.of(name)


def test_an_unknown_parameter_of_the_metric_is_refused_with_the_nearest():
    with pytest.raises(InvalidParameters, match='did you mean "average"'):
        Metric.of("f1_score", averag="macro")


def test_an_unknown_metric_is_refused():
    with pytest.raises(InvalidParameters, match="cannot be imported"):
        Metric.of("acuracy_score")


def test_an_empty_partition_is_refused():
    with pytest.raises(PartitionError, match='"test" is empty'):
        _value("accuracy_score", torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3))


def test_the_default_and_a_spelled_out_binary_average_are_one_measure_with_one_value():
    plain, spelled = Metric.of("f1_score"), Metric.of("f1_score", average="binary")
    assert canonical(plain) == canonical(spelled)
    assert _value("f1_score").value == _value("f1_score", average="binary").value


def test_accuracy_is_the_metric_with_accuracy_score():
    evaluation = evaluation_of({"forget": _Y}, {"forget": _LOGITS})
    [short] = Accuracy(partition="forget").measure(evaluation)
    [long] = SklearnMetric(partition="forget").measure(evaluation)
    assert (short.value, short.name, short.partition) == (long.value, long.name, long.partition) == (6 / 8, "accuracy", "forget")


def test_another_librarys_function_is_called_with_labels_and_predictions():
    measure = SklearnMetric(function=Metric(path="numpy.array_equal"))
    evaluation = evaluation_of({"test": _Y}, {"test": predicting(_Y, 3)})
    [value] = measure.measure(evaluation)
    assert (value.value, value.higher_is_better) == (1.0, None)


def test_a_run_says_that_classes_without_a_sample_enter_a_macro_mean(tmp_path):
    import erasure
    from erasure.events import Message

    def f1(partition, **parameters):
        function = {"class": "f1_score", "parameters": parameters}
        return {"class": "SklearnMetric", "parameters": {"function": function, "partition": partition}}

    measures = [f1("forget"), f1("forget", average="macro"), f1("forget", average="micro"), f1("train", average="macro")]
    said = []
    cuts = [
        {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.5}},
        {"class": "Class", "parameters": {"parts_names": ["forget", "retain"], "labels": 1, "ref_data": "train"}},
    ]
    written = {
        "data": {"data_source": {"class": "Sklearn", "parameters": {"name": "iris"}}, "partitions": cuts},
        "predictor": {"model": "MLP", "epochs": 0},
        "unlearners": [],
        "evaluator": {"measures": measures, "floor_repeats": 0},
        "globals": {"seed": 0},
    }
    results = erasure.run(written, store=tmp_path, listener=said.append)
    found = [event.text for event in said if isinstance(event, Message) and "macro mean" in event.text]
    assert len(found) == 1 and found[0].startswith('f1 on "forget", which has 1 of 3 classes, is a macro mean')
    assert not results.failures


@pytest.mark.parametrize(
    ("labels", "logits", "task"), [(_Y, _LOGITS, "classification"), (_YB, _ZB, "binary"), (_YM, _ZM, "multilabel")]
)
def test_accuracy_is_what_scikit_learn_counts(labels, logits, task):
    evaluation = evaluation_of({"test": labels}, {"test": logits}, task=task)
    (ours,), (theirs,) = Accuracy().measure(evaluation), SklearnMetric().measure(evaluation)
    assert vars(ours) == vars(theirs)
