"""Rows and evidence of made-up runs, for the tests of reports."""

from dataclasses import replace

from erasure.records.rows import Row

STATISTICS = {
    "AverageGap": "composite",
    "GUM": "composite",
    "ToW": "composite",
    "KLoM": "population",
    "ForgettingQuality": "population",
}
"""What kind of number measures give, by the first word of their names; accuracies are in it under theirs."""
ATTACKS = ("UMIA", "LiRA", "RULI", "Shokri")
GOLD = {"forget": 0.90, "retain": 0.99, "test": 0.95}


def statistic_of(measure):
    """What kind of number a measure gives."""
    return {"accuracy": "accuracy", "memory": "memory", **STATISTICS}.get(measure.split(" ")[0].split("-")[0], "")


def row(label, measure="accuracy", partition="forget", value=None, *, gold=None, floor=0.01, status="ok", **changes):
    """A row of an unlearned model, compared with gold."""
    reference = GOLD.get(partition) if gold is None else gold
    fields = {
        "experiment": "made up",
        "dataset": "toys",
        "unlearner": label,
        "label": label,
        "model_role": "unlearned",
        "measure": measure,
        "statistic": statistic_of(measure),
        "partition": partition,
        "value": value,
        "direction": "higher" if measure == "accuracy" else "",
        "ideal": "gold",
        "gold": reference,
        "gap": None if value is None or reference is None else abs(value - reference),
        "noise_floor": floor,
        "status": status,
        "seed_split": 0,
        "seed_train": 0,
        "seed_unlearn": 0,
        "seed_evaluate": 0,
        "n": 1,
        "address": "a" * 8,
    }
    if measure.startswith(ATTACKS):
        fields |= {"indicates": "attack", "chance_level": 0.5}
    else:
        direction = (fields | changes)["direction"] if (fields | changes)["ideal"] == "gold" else ""
        fields["indicates"] = {"higher": "knowledge", "lower": "ignorance"}.get(direction, "")
    return Row(**fields | changes)


def method(label, forget=0.90, retain=0.99, test=0.95, **changes):
    """Three accuracies of one method."""
    values = {"forget": forget, "retain": retain, "test": test}
    return [row(label, partition=partition, value=value, **changes) for partition, value in values.items()]


def references():
    """Rows of the original and of gold."""
    rows = [
        row("original", partition=p, value=v, model_role="original", unlearner="") for p, v in (("forget", 1.0), ("retain", 1.0))
    ]
    return rows + [row("gold", partition=p, value=v, model_role="gold", unlearner="") for p, v in GOLD.items()]


def evidence(*labels, **changes):
    """What a run of these methods keeps beside its rows; gold takes ten seconds, the n-th method n."""
    models = [
        {"label": "original", "role": "original", "retain": "retain", "seed": 0, "address": "0", "elapsed_s": 12.0},
        {"label": "gold", "role": "gold", "retain": "retain", "seed": 0, "address": "1", "elapsed_s": 10.0},
    ]
    for number, label in enumerate(labels, 1):
        models.append(
            {
                "label": label,
                "role": "unlearned",
                "retain": "retain",
                "seed": 0,
                "address": str(number + 1),
                "elapsed_s": float(number),
                "precompute_s": 0.5,
                "peak_memory_mib": 100.0 + number,
                "key": label,
                "exact": label == "GoldModel",
                "parameters": {},
            }
        )
    edges = [1e-6, 1e-4, 1e-2, 1.0, 10.0]
    series = [
        {"label": label, "partition": partition, "n": 10, "counts": [1, 2, 3, 4]}
        for label in ("original", "gold", *labels)
        for partition in ("forget", "retain", "test")
    ]
    group = {
        "retain": "retain",
        "forget": "forget",
        "training": "train",
        "heldout": "test",
        "seed": 0,
        "partitions": [{"name": "forget", "n": 100}, {"name": "retain", "n": 900}, {"name": "test", "n": 500}],
        "forgotten": {"n": 100, "n_training": 1000, "classes": [{"class": "cat", "forget": 100, "training": 100}]},
        "losses": {"edges": edges, "series": series},
        "rocs": {
            "fpr": [0.01, 0.1, 1.0],
            "series": [
                {"label": label, "tpr": [0.0, 0.2, 1.0], "low": [0.0, 0.1, 0.9], "high": [0.1, 0.3, 1.0]} for label in labels
            ],
            "gold": {"low": [0.0, 0.05, 1.0], "high": [0.02, 0.15, 1.0], "n": 3},
        },
        "classes": {
            "names": ["cat", "dog"],
            "n_classes": 2,
            "rows": [
                {"label": label, "partition": partition, "values": [0.5, None] if partition == "forget" else [0.9, 0.8]}
                for label in ("original", "gold", *labels)
                for partition in ("forget", "test")
            ],
        },
        "layers": {
            "names": ["conv", "head"],
            "n_layers": 2,
            "rows": [{"label": label, "values": [0.1, 0.0]} for label in labels],
        },
    }
    return {
        "format": 1,
        "experiment": "made up",
        "created_at": "2026-01-01T00:00:00+00:00",
        "dataset": {
            "name": "toys",
            "source": "Toys",
            "modality": "image",
            "task": "classification",
            "n": 1500,
            "n_classes": 2,
            "x_shape": [1, 8, 8],
            "class_names": ["cat", "dog"],
            "address": "data",
            "fingerprint": "f",
        },
        "command": {"text": "erasure run toys.jsonc", "note": ""},
        "configuration": {"files": [], "canonical": {"evaluator": {"parameters": {"floor_repeats": 3}}}},
        "versions": {"erasure": "0", "python": "3"},
        "machine": {"device": "cpu"},
        "seeds": [{"split": 0, "train": 0, "unlearn": 0, "evaluate": 0}],
        "models": models,
        "measures": {"accuracy": {"summary": "Share of right answers.", "answers": "How good is it?"}},
        "sources": [],
        "curves": [],
        "groups": [group],
        "failures": [],
        "missing": [],
    } | changes


SCORES = (-1.49, -0.93, -0.57, -0.27, 0.0, 0.27, 0.57, 0.93, 1.49)
"""Nine normal scores, with a mean of 0 and a standard deviation of about 1."""


def with_jury(rows, n=9, spread=0.0025, original=True):
    """The rows with further golds beside every value, around the gold shown, and with an original that has forgotten nothing."""
    found, seen = list(rows), set()
    for number, each in enumerate(rows):
        key = (each.measure, each.partition, each.seed_split, each.seed_train)
        if each.model_role != "unlearned" or each.gold is None or key in seen:
            continue
        seen.add(key)
        facts = {"status": "ok", "reason": "", "unlearner": "", "seed_unlearn": None, "gap": None, "noise_floor": None}
        step = 1 + 2 * (number % 4)  # a different order for each value, so that values are not one
        for juror in range(1, n + 1):
            score = SCORES[(juror * step + number) % len(SCORES)] + 0.01 * juror
            value = each.gold + (spread if abs(each.gold) <= 1 else spread * abs(each.gold)) * score
            found.append(replace(each, model_role="gold", label="gold", value=value, number=juror, **facts))
        if original:
            knows = {"knowledge": 1, "attack": 1, "ignorance": -1}.get(each.indicates, 0) if each.partition == "forget" else 0
            value = each.gold + 0.08 * knows * max(1, abs(each.gold))
            found.append(replace(each, model_role="original", label="original", value=value, **facts))
    return found


def jury_of(rows):
    """Rows of nine further golds beside every value."""
    return [each for each in with_jury(rows, original=False) if each.is_juror]
