"""The source LUME on made-up rows in the layouts of the files, and the score of the task by hand."""

import json
from dataclasses import replace
from itertools import product

import pandas as pd
import pytest
import torch

from erasure.data.language.vocabularies import BytePairs
from erasure.data.sources.lume import LUME
from erasure.errors import DataError, RequirementNotMet
from erasure.functional.rouge import rouge_l
from erasure.measures.generation import generated
from erasure.measures.lume import LUMEScore
from erasure.testing.evaluations import language_bench


def rows(side, n=2):
    return [
        {"id": f"{k}f-{side}{task}{kind}{k}", "input": f"Number {k} of {side} {kind}", "output": f"is {k}", "task": f"Task{task}"}
        for task, kind in product((1, 2), ("sc", "qa"))
        for k in range(n)
    ]


def lume(folder, **changes):
    return LUME(path=str(folder), vocabulary=BytePairs(vocabulary_size=280), **changes)


def test_groups_say_side_task_and_kind_in_every_layout(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "train").mkdir()
    pd.DataFrame(rows("forget")).to_parquet(tmp_path / "data/forget_train-00000-of-00001.parquet")
    (tmp_path / "train/retain.jsonl").write_text("\n".join(map(json.dumps, rows("retain", 3))))
    data = lume(tmp_path, files=("forget_train", "train/retain")).load()
    assert data.z_names == tuple(
        f"{side} Task{task} {kind}" for side in ("forget", "retain") for task, kind in product((1, 2), ("sc", "qa"))
    )
    assert torch.bincount(data.z).tolist() == [2] * 4 + [3] * 4


def test_rows_that_do_not_say_what_is_asked_are_named(tmp_path):
    (tmp_path / "forget_train.jsonl").write_text(json.dumps({**rows("forget")[0], "id": "7f"}))
    with pytest.raises(DataError, match='row 1: the id "7f" ends neither'):
        lume(tmp_path, files=("forget_train",)).load()
    with pytest.raises(DataError, match='has no "retain_train"'):
        lume(tmp_path, files=("retain_train",)).load()


@pytest.fixture
def grouped():
    """The bench with groups that say task and kind."""
    given = language_bench()
    names = tuple(f"any Task{task} {kind}" for task, kind in product((1, 2), ("sc", "qa")))
    z = torch.arange(len(given.x)) % 4

    def evaluation(measure):
        found = given.evaluation(measure, "original")
        return replace(found, z=z, facts={**found.facts, "z_names": names})

    return evaluation, z


def test_the_score_is_the_mean_of_both_parts_by_hand(grouped):
    evaluation, z = grouped
    measure = LUMEScore(max_new_tokens=6)
    found = {value.name: value.value for value in measure.measure(evaluation(measure))}
    parts = []
    for side in ("forget", "retain"):
        answers = generated(evaluation(measure), side, max_new_tokens=6)
        for group in range(4):
            chosen = [each for each in answers if int(z[each.sample]) == group]
            said = [(a.said.strip().lower(), a.wanted.strip().lower()) for a in chosen]
            scores = [rouge_l(w, s)[0] for s, w in said] if group % 2 == 0 else [s == w for s, w in said]
            mean = sum(scores) / len(scores)
            parts.append(1 - mean if side == "forget" else mean)
    tasks = 0.0 if 0 in parts else len(parts) / sum(1 / part for part in parts)
    losses = {name: evaluation(measure).outputs(name).tokens.losses for name in ("forget", "test")}
    below = (losses["forget"][:, None] < losses["test"]).double() + 0.5 * (losses["forget"][:, None] == losses["test"])
    hidden = 1 - 2 * abs(float(below.mean()) - 0.5)
    assert found == pytest.approx({None: (tasks + hidden) / 2, "task aggregate": tasks, "membership score": hidden})
    assert 0 < hidden < 1


def test_groups_must_say_task_and_kind():
    measure = LUMEScore(max_new_tokens=2)
    with pytest.raises(RequirementNotMet, match="take the source LUME"):
        measure.measure(language_bench().evaluation(measure, "fair"))
