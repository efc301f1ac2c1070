"""Configuration files on disk: found by the two rules of ``compose``, read as UTF-8, every failure in words."""

from __future__ import annotations

import itertools
from pathlib import Path

from erasure.errors import ConfigError, Diagnostic, Position, nearest

__all__ = ["MAX_BYTES", "find", "missing", "read_text"]

MAX_BYTES = 32 * 2**20
"""A larger file is no configuration but data named by mistake."""


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        ConfigError: If the file is missing, unreadable, a directory, binary, larger than ``MAX_BYTES`` or not UTF-8.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError([missing(str(path), [path])]) from None
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _unreadable(path, f"{path} cannot be read: {cause.lower()}") from error
    if len(data) > MAX_BYTES:
        raise _unreadable(path, f"{path} is larger than {MAX_BYTES // 2**20} MiB", "is it data?")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _unreadable(path, f"{path} is UTF-16, expected UTF-8", "save it as UTF-8")
    if b"\0" in data:
        raise _unreadable(path, f"{path} is a binary file, expected JSON text")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line_start = data.rfind(b"\n", 0, error.start) + 1
        column = len(data[line_start : error.start].decode()) + 1
        position = Position(str(path), data.count(b"\n", 0, error.start) + 1, column)
        message = f"not UTF-8 text: byte 0x{data[error.start]:02X}"
        raise ConfigError([Diagnostic(message, position=position, hint="save the file as UTF-8", kind="syntax")]) from None


def find(reference: str, beside: str) -> tuple[Path | None, list[Path]]:
    """The file that a composed path means.

    A file is looked for relative to the working directory, then relative to the file that names it, then to each folder above that:
    published files name others from the root of their repository. A path whose letters differ in case alone is taken where it is the
    only one, as on systems that do not tell them apart.

    Args:
        reference: The path as written.
        beside: The file it is written in.

    Returns:
        The file, None if there is none, and the places tried: relative to the working directory, then relative to ``beside``.
    """
    folder = Path(beside).parent
    places = list(dict.fromkeys((Path(reference), folder / reference)))
    above = [parent / reference for parent in _absolute(folder).parents]
    found = next((place for place in (*places, *above) if _is_there(place)), None)
    if found is None:
        found = next(
            (other for place in (*places, *above) if (other := _in_other_letters(place, Path(reference))) is not None), None
        )
    return found, places


def _absolute(folder: Path) -> Path:
    try:
        return folder.resolve()
    except (OSError, RuntimeError, ValueError):
        return folder


def _in_other_letters(place: Path, reference: Path) -> Path | None:
    """The file at ``place`` if the last parts, those of ``reference``, may be written in upper or lower case."""
    found = place
    for _ in reference.parts:
        found = found.parent
    try:
        for part in reference.parts:
            same = [entry for entry in found.iterdir() if entry.name.casefold() == part.casefold()]
            if part in {".", ".."} or len(same) != 1:
                return None
            (found,) = same
    except (OSError, ValueError):
        return None
    return found if _is_there(found) else None


def missing(reference: str, places: list[Path]) -> Diagnostic:
    """The problem of a file that is in none of ``places``, with the nearest name that exists."""
    tried = " or ".join(str(place) for place in places)
    where = f" (tried {tried})" if len(places) > 1 else ""
    hints = [hint for hint in (_nearest_name(place) for place in places) if hint]
    return Diagnostic(f'no file "{reference}"{where}', hint=hints[0] if hints else "", kind="structure")


def _unreadable(path: Path, message: str, hint: str = "") -> ConfigError:
    return ConfigError([Diagnostic(message, position=Position(str(path)), hint=hint, kind="structure")])


def _is_there(place: Path) -> bool:
    try:
        return place.exists() and not place.is_dir()
    except (OSError, ValueError):  # names that are too long, directories that may not be searched, a null character
        return False


def _nearest_name(place: Path) -> str:
    """``did you mean …?`` for the first part of a path that does not exist, among the names beside it."""
    try:
        for directory, step in itertools.pairwise([*reversed(place.parents), place]):
            part = step.name
            names = [entry.name for entry in directory.iterdir()]
            if part not in names and part != "..":
                # What all names end in makes none of them nearer.
                stems = {Path(name).stem: name for name in names}
                hint = nearest(part, names) if nearest(Path(part).stem, stems) else ""
                return f"{hint} (in {directory})" if hint and len(place.parts) > 1 else hint
    except (OSError, ValueError):
        pass
    return ""
