"""Upstream's unlearners and measures: the last parts of their paths to our components."""

from __future__ import annotations

from typing import Any

from erasure.registry.derived import Lifted
from erasure.registry.upstream_alias import ALWAYS_CACHED, Alias

__all__ = ["MEASURES", "UNLEARNERS"]

_NO_TRAINING = "the method takes no gradient steps"
_TASK = {"task": "the data says how labels are read"}
_BOTH = {"ref_data_retain": "retain", "ref_data_forget": "forget"}
_RETAIN = {"ref_data": "retain", "ref_data_retain": "retain"}
_FORGET = {"ref_data": "forget", "ref_data_forget": "forget"}
_INSIDE = {
    "last_trainable_layers": ("LastLayers", "n_layers"),
    "mask_path": ("Masked", "mask_file"),
    "model_mask_path": ("Masked", "mask_file"),
}


_FREED = "frozen layers and masks are undone afterwards (upstream leaves them to later steps and measures)"


def _adam(**defaults: Any) -> dict[str, Any]:
    """Upstream's optimizer where a file names none."""
    return {"optimizer": {"class": "torch.optim.Adam", "parameters": {"lr": 0.001}}, **defaults}


def _unlearner(target: str, **facts: Any) -> Alias:
    return Alias(kind="unlearner", target=target, **facts)


UNLEARNERS: dict[str, Alias] = {
    "GoldModel.GoldModel": _unlearner(
        "GoldModel",
        rename={"training_set": "retain"},
        ignored={
            "cached": ALWAYS_CACHED,
            "predictor": "gold is trained by the predictor of the configuration",
            "data": "gold is trained on the data of the configuration",
            "ref_data": "ignored upstream too",
            "train_data": "ignored upstream too",
        },
    ),
    "Finetuning.Finetuning": _unlearner("Finetuning", rename=_RETAIN, defaults=_adam(epochs=5), wrap=_INSIDE, fault=_FREED),
    "eu_k.eu_k": _unlearner(
        "EU-k",
        rename={**_RETAIN, "last_trainable_layers": "k"},
        defaults=_adam(epochs=5, schedule=None, max_grad_norm=None),
        note="layers are counted and reset one by one, also inside blocks (upstream resets top-level children only)",
    ),
    "NegGrad.NegGrad": _unlearner("NegGrad", rename=_FORGET, defaults=_adam(epochs=5), wrap=_INSIDE, fault=_FREED),
    "AdvancedNegGrad.AdvancedNegGrad": _unlearner(
        "AdvancedNegGrad", rename=_BOTH, defaults=_adam(epochs=5), wrap=_INSIDE, fault=_FREED
    ),
    "UNSIR.UNSIR": _unlearner(
        "SampleUNSIR",
        rename=_BOTH,
        defaults=_adam(epochs=1, noise_lr=0.01, repair_epochs=0, batch_size=None),
        ignored=dict.fromkeys(
            ("sample_type", "sample_tipe"), "the data says what the inputs are; tokens are noised as embeddings"
        ),
        wrap=_INSIDE,
        note="the impairing phase alone, as upstream; the noise keeps to the range of the inputs",
    ),
    "BadTeaching.BadTeaching": _unlearner(
        "BadTeaching",
        rename={**_BOTH, "KL_temperature": "temperature"},
        defaults=_adam(epochs=5, retain_fraction=1.0, batch_size=None),
        ignored={
            "bad_teacher": "the bad teacher is a randomly initialised network",
            "transform": "inputs are transformed by the data",
        },
        wrap=_INSIDE,
    ),
    "Scrub.Scrub": _unlearner(
        "SCRUB",
        rename={**_BOTH, "T": "temperature"},
        defaults=_adam(epochs=1, temperature=4.0, alpha=1.0, gamma=1.0),
        ours=frozenset({"alpha"}),
        wrap=_INSIDE,
        note="the teacher is a real copy (upstream's shares the student's weights), and the maximising pass comes first, as published",
    ),
    "SelectiveSynapticDampening.SelectiveSynapticDampening": _unlearner(
        "SSD",
        rename={**_BOTH, "ref_data_train": "train"},
        defaults={"dampening_constant": 0.1, "selection_weighting": 10.0},
        ignored={"optimizer": _NO_TRAINING, "lr": _NO_TRAINING, "epochs": _NO_TRAINING},
    ),
    "FisherForgetting.FisherForgetting": _unlearner(
        "FisherForgetting",
        rename={**_RETAIN, "ff_epochs": "max_samples"},
        defaults={"alpha": 1e-6, "max_samples": 1000},
        ignored=_TASK | {"epochs": _NO_TRAINING, "optimizer": _NO_TRAINING},
        note="alpha is used (upstream always takes 3e-6), and the samples are drawn at random",
    ),
    "SaliencyMapGeneration.SaliencyMapGeneration": _unlearner(
        "SaliencyMapGeneration",
        rename={**_FORGET, "treshold": "fraction", "threshold": "fraction"},
        ignored={"optimizer": _NO_TRAINING, "epochs": _NO_TRAINING},
    ),
    "SuccessiveRandomLabels.SuccessiveRandomLabels": _unlearner(
        "SuccessiveRandomLabels",
        rename=_BOTH,
        defaults=_adam(epochs=5, order="sequential"),
        ignored=_TASK,
        wrap=_INSIDE,
        fault=_FREED,
    ),
    "composite.Cascade": _unlearner("Cascade", rename={"sub_unlearner": "steps"}),
    "composite.Identity": _unlearner("Identity"),
}


def _measure(target: str, **facts: Any) -> Alias:
    return Alias(kind="measure", target=target, **facts)


_MODEL_DISTANCE = _measure(
    "ModelDistance",
    rename={"ref_data": "partition"},
    ignored={"name": "the measure has a name of its own"},
    ours=frozenset({"partition"}),
)
_ATTACK = {
    "attack_in_data": "the attack learns from what models say of the run's own partitions",
    "attack_model": "the attack is fixed",
    "data_out_path": "results are kept in the store",
}
_SHADOWS = _ATTACK | {"loss_fn": "the attack reads log-odds or posteriors"}
_ATTACK_PARTITIONS = ("shadows.dataset_preproc", "shadows.shadow_in_data", "attack_in_data")
_N_SHADOWS = {
    "n_shadows": Lifted(
        "shadows",
        ("n_shadows", "n_models"),
        at_least=4,
        multiple_of=2,
        rounding="shadow models come in pairs, at least two",
        others="all else in it has no effect, but for splitters that make forget_part: shadow models follow the predictor's recipe",
    )
}

_OF_A_METRIC = {"target": ("original", "unlearned")}

MEASURES: dict[str, Alias] = {
    "running.RunTime": _measure("RunTime", fault="time is taken with nothing else switched on (upstream: with tracemalloc)"),
    "running.UnlearnRunner": _measure("", dropped="every unlearner is run before it is measured"),
    "running.ChainOfRunners": _measure("", spliced="runners"),
    "running.TorchFlops": _measure("Flops"),
    "running.PAPI": _measure("HardwareCounters", defaults={"events": ["PAPI_TOT_INS", "PAPI_TOT_CYC", "PAPI_LST_INS"]}),
    "measures.TorchSKLearn": _measure("SklearnMetric", ignored=_TASK),
    "measures.Accuracy": _measure("Accuracy", ignored={"name": "the measure is called accuracy"}),
    "measures.PartitionInfo": _measure(
        "PartitionInfo", fault="all samples are counted (upstream leaves out the last short batch)"
    ),
    "measures.ForgetSetInfo": _measure("PartitionInfo", defaults={"partition": "forget"}, ours=frozenset({"partition"})),
    "measures.AUS": _measure("AUS", rename={"forget_part": "forget", "test_part": "test"}, ignored=_TASK),
    "measures.RelearnTime": _measure(
        "RelearnTime",
        rename={"forget_part": "forget"},
        defaults={"count": "epochs", "cap": 100, "alpha": 0.0, "eval_samples": None},
        ours=frozenset({"alpha"}),
        elsewhere=_OF_A_METRIC,
        note="one Adam for all models, whose accuracy is looked at in eval mode (upstream reuses each model's own optimizer)",
    ),
    "measures.AIN": _measure(
        "AIN",
        rename={"forget_part": "forget"},
        defaults={"count": "epochs", "cap": 100, "eval_samples": None},
        ignored={"gold_model": "gold is the configuration's own"},
        elsewhere=_OF_A_METRIC,
    ),
    "measures.NoMUS": _measure(
        "NoMUS",
        rename={"l": "utility_weight", "acc_split": "test"},
        fault="the attack looks at the partitions that are named (upstream: always forget and test)",
    ),
    "distances.ModelDistance": _MODEL_DISTANCE,
    "weights.ModelDistance": _MODEL_DISTANCE,
    "activations.ActivationDistance": _measure(
        "LegacyActivationDistance",
        rename={"forget_part": "partition"},
        ours=frozenset({"partition"}),
        ignored={"function": "the formula is fixed", "name": "the measure has a name of its own"},
    ),
    "measures.SaveValues": _measure("", dropped="results are always written, as valid files, to the directory given by --output"),
    "MIA.umia.Attack": _measure(
        "UMIA",
        rename={"forget_part": "forget", "test_part": "test"},
        ignored=_ATTACK
        | {
            "loss_fn": "each sample is judged by the predictor's loss",
            "shadows": "the attack needs no shadow models",
        },
        note="5 splits with a tenth held out, and unseen samples of the forgotten classes, as published (upstream trains on a fifth)",
    ),
    "MIA.mia.Attack": _measure(
        "ForgettingRate",
        rename={"forget_part": "forget", "attack_test_part": "test"},
        ignored=_SHADOWS,
        derived=_N_SHADOWS,
        brings=_ATTACK_PARTITIONS,
    ),
    **{
        path: _measure(
            "LiRA",
            rename={"forget_part": "forget"},
            ignored=_SHADOWS,
            derived=_N_SHADOWS,
            brings=_ATTACK_PARTITIONS,
            note="the likelihood-ratio attack as published: area under the curve and rates (upstream: a mean ratio of densities of losses)",
        )
        for path in ("MIA.lira.Attack", "MIA.lira_revised.Attack")
    },
}
