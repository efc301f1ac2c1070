"""Forgotten samples themselves, read from the store when somebody asks for them: they may be personal data."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from erasure.errors import StoreError
from erasure.records.run_folder import RunFolder
from erasure.reports.answers import answers_of
from erasure.store import Artifact, Store
from erasure.token_texts import text_of_pieces

__all__ = ["samples_of"]

_MAX_FEATURES = 40
_MAX_TOKENS = 48
_LARGEST_SIDE = 128
_MAX_SAMPLES = 400
_LARGE = 1e15
"""From here on whole numbers are written with their exponent."""


def samples_of(folder: RunFolder, store: Store) -> list[dict[str, Any]]:
    """The most and least forgotten samples that the report names.

    A picture for images, the row for tables as it stood in the file, words for texts, and the sizes of graphs.

    Args:
        folder: The run.
        store: Where its data set is.

    Returns:
        ``id`` with ``image`` (a PNG as a data address) or ``text``; of language models also ``answers``
        (:func:`~erasure.reports.answers.answers_of`).

    Raises:
        StoreError: If the data set is not in the store, or is of a kind that cannot be shown.
    """
    ids = list(dict.fromkeys(i for group in folder.groups for side in group.samples for i in side.ids))[:_MAX_SAMPLES]
    described = folder.record.dataset
    if described is None or not ids:
        raise StoreError("This run kept no samples: it has no report.json, no gold model or no forgotten samples. Run it again.")
    if not store.contains(described.address):
        raise StoreError(f"The data of this run is not in the store {store.root}; name the store that it ran with (--store).")
    artifact = store.open(described.address)
    facts = artifact.json("dataset")
    kind, modality = facts["column"]["kind"], facts["modality"]
    if kind in {"graph", "node"}:
        read = _graphs if kind == "graph" else _nodes
    elif kind == "tensor" and modality in {"image", "table", "text"}:
        read = {"image": _images, "table": _rows, "text": _texts}[modality]
    else:
        raise StoreError(f'Samples of the modality "{modality}" cannot be shown; leave out --with-samples.')
    shown = read(artifact, facts, ids)
    pieces: Any = artifact.json("tokens") if facts["task"] == "generation" and "tokens.json" in artifact.files else []
    answers = answers_of(folder, store, ids, pieces) if pieces else {}
    return [
        {
            "id": identity,
            "text": f"{_labels(facts, label, group)}{f': {text}' if text else ''}",
            "image": image,
            **({"answers": answers[identity]} if identity in answers else {}),
        }
        for identity, (text, image), (label, group) in zip(ids, shown, _answers(artifact, ids), strict=True)
    ]


def _columns(artifact: Artifact, ids: Sequence[int], name: str) -> list[Any]:
    from safetensors import safe_open

    with safe_open(artifact.path("columns.safetensors"), framework="numpy") as file:
        if name not in file.keys():  # noqa: SIM118 - it is no mapping
            return [None] * len(ids)
        values = file.get_slice(name)
        return [values[i : i + 1][0] for i in ids]


def _answers(artifact: Artifact, ids: Sequence[int]) -> Iterator[tuple[Any, Any]]:
    return zip(_columns(artifact, ids, "y"), _columns(artifact, ids, "z"), strict=True)


def _labels(facts: Mapping[str, Any], label: Any, group: Any) -> str:
    """Class, or those of several labels that are set, and group in words."""
    names = facts["class_names"]
    if facts["task"] == "generation":
        text = "answer"
    elif facts["task"] == "multilabel":
        chosen = [_called(names, i) for i, value in enumerate(label.tolist()) if value]
        text = f"labels {', '.join(chosen) or 'none'}"
    else:
        text = f"label {_called(names, int(label))}"
    groups = [] if group is None else [_called(facts["z_names"], int(code)) for code in group.reshape(-1)]
    return f"{text}, group {', '.join(groups)}" if facts["z_names"] and groups else text


def _called(names: Sequence[str], code: int) -> str:
    return names[code] if 0 <= code < len(names) else str(code)


def _images(artifact: Artifact, facts: Mapping[str, Any], ids: Sequence[int]) -> Iterator[tuple[str, str]]:
    for value in _columns(artifact, ids, "x.values"):
        yield "", "data:image/png;base64," + base64.b64encode(_png(value)).decode()


def _texts(artifact: Artifact, facts: Mapping[str, Any], ids: Sequence[int]) -> Iterator[tuple[str, str]]:
    pieces = artifact.json("tokens") if "tokens.json" in artifact.files else []
    for value in _columns(artifact, ids, "x.values"):
        # Of answers in several versions, the first is the one that was learned.
        yield _words(value[:2] if facts["task"] == "generation" else value, pieces), ""


def _rows(artifact: Artifact, facts: Mapping[str, Any], ids: Sequence[int]) -> Iterator[tuple[str, str]]:
    """The columns by name; of those that a category was spread over, the one that is set."""
    names, values_of = facts["feature_names"], facts.get("value_names", {})
    for value in _columns(artifact, ids, "x.values"):
        cells = value.reshape(-1)
        parts: list[str] = []
        for i, each in enumerate(cells):
            name = names[i] if i < len(names) else f"column {i}"
            if "=" in name and each in {0, 1}:
                parts += [name] * bool(each)
            elif name in values_of and each == int(each):
                parts.append(f"{name}={_called(values_of[name], int(each))}")
            else:
                parts.append(f"{name} {_number(each)}")
            if len(parts) > _MAX_FEATURES:
                parts[-1] = f"… ({len(cells)} columns)"
                break
        yield ", ".join(parts), ""


def _number(value: Any) -> str:
    """As short as it can be without being another number."""
    return str(int(value)) if value == int(value) and abs(value) < _LARGE else str(value)


def _graphs(artifact: Artifact, facts: Mapping[str, Any], ids: Sequence[int]) -> Iterator[tuple[str, str]]:
    after = [i + 1 for i in ids]
    counts = (_columns(artifact, each, f"x.{name}") for name in ("node_ptr", "edge_ptr") for each in (ids, after))
    for first_node, last_node, first_edge, last_edge in zip(*counts, strict=True):
        yield f"{last_node - first_node} nodes, {last_edge - first_edge} edges (each direction is one)", ""


def _nodes(artifact: Artifact, facts: Mapping[str, Any], ids: Sequence[int]) -> Iterator[tuple[str, str]]:
    from safetensors import safe_open

    with safe_open(artifact.path("columns.safetensors"), framework="numpy") as file:
        ends = file.get_tensor("x.edge_index")[1]
    for i in ids:
        n = int((ends == i).sum())
        yield f"node {i}, {n} incoming edge{'' if n == 1 else 's'}", ""


def _words(value: Any, pieces: Sequence[str]) -> str:
    """The first words of a text; its ids where a store of an earlier version does not say how they read."""
    rows = value.reshape(-1, value.shape[-1])
    ids = [token for token, is_there in zip(rows[0].tolist(), (rows[-1] != 0).tolist(), strict=True) if is_there]
    more = f"… ({len(ids)} tokens)" if len(ids) > _MAX_TOKENS else ""
    if pieces:
        text = text_of_pieces(pieces[token] if token < len(pieces) else "?" for token in ids[:_MAX_TOKENS])
        return f"{text} {more}".strip()
    return f"tokens {', '.join(map(str, ids[:_MAX_TOKENS]))}{f', {more}' if more else ''}"


def _png(value: Any) -> bytes:
    """One image, channels first, as PNG, grey or in colour; its darkest value becomes black and its brightest white."""
    import numpy as np

    image = np.atleast_3d(value) if value.ndim == 2 else value.transpose(1, 2, 0)
    step = max(1, -(-max(image.shape[:2]) // _LARGEST_SIDE))
    image = image[::step, ::step, :3] if image.shape[2] >= 3 else image[::step, ::step, :1]
    low, high = float(image.min()), float(image.max())
    image = ((image.astype(np.float64) - low) * (255 / (high - low) if high > low else 0)).round().astype(np.uint8)
    height, width, channels = image.shape
    raw = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(image))
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
