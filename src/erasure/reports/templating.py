"""Pages from templates: everything that is put into one is text, whatever it looks like."""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from erasure.errors import MissingDependency

__all__ = ["render", "template_text", "with_options"]

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Control characters, half characters, and those that turn the direction of the text around them."""

_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*(?: \d[\d,-]*)?")

_HOME = "erasure.reports"


def render(
    template: str, purpose: str, *, filters: Mapping[str, Callable[..., Any]], package: str = _HOME, **content: Any
) -> str:
    """A page as HTML.

    Args:
        template: File name of the template.
        purpose: What is being done, for the message where the library is missing.
        filters: Functions of the template by name.
        package: Package whose folder ``templates`` has the template.
        content: Names of the template; text in them is escaped, and characters that nobody sees are replaced.

    Raises:
        MissingDependency: If what pages are made with is not installed.
    """
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingDependency("jinja2", "report", purpose) from error
    text = _compiled(template, package, tuple(filters.items())).render(**content)
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


@functools.lru_cache(maxsize=16)
def _compiled(template: str, package: str, filters: tuple[tuple[str, Callable[..., Any]], ...]) -> Any:
    """The template as a program; to compile it takes longer than to fill it in, and a page is asked for again and again."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: template_text(name, package)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({"with_options": with_options, **dict(filters)})
    return environment.get_template(template)


def with_options(text: str) -> str:
    """Text as escaped HTML in which options of the command line, such as ``--seeds 0-4``, stand out and are not broken."""
    return _OPTION.sub(r'<code class="whole">\g<0></code>', html.escape(text))


def template_text(name: str, package: str = _HOME) -> str:
    """A file of a package's folder ``templates``, as it is."""
    return (resources.files(package) / "templates" / name).read_text("utf-8")
