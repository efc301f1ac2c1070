"""Requests for models of Hugging Face's Trainer, of Lightning, and their versions in MLflow, with the real libraries."""

import numpy as np
import pytest
import torch
from own_models import N, network, problem, trainer
from torch import nn
from torch.utils.data import TensorDataset

import erasure
import erasure.mlflow
from erasure.certificates.verifying import verify
from erasure.errors import DataError, RequirementNotMet

pytestmark = pytest.mark.filterwarnings("ignore")  # what these libraries say of themselves and of one another

FAST = {"methods": (), "n_originals": 3, "n_golds": 1, "check_data": False}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("ERASURE_STORE", str(tmp_path / "store"))
    return tmp_path


@pytest.fixture
def hugging_face_trainer(place):
    pytest.importorskip("accelerate")
    from erasure.hugging_face import DeletionCallback

    transformers = pytest.importorskip("transformers")

    generator = torch.Generator().manual_seed(0)

    class Texts(torch.utils.data.Dataset):
        def __init__(self, n):
            self.tokens = torch.randint(1, 30, (n, 6), generator=generator)

        def __len__(self):
            return len(self.tokens)

        def __getitem__(self, place):
            if isinstance(place, str):
                return [f"user{k}" for k in range(len(self))]
            tokens = self.tokens[place]
            return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": int(tokens[0] > 15)}

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=2
    )
    made = transformers.Trainer(
        model=transformers.BertForSequenceClassification(config),
        args=transformers.TrainingArguments(
            output_dir=str(place / "out"),
            num_train_epochs=2,
            per_device_train_batch_size=8,
            report_to=[],
            use_cpu=True,
            save_strategy="no",
            disable_tqdm=True,
            learning_rate=5e-3,
        ),
        train_dataset=Texts(32),
        eval_dataset=Texts(24),
        callbacks=[DeletionCallback()],
    )
    return made


def test_a_column_that_is_not_there_is_named():
    from erasure.hugging_face import _places

    with pytest.raises(DataError, match='no column "autor"'):
        _places({"author": ["anna"]}, "autor", ["anna"])


@pytest.mark.slow
def test_a_trainer_answers_a_request(hugging_face_trainer, place):
    from erasure.hugging_face import forget_from

    with pytest.raises(RequirementNotMet, match="give the Trainer callbacks"):
        forget_from(hugging_face_trainer, [0])
    hugging_face_trainer.train()
    with pytest.raises(DataError, match="1 of 2 ids are not in the column"):
        forget_from(hugging_face_trainer, ["user1", "nobody"], id_column="name")
    answer = forget_from(hugging_face_trainer, ["user1", "user5"], id_column="name", folder=place / "requests", **FAST)
    assert type(answer.model).__name__ == "BertForSequenceClassification"
    assert answer.entry.n_forgotten == 2
    assert (answer.folder / "model" / "config.json").exists()
    assert verify(answer.certificate, model=answer.folder / "model").passed
    again = forget_from(hugging_face_trainer, ["user1", "user5"], id_column="name", folder=place / "requests", **FAST)
    assert again.entry == answer.entry
    assert type(answer.model).from_pretrained(answer.folder / "model").config.num_labels == 2


def test_a_lightning_module_answers_a_request(place):
    from erasure.lightning import LightningDeletionCallback, detached, forget_from, library

    if library is None:
        pytest.skip("Lightning is not installed")

    sizes = []

    class Module(library.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, number):
            sizes.append(len(batch[1]))
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.02)

    data, test = problem()
    dataset = TensorDataset(*data)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    made = library.Trainer(max_epochs=3, accelerator="cpu", callbacks=[LightningDeletionCallback()], **quiet)
    module = Module()
    made.fit(module, torch.utils.data.DataLoader(dataset, batch_size=16, shuffle=True))
    sizes.clear()
    answer = forget_from(made, module, dataset, range(8), test=test, folder=place / "requests", **FAST)
    assert max(sizes) == 16  # as in the training
    assert isinstance(answer.model, Module)
    assert module._trainer is made
    assert detached(module)._trainer is None
    assert verify(answer.certificate, model=answer.folder / "model" / "model.safetensors").passed
    bare = library.Trainer(max_epochs=1, accelerator="cpu", **quiet)
    with pytest.raises(RequirementNotMet, match="give the Trainer callbacks"):
        forget_from(bare, module, dataset, range(8))


@pytest.mark.slow
def test_a_plain_loop_and_its_version_in_mlflow(place):
    mlflow = pytest.importorskip("mlflow")
    data, test = problem()
    fit = trainer(data, steps=20)
    answer = erasure.forget(
        model=fit(np.arange(N), 1), forget=range(8), data=data, test=test, train=fit, folder=place / "requests", **FAST
    )
    uri = f"sqlite:///{place / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_experiment("deletion requests", artifact_location=str(place / "artifacts"))
    version = erasure.mlflow.register(answer, "digits", tracking_uri=uri)
    assert version.version in {1, "1"}
    assert version.tags["erasure.unlearned"] == answer.entry.unlearned
    folder = client.download_artifacts(version.run_id, "", dst_path=str(place))
    checked = verify(
        (place / folder / "certificate.json").resolve(), model=(place / folder / "model" / "model.safetensors").resolve()
    )
    assert checked.passed
    assert erasure.mlflow.register(answer, "digits", tracking_uri=uri).version == version.version
