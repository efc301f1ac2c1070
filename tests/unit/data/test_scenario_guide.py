"""Every example of the page on scenarios can be loaded and cut, and its partitions are sound."""

import re
from pathlib import Path

import pytest

from erasure.catalogue import BUILTINS
from erasure.data.partitions import build_partitions, inspect_partitions
from erasure.experiment.configuration import load_experiment

GUIDE = Path(__file__).parents[3] / "docs" / "scenarios.md"
EXAMPLES = re.findall(r"```jsonc\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)

pytestmark = pytest.mark.skipif("Memorised" not in BUILTINS["splitter"], reason="the scenarios have no short names here")


@pytest.mark.parametrize("example", EXAMPLES, ids=[str(number) for number in range(len(EXAMPLES))])
def test_an_example_of_the_guide_can_be_cut(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rated = "".join(f"{user},{item},{3 + (user + item) % 3}\n" for user in range(30, 330) for item in range(20))
    Path("ratings.csv").write_text(f"user,item,rating\n{rated}", encoding="utf-8")
    file = tmp_path / "example.jsonc"
    wanted = "forget 3" if "Requests" in example else "forget"
    retain = "retain 3" if "Requests" in example else "retain"
    roles = f'"forget": "{wanted}", "retain": "{retain}"'
    text = f'{{"data": {{"parameters": {example}}}, "predictor": {{"parameters": {{"model": "MLP"}}}},'
    file.write_text(f'{text} "unlearners": [{{"class": "Finetuning", "parameters": {{{roles}}}}}]}}', encoding="utf-8")
    experiment = load_experiment(file)
    data = experiment.data.data_source.load()
    partitions = build_partitions(data, experiment.data.partitions, seed=0)
    issues = inspect_partitions(partitions, data, forget=wanted, retain=retain, find_duplicates=False)
    assert not [str(issue) for issue in issues if issue.severity == "error"]
    assert len(partitions[wanted])


def test_the_guide_has_an_example_of_every_scenario_splitter():
    scenarios = {name for name, target in BUILTINS["splitter"].items() if ".scenarios." in target}
    assert {name for name in scenarios if any(f'"class": "{name}"' in example for example in EXAMPLES)} == scenarios
