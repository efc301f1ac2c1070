"""Runs that need nothing more, remembered: to run one again is to read what it left.

A run whose stages are all in the store computes nothing, yet planning it imports every library that could have. What a sound run left is
therefore kept under a digest of everything that decides its plan: the composed configuration, our code, the installed packages, the
options, the place and the machine. It counts only as long as nothing is different: each object of the store and each result file is as
the run left it, and each file of the data has the same content. Whatever is not certain is planned in full.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from erasure.config import load
from erasure.data.reading.files import Digested, digest_again, digested, file_digest
from erasure.errors import ErasureError
from erasure.events import Message
from erasure.memory import keep, memory_file, recall
from erasure.records.reading import as_record
from erasure.store import Store, default_base_path, default_store_path
from erasure.workflows.validation import digest_of, has_pinned_files

if TYPE_CHECKING:
    from erasure.experiment.configuration import Experiment
    from erasure.reports.results import Results

__all__ = ["FinishedRun", "asked", "digested", "finished_run", "remember"]

_DEVICES = ("CUDA", "HIP", "ROCR", "NVIDIA", "PYTORCH", "TORCH", "ATEN", "ONEDNN", "MKL", "OMP", "KMP", "ERASURE")
"""How variables begin that decide where and with which kernels torch computes, and where we keep things."""
_PAGE = "report.html"
_FILES = {"rows.parquet", "rows.csv", "rows.json", "trace.csv", "trace.json", "verdicts.json", "table.md", "report.json", _PAGE}
_FILES |= {"samples_that_show.json", "stages.json", "looks.json", "summary.json"}


_KEPT = 200
"""Runs that are remembered; the oldest are dropped."""


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What a run left.

    Args:
        output: Directory of the result files.
        notices: What was noticed in the configuration.
        said: Text and level of what was said of the data and the results.
        objects: Sizes and times of the files of each object of the store that belongs to the run.
        files: SHA-256 of each result file by its name; those that were not written are not among them.
        digests: Files and folders that the data was read from, and the configuration, whose text the report shows.
    """

    output: str
    notices: tuple[str, ...]
    said: tuple[tuple[str, ...], ...]
    objects: Mapping[str, str]
    files: Mapping[str, str]
    digests: tuple[Digested, ...]

    def replies(self) -> list[Message]:
        """What is said again."""
        return [Message(text, level=cast(Literal["info", "warning"], level)) for text, level in self.said]


def asked(config: Path, overrides: Sequence[str], options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options with what identifies the run before it starts: libraries that it imports change the environment.

    Args:
        config: Path of a JSONC file.
        overrides: ``path=value`` settings.
        options: Options of the command line, as JSON or paths; ``store`` and ``output`` among them.

    Raises:
        ConfigError: If the configuration cannot be read.
    """
    given = {**options, "environment": _environment()}
    return given | {"place": _place(config, overrides, given)}


def finished_run(given: Mapping[str, Any]) -> FinishedRun | None:
    """The run that was asked for, if it was finished and everything is as it left it."""
    kept = recall(given["place"])
    if kept is None:
        return None
    found = as_record(FinishedRun, kept)
    try:
        is_same = (
            found.files == _digests(Path(found.output))
            and found.objects == _store(given).stamps(found.objects)
            and all(digest_again(each) == each.digest for each in found.digests)
        )
    except (OSError, ErasureError):
        return None
    return found if is_same else None


def remember(
    config: Path,
    overrides: Sequence[str],
    given: Mapping[str, Any],
    *,
    experiment: Experiment,
    results: Results,
    digests: Iterable[Digested],
) -> None:
    """Keep what a run left, if running it again is certain to leave the same.

    Args:
        config: Path of a JSONC file.
        overrides: ``path=value`` settings.
        given: What :func:`asked` gave before the run.
        experiment: What was run.
        results: Its results, whose directory has the list of its stages.
        digests: Files that were digested to plan it.
    """
    from erasure.catalogue import BUILTINS, plugins
    from erasure.records.stages_file import read_stages

    output, source = results.output, experiment.data.data_source
    is_certain = source.is_digested and experiment.globals.cached and not any(plugins(kind) for kind in BUILTINS)
    if output is None or results.failures or not is_certain or has_pinned_files(experiment.canonical()):
        return
    with suppress(OSError, ErasureError):
        stages = read_stages(output)
        objects, files = _store(given).stamps(stages), _digests(output)
        if given["report"] and _PAGE not in files:  # none was made: it is tried again
            return
        # Another run may have written into the directory meanwhile.
        found = type(results).load(output)
        if (found.rows, found.jury) != (results.rows, results.jury):
            return
        # Configuration and code may have been edited meanwhile: who knows which of them the run has read?
        if len(objects) < len(stages) or _place(config, overrides, given) != given["place"]:
            return
        record = {
            "output": str(output.absolute()),
            "notices": [str(notice) for notice in experiment.notices],
            "said": list(map(list, results.said)),
            "objects": objects,
            "files": files,
            "digests": [vars(each) for each in (*digests, *_texts(experiment))],
        }
        keep(given["place"], record, at_most=_KEPT)


def _place(config: Path, overrides: Sequence[str], given: Mapping[str, Any]) -> Path | None:
    loaded = load(config, overrides)
    options = {name: str(value) for name, value in sorted(given.items()) if name != "place"}
    where = [str(Path.cwd()), str(default_store_path()), str(default_base_path())]
    content = [digest_of(loaded), options, where, _machine()]
    return memory_file("finished", hashlib.sha256(json.dumps(content).encode()).hexdigest())


def _store(options: Mapping[str, Any]) -> Store:
    return Store(options["store"] or default_store_path(), base=default_base_path(), read_only=True)


def _texts(experiment: Experiment) -> list[Digested]:
    """The files of a configuration with their comments."""
    files = {Path(place.position.file).absolute() for _, place in experiment.places}
    return [Digested("file", str(file), file_digest(str(file))) for file in sorted(files) if file.is_file()]


def _digests(directory: Path) -> dict[str, str]:
    """SHA-256 of the result files that are there."""
    present = sorted(entry.name for entry in os.scandir(directory) if entry.name in _FILES)
    return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in present}


def _machine() -> list[str]:
    """The processor with its instructions, and devices for computing."""
    found = [platform.node(), platform.machine(), platform.platform()]
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        found += sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    with suppress(OSError):
        found += sorted(entry.name for entry in os.scandir("/dev") if entry.name.startswith(("nvidia", "kfd", "dri", "dxg")))
    return found


def _environment() -> list[list[str]]:
    return sorted([name, value] for name, value in os.environ.items() if name.startswith(_DEVICES))
