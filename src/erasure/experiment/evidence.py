"""What a report shows beside the rows: what was forgotten, from what, how, at what cost, and where everything comes from.

It is written to ``report.json`` at the end of a run. Nothing is trained or run for it: what the store does not have is left out,
with the reason. It holds numbers and names of samples (their positions in the data set), never a sample itself.
"""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import torch

from erasure.component import Call, Component, canonical, field_types
from erasure.config.docs import prose_of
from erasure.errors import ErasureError
from erasure.experiment.bench import Workbench
from erasure.experiment.configuration import Experiment, load_experiment
from erasure.experiment.model_evidence import ModelEvidence, Named
from erasure.experiment.stages import Group, Plan, Subject
from erasure.store import write_atomically
from erasure.store.addresses import plain_json
from erasure.store.rows import Row
from erasure.types import Json

__all__ = ["EVIDENCE_FILE", "collect", "write_evidence"]

EVIDENCE_FILE = "report.json"
_FORMAT = 1
_LONGEST_SOURCE = 200_000
"""Characters of a configuration file that are kept."""
_MOST_EVIDENCE = 500
"""Curves of measures that are kept; a sweep may have many more."""


def collect(plan: Plan, bench: Workbench, failed: Mapping[str, str], rows: Sequence[Row]) -> dict[str, Json]:
    """Everything a report needs beside the rows, as JSON.

    Distributions, classes, layers and samples are those of the first repetition; rows have every repetition.

    Args:
        plan: What was run.
        bench: The workbench that ran it; its store answers.
        failed: Address to reason of what could not be computed.
        rows: The result rows.
    """
    found: dict[str, Json] = {"format": _FORMAT, "created_at": datetime.now(UTC).isoformat(timespec="seconds")}
    missing: list[dict[str, str]] = []

    def piece(name: str, make: Callable[[], Json]) -> None:
        try:
            found[name] = make()
        except Exception as error:  # a picture that cannot be drawn must not cost the results
            missing.append({"what": name, "reason": str(error).strip() or type(error).__name__})

    experiment = plan.experiment
    piece("experiment", lambda: experiment.name)
    piece("configuration", lambda: _configuration(experiment))
    piece("command", lambda: _command(plan))
    piece("versions", _versions)
    piece("machine", lambda: _machine(plan, bench))
    piece("dataset", lambda: _dataset(plan, bench))
    piece("seeds", lambda: [vars(seeds) for seeds in dict.fromkeys(group.seeds for group in plan.groups)])
    piece("models", lambda: [model for group in plan.groups for model in _models(plan, bench, failed, group)])
    piece("measures", lambda: _measures(plan, rows))
    piece("sources", lambda: _sources(plan))
    piece("curves", lambda: _curves(plan, bench, failed))
    first = [group for group in plan.groups if group.seeds == plan.groups[0].seeds]
    several = len({group.retain for group in plan.groups}) > 1
    groups = []
    for group in first:
        models = ModelEvidence(plan, bench, failed, group, named=_named(group, several=several))
        pieces, reasons = models.pieces()
        groups.append(pieces)
        missing += reasons
    found["groups"] = groups
    found["failures"] = [{"stage": plan.stages[address].name, "reason": reason} for address, reason in failed.items()]
    found["missing"] = missing
    return found


def write_evidence(evidence: Mapping[str, Json], directory: Path) -> None:
    """Write ``report.json``; numbers that are not finite become null.

    Raises:
        StoreError: If it cannot be written.
    """
    text = json.dumps(_finite(evidence), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    write_atomically(Path(directory) / EVIDENCE_FILE, text.encode("utf-8", "replace"))


def _finite(value: Any) -> Json:
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return value


# Models


def _named(group: Group, *, several: bool) -> list[Named]:
    """Original, gold and unlearned models with the names that rows have."""
    suffix = f" ({group.retain})" if several else ""
    subjects = [group.original, *([group.gold] if group.gold is not None else []), *group.unlearned]
    return [Named(_label_of(subject, suffix), subject) for subject in subjects]


def _label_of(subject: Subject, suffix: str) -> str:
    """How rows call a model."""
    return subject.entry.label if subject.entry is not None else f"{subject.role}{suffix}"


def _models(plan: Plan, bench: Workbench, failed: Mapping[str, str], group: Group) -> list[dict[str, Json]]:
    several = len({each.retain for each in plan.groups}) > 1
    return [_model(bench, failed, group, named) for named in _named(group, several=several)]


def _model(bench: Workbench, failed: Mapping[str, str], group: Group, named: Named) -> dict[str, Json]:
    subject = named.subject
    entry = subject.entry
    described: dict[str, Json] = {
        "label": named.label,
        "role": subject.role,
        "retain": group.retain,
        "seed": group.seeds.train,
        "address": subject.model,
    }
    if entry is not None:
        described |= {
            "key": entry.key,
            "exact": entry.unlearner.exact,
            "forget": entry.unlearner.forget,
            "summary": _summary(type(entry.unlearner))[0],
            "parameters": _flat(canonical(entry.unlearner)),
        }
    if subject.model in failed:
        return described | {"failed": failed[subject.model]}
    facts = bench.store.open(subject.model).facts
    return described | {name: facts.get(name) for name in ("elapsed_s", "precompute_s", "peak_memory_mib")}


def _flat(node: Json, prefix: str = "") -> dict[str, Json]:
    """Parameters of a canonical component, those of inner ones by dotted names."""
    flat: dict[str, Json] = {}
    for name, value in node.get("parameters", {}).items():
        inner = value if isinstance(value, list) else [value]
        for number, each in enumerate(inner):
            here = f"{prefix}{name}" + (f"[{number}]" if isinstance(value, list) else "")
            if isinstance(each, dict) and "parameters" in each:
                flat[here] = str(each.get("class") or each.get("call")).rpartition(":")[2].rpartition(".")[2]
                flat |= _flat(each, f"{here}.")
            elif each is None or isinstance(each, bool | int | float | str):
                flat[here] = each
    return flat


# Measures and papers


def _measures(plan: Plan, rows: Iterable[Row]) -> dict[str, Json]:
    """What each column of the tables means, by the name that rows have."""
    by_address: dict[str, dict[str, None]] = {}
    for row in rows:
        by_address.setdefault(row.address, {})[row.measure] = None
    described: dict[str, Json] = {}
    for group in plan.groups:
        for subject in (group.original, *([group.gold] if group.gold else []), *group.unlearned):
            for measure, address in zip(plan.experiment.evaluator.measures, subject.values, strict=True):
                for name in by_address.get(address or "", ()):
                    if name not in described:
                        summary, answers = _summary(type(measure))
                        described[name] = {
                            "component": type(measure).__name__,
                            "summary": summary,
                            "answers": answers,
                            "ideal": measure.ideal,
                            "higher_is_better": measure.higher_is_better,
                        }
    return described


def _summary(cls: type[Component]) -> tuple[str, str]:
    """First sentence of a component's documentation, and the question it answers."""
    paragraphs = [" ".join(text.split()) for text in prose_of(cls).split("\n\n")]
    answers = next((text.removeprefix("Answers: ") for text in paragraphs if text.startswith("Answers: ")), "")
    question = answers.partition("?")
    return paragraphs[0], f"{question[0]}?" if question[1] else answers


def _sources(plan: Plan) -> list[dict[str, Json]]:
    """Papers of every method and measure, those inside others too, each once."""
    experiment = plan.experiment
    evaluator = experiment.evaluator
    traced = evaluator.trace.measures if evaluator.trace is not None else ()
    sources: dict[tuple[str, str], dict[str, Json]] = {}
    for kind, component in [
        *(("method", entry.unlearner) for entry in experiment.unlearners),
        *(("measure", measure) for measure in (*evaluator.measures, *traced)),
        ("data", experiment.data.data_source),
        ("model", experiment.predictor.model),
    ]:
        for inner in _components(component):
            cls = type(inner)
            if cls.source is not None:
                sources.setdefault(
                    (kind, cls.__name__),
                    {
                        "kind": kind,
                        "name": cls.__name__,
                        "summary": _summary(cls)[0],
                        "paper": cls.source.paper,
                        "code": cls.source.code,
                        "deviations": list(cls.source.deviations),
                        "bibtex": cls.source.bibtex,
                    },
                )
    return list(sources.values())


def _components(value: Any) -> Iterable[Component]:
    if isinstance(value, Component) and not isinstance(value, Call):
        yield value
        for name in field_types(type(value)):
            yield from _components(getattr(value, name))
    elif isinstance(value, tuple):
        for inner in value:
            yield from _components(inner)


def _curves(plan: Plan, bench: Workbench, failed: Mapping[str, str]) -> list[dict[str, Json]]:
    """What measures brought for their figures, with the address by which rows are found."""
    several = len({group.retain for group in plan.groups}) > 1
    curves: list[dict[str, Json]] = []
    for group in plan.groups:
        for named in _named(group, several=several):
            for address in named.subject.values:
                if address is None or address in failed:
                    continue
                for record in bench.store.open(address).json("values"):
                    if record.get("evidence") and len(curves) < _MOST_EVIDENCE:
                        curves.append(
                            {
                                "label": named.label,
                                "role": named.subject.role,
                                "seed": group.seeds.train,
                                "measure": record["name"],
                                "partition": record["partition"],
                                "address": address,
                                **record["evidence"],
                            }
                        )
    return curves


# Where it comes from


def _dataset(plan: Plan, bench: Workbench) -> dict[str, Json]:
    scene = plan.scenes[0]
    dataset = bench.dataset(scene.data)
    content = plan.stages[scene.data].content
    return {
        "name": dataset.name,
        "source": type(scene.source).__name__,
        "modality": dataset.modality,
        "task": dataset.task,
        "n": len(dataset),
        "n_classes": dataset.n_classes,
        "x_shape": list(dataset.x_shape),
        "class_names": list(dataset.class_names)[:1000],
        "address": scene.data,
        "fingerprint": plain_json(content["fingerprint"], "fingerprint"),
        "parameters": canonical(scene.source)["parameters"],
    }


def _files(experiment: Experiment) -> list[str]:
    files = dict.fromkeys(place.position.file for _, place in experiment.places)
    return [file for file in files if not file.startswith("<") and Path(file).is_file()]


def _configuration(experiment: Experiment) -> dict[str, Json]:
    texts = [{"file": _shown(file), "text": Path(file).read_text("utf-8")[:_LONGEST_SOURCE]} for file in _files(experiment)]
    return {"files": texts, "canonical": experiment.canonical()}


def _shown(file: str) -> str:
    """A path as others may see it: from the working directory, or its name alone."""
    path = Path(file).absolute()
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else path.name


def _command(plan: Plan) -> dict[str, Json]:
    """The command that gives these numbers again, and whether that is certain."""
    experiment, numerics = plan.experiment, plan.numerics
    roots = list(dict.fromkeys(group.seeds.train for group in plan.groups))
    options = ["--device", numerics.device, "--precision", numerics.precision, "--threads", str(numerics.threads)]
    seeds = ["--seeds", ",".join(map(str, roots))] if roots != [experiment.globals.seed] else []
    files = _files(experiment)
    if not files:
        return {"text": "", "note": "The configuration was given from Python; run it with erasure.run(configuration)."}
    whole = next((file for file in files if _is_whole(file, experiment)), None)
    note = ""
    if whole is None:
        note = (
            "The file alone gives another configuration: values were set on the command line (--set), a module was trusted "
            "(--trust), or the file has changed. The canonical configuration below is what was run."
        )
    return {"text": shlex.join(["erasure", "run", _shown(whole or files[0]), *seeds, *options]), "note": note}


def _is_whole(file: str, experiment: Experiment) -> bool:
    try:
        return load_experiment(file).canonical() == experiment.canonical()
    except ErasureError:
        return False


def _versions() -> dict[str, Json]:
    import numpy
    import safetensors
    import scipy
    import sklearn

    from erasure import __version__

    libraries = {module.__name__: str(module.__version__) for module in (numpy, scipy, sklearn, safetensors)}
    return {"erasure": __version__, "python": platform.python_version(), "torch": str(torch.__version__), **libraries}


def _machine(plan: Plan, bench: Workbench) -> dict[str, Json]:
    name = platform.machine()
    if bench.device.type == "cuda":
        name = torch.cuda.get_device_name(bench.device)
    return {"system": platform.system(), "processor": name, **cast(dict[str, Json], plan.numerics.json())}
