"""Folders in which the renderer of figures looks for fonts.

It carries Liberation Sans, in which our figures are set. Where the same fonts are installed it takes those instead, and opens their file
for each letter whose width it needs: ten thousand times for a figure of small panels, half of what drawing it costs. Folders that hold
nothing but these fonts are therefore left out of its search; whatever else is installed, for labels in other scripts, it still finds.
"""

from __future__ import annotations

import functools
import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from html import escape, unescape
from pathlib import Path
from typing import Any

__all__ = ["find_fonts", "folders_without_carried"]

_CONFIGURATIONS = ("/etc/fonts/fonts.conf", "/etc/fonts/local.conf")
_MORE_CONFIGURATIONS = "/etc/fonts/conf.d"
_FOLDER = re.compile(r"<dir\b([^>]*)>([^<]+)</dir>")
_VARIABLE = "FONTCONFIG_FILE"
_SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
_CARRIED, _FAMILY = "LiberationSans-", "Liberation"
_MAX_DEPTH = 8


@functools.cache
def find_fonts(converter: Any) -> None:
    """Let the renderer look for fonts, which it does once in a process, in the folders that are worth it.

    Args:
        converter: The module ``vl_convert``, which nothing has been drawn with yet.
    """
    with suppress(OSError, UnicodeError, RuntimeError):  # the last where a folder is in the home of a user without one
        folders = None if _VARIABLE in os.environ else folders_without_carried(_configured())
        if folders is None:
            return
        with tempfile.TemporaryDirectory(prefix="erasure-") as empty:
            lines = "".join(f"<dir>{escape(folder)}</dir>" for folder in folders or [empty])
            file = Path(empty) / "fonts.conf"
            file.write_text(f'<?xml version="1.0"?><fontconfig>{lines}</fontconfig>', "utf-8")
            os.environ[_VARIABLE] = str(file)
            try:
                converter.register_font_directory(empty)  # looks through the others first
            finally:
                del os.environ[_VARIABLE]


def folders_without_carried(roots: Iterable[str]) -> list[str] | None:
    """Folders that together have every font below ``roots`` but those that the renderer carries.

    Args:
        roots: Folders, which need not exist.

    Returns:
        The folders, each to be taken with all below it; None if nothing can be left out, or not without other fonts.
    """
    found = [_kept(root, 0) for root in dict.fromkeys(roots) if Path(root).is_dir()]
    if any(kept is None for kept, _ in found) or all(is_whole for _, is_whole in found):
        return None
    return [folder for kept, _ in found for folder in kept or ()]


def _kept(folder: str, depth: int) -> tuple[list[str] | None, bool]:
    """Folders to take in the place of ``folder``, None if it mixes fonts, and whether it is taken whole."""
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    below = [_kept(entry.path, depth + 1) for entry in entries if depth < _MAX_DEPTH and entry.is_dir()]
    fonts = [file for file in (entry.name for entry in entries) if file.lower().endswith(_SUFFIXES)]
    has_carried = any(file.startswith(_CARRIED) for file in fonts)
    if not has_carried and all(is_whole for _, is_whole in below):
        return [folder], True
    others = [file for file in fonts if not (has_carried and file.startswith(_FAMILY))]
    if others or any(kept is None for kept, _ in below):
        return None, False
    return [inner for kept, _ in below for inner in kept or ()], False


def _configured() -> list[str]:
    """Folders that the system's configuration names; none where one of them is meant in a way that we do not know."""
    files = [Path(each) for each in _CONFIGURATIONS] + sorted(Path(_MORE_CONFIGURATIONS).glob("*.conf"))
    folders = []
    for file in files:
        for attributes, name in _FOLDER.findall(file.read_text("utf-8") if file.is_file() else ""):
            path = Path(unescape(name.strip())).expanduser()
            if 'prefix="xdg"' in attributes:
                path = Path(os.environ.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser()) / path
            elif attributes.strip() not in {"", 'prefix="default"'}:
                return []
            folders.append(str(path))
    return folders
