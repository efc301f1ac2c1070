"""Evaluations made of given logits, so that every expected value can be computed by hand or by another library."""

import torch
from torch import nn

from erasure.functional.losses import per_sample_loss
from erasure.measures.contract import Evaluation, ModelUnderTest, Outputs
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion
from erasure.training.predictor import ModelInput
from erasure.training.randomness import Streams


def evaluation_of(
    labels,
    logits,
    *,
    original=None,
    gold=None,
    task="classification",
    n_classes=None,
    seed=0,
    losses=None,
    models=None,
    elapsed_s=1.0,
    gold_elapsed_s=4.0,
    peak_memory_mib=None,
    precompute_s=0.0,
    kind="unlearned",
    facts=None,
):
    """An evaluation of the model that says ``logits[partition]`` where ``labels[partition]`` is right."""
    labels = {name: torch.as_tensor(y) for name, y in labels.items()}
    starts = torch.tensor([0, *(len(y) for y in labels.values())]).cumsum(0)
    ids = {name: torch.arange(int(start), int(start) + len(y)) for start, (name, y) in zip(starts, labels.items(), strict=False)}
    y = torch.cat(list(labels.values()))
    if n_classes is None:
        n_classes = 2 if task == "binary" else next(iter(logits.values())).shape[1]
    models = models or {}

    def candidate(said, kind, elapsed_s):
        def outputs(name):
            given = said[name].float()
            found = losses[name] if losses is not None else per_sample_loss(task, given, labels[name])
            return Outputs(ids=ids[name], logits=given, losses=found.float(), labels=labels[name], task=task)

        def load():
            return models.get(kind, nn.Linear(1, 1))

        return ModelUnderTest(
            role=kind,
            load=load,
            outputs=outputs,
            elapsed_s=elapsed_s,
            precompute_s=precompute_s,
            peak_memory_mib=peak_memory_mib,
        )

    references = {}
    if original is not None:
        references["original"] = candidate(original, "original", 5.0)
    if gold is not None:
        references["gold"] = candidate(gold, "gold", gold_elapsed_s)
    return Evaluation(
        subject=candidate(logits, kind, elapsed_s),
        references=references,
        partition_ids=ids,
        x=TensorColumn(torch.zeros(len(y), 1)),
        y=y,
        model_input=ModelInput((1,), n_classes, task),
        criterion=Criterion(task),
        streams=Streams(seed),
        facts=facts or {},
    )


def predicting(classes, n_classes):
    """Logits that predict the given classes."""
    return 5.0 * nn.functional.one_hot(torch.as_tensor(classes), n_classes).float()


def accurate(labels, n_right, n_classes=2):
    """Logits that are right on the first ``n_right`` samples and wrong on the others."""
    labels = torch.as_tensor(labels)
    wrong = torch.arange(len(labels)) >= n_right
    return predicting((labels + wrong.long()) % n_classes, n_classes)
