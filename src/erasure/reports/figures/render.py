"""Figures as SVG for the page, and as SVG, PNG and PDF files with their data."""

from __future__ import annotations

import functools
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from erasure.durable import write_atomically
from erasure.errors import MissingDependency
from erasure.reports.exports import csv_bytes
from erasure.reports.figures.figure import Figure
from erasure.reports.figures.fonts import find_fonts
from erasure.reports.figures.theme import variables_of

__all__ = ["FORMATS", "inline_svg", "is_small", "plain_svg", "write_figures"]

FORMATS = ("svg", "png", "pdf")
_VERSION = "5.20"
_ROOT = re.compile(r"<svg\b[^>]*>")
_SIZE = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_ROLES = re.compile(r' (?:role|aria-[a-z]+)="[^"]*"')
_PNG_SCALE = 2.0
_SCALE, _SMALL_SCALE = 1.2, 1.35
"""Of figures on a wide page."""
_SMALL = 400
"""Width of a small figure in pixels, at most."""
_LONGEST_TEXT = 300
_PERHAPS_LONG = re.compile(rf'[^"]{{{_LONGEST_TEXT + 1}}}')


def _converter() -> Any:
    try:
        import vl_convert
    except ImportError as error:
        raise MissingDependency("vl-convert-python", "report", "drawing figures") from error
    find_fonts(vl_convert)
    return vl_convert


def _drawable(value: Any) -> Any:
    """A specification without characters that no XML may hold: at one of them the renderer ends the process."""
    if value is None or isinstance(value, float | int):
        return value
    if isinstance(value, Mapping):
        return {key: _drawable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_drawable(inner) for inner in value]
    if isinstance(value, str):
        text = value[:_LONGEST_TEXT]
        return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return value


def _written(spec: Mapping[str, Any]) -> str:
    """A specification as JSON that can be drawn."""
    text = json.dumps(spec, ensure_ascii=False)
    # Nearly all hold plain text only, which is seen at once in the whole: a backslash stands before each character that JSON escapes.
    is_plain = text.isprintable() and "\\" not in text and _PERHAPS_LONG.search(text) is None
    return text if is_plain else json.dumps(_drawable(spec))


@functools.lru_cache(maxsize=64)
def _drawn(spec: str, converter: Any) -> str:
    """The SVG of a specification; one that is on several pages is drawn once."""
    return str(converter.vegalite_to_svg(spec, vl_version=_VERSION))


def is_small(figure: Figure) -> bool:
    """Whether a figure has room on a phone, and so two of them beside each other on a wide page.

    Raises:
        MissingDependency: If the renderer is not installed.
        ValueError: If the renderer cannot draw it.
    """
    return figure.narrow is None and _size(_drawn(_written(figure.spec), _converter()))[0] <= _SMALL


def inline_svg(figure: Figure, identifier: str, *, narrow: bool = False) -> str:
    """A figure for the page: colours follow its theme, names inside are unique, and a screen reader says what it is.

    Args:
        figure: The figure.
        identifier: Start of the names.
        narrow: As on a small screen.

    Raises:
        MissingDependency: If the renderer is not installed.
        ValueError: If the renderer cannot draw it.
    """
    svg = _drawn(_written(figure.narrow or figure.spec if narrow else figure.spec), _converter())
    svg = _ROLES.sub("", svg)  # the figure speaks as a whole, by its title and its table of data
    svg = svg.replace('id="', f'id="{identifier}-').replace("url(#", f"url(#{identifier}-")
    width, height = _size(svg)
    scale = 1.0 if narrow else _SMALL_SCALE if is_small(figure) else _SCALE
    title = html.escape(_drawable(f"{figure.title}. {figure.alt}"))
    drawn = f'viewBox="0 0 {width:g} {height:g}" width="{scale * width:.0f}" height="{scale * height:.0f}"'
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-labelledby="{identifier}-title" {drawn}><title id="{identifier}-title">{title}</title>'
    )
    return variables_of(_ROOT.sub(lambda _: root, svg, count=1))


def _size(svg: str) -> tuple[float, float]:
    found = _SIZE.search(svg)
    return (float(found[1]), float(found[2])) if found else (600.0, 400.0)


def plain_svg(figure: Figure) -> str:
    """A figure with a white background and its own colours, for where our page is not around it.

    Raises:
        MissingDependency: If the renderer is not installed.
        ValueError: If the renderer cannot draw it.
    """
    return _drawn(_written({**figure.spec, "background": "white"}), _converter())


def write_figures(figures: Iterable[Figure], directory: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write each figure in each format, and its data as CSV.

    Args:
        figures: The figures.
        directory: Where to; made if need be.
        formats: Some of ``svg``, ``png`` and ``pdf``.

    Raises:
        MissingDependency: If the renderer is not installed.
        StoreError: If a file cannot be written.
    """
    converter = _converter()
    written = []
    for figure in figures:
        spec = _written({**figure.spec, "background": "white"})
        for kind in formats:
            path = Path(directory) / f"{figure.key}.{kind}"
            options = {"scale": _PNG_SCALE} if kind == "png" else {}
            made = getattr(converter, f"vegalite_to_{kind}")(spec, vl_version=_VERSION, **options)
            write_atomically(path, made.encode() if isinstance(made, str) else made)
            written.append(path)
        path = Path(directory) / f"{figure.key}.csv"
        write_atomically(path, csv_bytes(figure.data))
        written.append(path)
    return written
