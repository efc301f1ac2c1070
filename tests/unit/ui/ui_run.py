"""A folder with a made-up run whose models' outputs are in a store, for the tests of the local page."""

import json

import numpy as np
import torch
from report_rows import evidence, jury_of, method, references

from erasure.records.rows import write_rows
from erasure.store import Store, address

SIZES = {"forget": 40, "retain": 150, "test": 70}
LABELS = ("original", "gold", "good", "bad")
CLASSES = ("cat", "dog", "emu")


def outputs(label, partition, *, width=5, task="classification", features=True):
    """What a model says: the same arrays for the same names."""
    random = np.random.default_rng([LABELS.index(label), list(SIZES).index(partition), 7])
    n = SIZES[partition]
    start = {"forget": 0, "retain": 1000, "test": 5000}[partition]
    labels = np.random.default_rng(list(SIZES).index(partition)).integers(0, 2 if task == "binary" else 3, n)
    logits = random.normal(size=(n, 1 if task == "binary" else 3)) * 3
    if task == "classification":
        logits[np.arange(n), labels] += 2.0 + (partition != "test")
        shifted = logits - logits.max(1, keepdims=True)
        losses = -(shifted[np.arange(n), labels] - np.log(np.exp(shifted).sum(1)))
    else:
        losses = np.logaddexp(0, np.where(labels > 0, -logits[:, 0], logits[:, 0]))
    found = {
        "ids": np.arange(start, start + n),
        "labels": labels,
        "logits": logits.astype(np.float32),
        "losses": losses.astype(np.float32),
    }
    if features:
        found["features"] = (random.normal(size=(n, width)) * np.arange(1, width + 1) + LABELS.index(label)).astype(np.float32)
    return found


def make_run(folder, store, *, change=None, labels=("good", "bad"), task="classification", features=True, **changes):
    """Write a finished run.

    Args:
        folder: Its directory.
        store: Directory of the store.
        change: Changes ``(label, partition, arrays)`` before they are stored.
    """
    kept = evidence(*labels, **changes)
    kept["dataset"] |= {"class_names": list(CLASSES), "n_classes": 2 if task == "binary" else 3, "task": task}
    places = []
    for label in ("original", "gold", *labels):
        for partition in SIZES:
            arrays = outputs(label, partition, task=task, features=features)
            if change is not None:
                change(label, partition, arrays)
            content = {"of": ascii(str(folder)), "label": label, "partition": partition}
            where = address("outputs", content)
            with Store(store).publish(where, "outputs", content) as writer:
                writer.save_tensors("outputs", {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()})
            places.append({"label": label, "partition": partition, "address": where})
    kept["groups"][0]["outputs"] = places
    folder.mkdir(parents=True, exist_ok=True)
    rows = references()
    for number, label in enumerate(labels):
        rows += method(label, retain=0.99 if number == 0 else 0.5)
    write_rows([*rows, *jury_of(rows)], folder)
    (folder / "report.json").write_text(json.dumps(kept), encoding="utf-8")
    return folder
