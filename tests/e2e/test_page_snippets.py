"""What the pages for users print as Python or shell runs as printed, on one toy model.

Trainer, Lightning and MLflow have tests of their own.
"""

import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.naive_bayes import GaussianNB
from small import training_file
from torch import nn
from torch.utils.data import Subset, TensorDataset

import erasure

ROOT = Path(__file__).parents[2]
N = 60
TRAINING = training_file('[("anna", "ben", "carl", "dora")[k // 5] if k < 20 else f"other {k}" for k in range(60)]', n_in_bern=10)


def blocks(page, language):
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def block(page, beginning, language="python"):
    (found,) = [each for each in blocks(page, language) if each.startswith(beginning)]
    return found


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What a reader has before a snippet: a data set, a network, a loop."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ERASURE_STORE", str(tmp_path / "store"))
    own = {}
    exec(compile(TRAINING, "training.py", "exec"), own)
    (x, y), (x_test, y_test) = own["data"](), own["test"]()
    dataset, test = TensorDataset(x, y), TensorDataset(x_test, y_test)

    def train(network, samples):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
        rows = torch.as_tensor(np.asarray(samples.indices))
        for _ in range(15):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()

    return {
        "erasure": erasure,
        "torch": torch,
        "Subset": Subset,
        "dataset": dataset,
        "test": test,
        "train": train,
        "fit": own["fit"],
        "make_network": own["model"],
        "model": own["fit"](range(N), 1),
        "ids": [17, 23],
        "people": own["ids"](),
    }


def executed(text, names):
    exec(compile(text, "page", "exec"), names)
    return names


@pytest.mark.parametrize("page", ["README.md", "docs/requests.md", "docs/recipes.md", "docs/store.md", "docs/write-your-own.md"])
def test_every_snippet_is_python(page):
    for text in blocks(page, "python"):
        compile(text, page, "exec")


def test_shards_of_a_loop_of_ones_own(names):
    found = executed(block("docs/requests.md", "fit = erasure.sharded"), names)
    assert (found["answer"].entry.method, found["answer"].entry.verdict) == ("SISA", "exact")


def test_an_estimator(names):
    (x, y), (x_test, y_test) = ([t.numpy() for t in names[part].tensors] for part in ("dataset", "test"))
    mask = np.arange(N) < 3
    given = {"estimator": GaussianNB().fit(x, y), "X": x, "y": y, "X_test": x_test, "y_test": y_test, "mask": mask}
    found = executed(block("docs/requests.md", "answer = erasure.forget(model=estimator"), names | given)
    assert (found["again"].predict(x) == found["answer"].model.predict(x)).all()


@pytest.mark.parametrize("name", ["hugging_face", "lightning", "mlflow", "sklearn"])
def test_an_adapter_is_found_by_the_packages_name_alone(name):
    assert erasure.__getattr__(name).__name__ == f"erasure.{name}"


def test_the_recipe_for_tensors(names):
    found = executed(block("docs/recipes.md", "import torch"), {})
    changed = zip(found["model"].parameters(), found["forgotten"].parameters(), strict=True)
    assert any(not torch.equal(before, after) for before, after in changed)


@pytest.mark.filterwarnings("ignore::erasure.errors.UnlearningWarning")  # so few samples of a toy change no weight
def test_a_model_forgets_as_the_readme_says(names):
    first = block("README.md", "import erasure").splitlines()[2]
    given = {"forget_set": Subset(names["dataset"], range(5)), "training_set": names["dataset"]}
    assert isinstance(executed(first, names | given)["forgotten"], nn.Module)


def test_a_request_and_an_audit_as_the_readme_says(names):
    forget, audit = block("README.md", "answer = erasure.forget").splitlines()
    given = {"training_set": names["dataset"], "test_set": names["test"], "forgotten": names["fit"](range(1, N), 2)}
    planned = executed(forget.replace(", folder=", ", dry_run=True, folder="), names | given)
    assert planned["answer"].n_forget == 2
    assert executed(audit, names | given)["audit"].statements


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("beginning", "is_first"), [("answer = erasure.forget(model=model", True), ("def fit(indices, seed)", False)]
)
def test_a_request_by_comparison(names, beginning, is_first):
    given = {"train": names["dataset"]} if is_first else {}
    found = executed(block("docs/requests.md", beginning), names | given)
    assert found["answer"].entry.n_forgotten == 2


def commands():
    text = block("docs/requests.md", "erasure request", "bash")
    return [shlex.split(line)[1:] for line in text.splitlines()]


def ran(words, capsys, monkeypatch):
    from erasure.cli import main

    monkeypatch.setattr(sys, "argv", ["erasure", *words])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, capsys.readouterr().out


@pytest.mark.parametrize("place", [0, 1])
def test_the_command_line(names, tmp_path, capsys, monkeypatch, place):
    from safetensors.torch import save_file

    (tmp_path / "training.py").write_text(TRAINING)
    save_file(names["model"].state_dict(), tmp_path / "model.safetensors")
    words = commands()[place]
    code, printed = ran(words if "--dry-run" in words else [*words, "--retrain", "--quiet"], capsys, monkeypatch)
    assert code in {0, None}
    assert ("10 of 60 training samples" if place == 0 else "request 1: 10 forgotten by Retraining") in printed


@pytest.mark.nightly
def test_the_readmes_experiment(names, tmp_path):
    shutil.copy(ROOT / "configs" / "breast_cancer.jsonc", tmp_path / "my_experiment.jsonc")
    last = "\n".join(["import erasure", *block("README.md", "import erasure").splitlines()[3:]])
    assert executed(last, {})["results"].is_sound
