"""Forgotten samples themselves, read from the store when somebody asks for them: they may be personal data."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from erasure.errors import StoreError
from erasure.reports.folder import RunFolder
from erasure.store import Artifact, Store

__all__ = ["samples_of"]

_MOST_FEATURES = 12
_MOST_TOKENS = 48
_LARGEST_SIDE = 128
_MOST_SAMPLES = 400


def samples_of(folder: RunFolder, store: Store) -> list[dict[str, Any]]:
    """The most and least forgotten samples that the report names: a picture for images, the first columns for tables, words for texts.

    Args:
        folder: The run.
        store: Where its data set is.

    Returns:
        ``id`` with ``image`` (a PNG as a data address) or ``text``.

    Raises:
        StoreError: If the data set is not in the store, or is of a kind that has no picture and no columns.
    """
    ids = list(dict.fromkeys(i for group in folder.groups for side in group.get("samples", ()) for i in side["ids"]))[
        :_MOST_SAMPLES
    ]
    described = folder.evidence.get("dataset")
    if described is None or not ids:
        raise StoreError("This run kept no samples: it has no report.json, no gold model or no forgotten samples. Run it again.")
    artifact = store.open(described["address"])
    facts = artifact.json("dataset")
    if facts["column"]["kind"] != "tensor" or facts["modality"] not in {"image", "table", "text"}:
        raise StoreError(f'Samples of the modality "{facts["modality"]}" cannot be shown; leave out --with-samples.')
    values, labels = _rows(artifact, ids)
    names = facts["class_names"]
    pieces = artifact.json("tokens") if "tokens.json" in artifact.files else []
    found = []
    for identity, value, label in zip(ids, values, labels, strict=True):
        called = names[int(label)] if label.ndim == 0 and 0 <= int(label) < len(names) else str(label.tolist())
        sample: dict[str, Any] = {"id": identity, "text": f"label {called}", "image": ""}
        if facts["modality"] == "image":
            sample["image"] = "data:image/png;base64," + base64.b64encode(_png(value)).decode()
        elif facts["modality"] == "text":
            sample["text"] += f": {_words(value, pieces)}"
        else:
            sample["text"] += f": {_columns(value, facts['feature_names'])}"
        found.append(sample)
    return found


def _rows(artifact: Artifact, ids: Sequence[int]) -> tuple[list[Any], list[Any]]:
    from safetensors import safe_open

    with safe_open(artifact.path("columns.safetensors"), framework="numpy") as file:
        x, y = file.get_slice("x.values"), file.get_slice("y")
        return [x[i : i + 1][0] for i in ids], [y[i : i + 1][0] for i in ids]


def _columns(value: Any, names: Sequence[str]) -> str:
    """The first columns by name; of the columns that a category was spread over, the one that is set."""
    called: Mapping[int, str] = dict(enumerate(names))
    parts: list[str] = []
    for i, each in enumerate(value.reshape(-1).tolist()):
        name = called.get(i, f"column {i}")
        if "=" not in name or each not in {0, 1}:
            parts.append(f"{name} {each:.4g}")
        elif each:
            parts.append(name)
        if len(parts) > _MOST_FEATURES:
            return ", ".join(parts[:_MOST_FEATURES]) + ", …"
    return ", ".join(parts)


def _words(value: Any, pieces: Sequence[str]) -> str:
    """The first words of a text; its ids where a store of an earlier version does not say how they read."""
    rows = value.reshape(-1, value.shape[-1])
    ids = [token for token, is_there in zip(rows[0].tolist(), (rows[-1] != 0).tolist(), strict=True) if is_there]
    more = f"… ({len(ids)} tokens)" if len(ids) > _MOST_TOKENS else ""
    if pieces:
        text = "".join(pieces[token] if token < len(pieces) else "?" for token in ids[:_MOST_TOKENS])
        return f"{text} {more}".strip()
    return f"tokens {', '.join(map(str, ids[:_MOST_TOKENS]))}{f', {more}' if more else ''}"


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
