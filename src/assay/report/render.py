"""Templates to text: what every report does with names that somebody else chose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from assay.errors import MissingDependency
from assay.report import words

__all__ = ["escape_markdown", "printable", "render"]

_LONGEST = 10_000
_MARKDOWN_MARKS = "\\`*_{}[]()#+!|<>~$&"


def render(template: str, finalize: Callable[[Any], Any], **values: Any) -> str:
    """Return a template of this package with its values filled in.

    Parameters
    ----------
    template
        File name.
    finalize
        Applied to every value printed: `printable` for HTML, `escape_markdown` for Markdown.

    Raises
    ------
    MissingDependency
        If jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        msg = "reports need jinja2; install it with: pip install 'assay-ml[report]'"
        raise MissingDependency(msg) from error
    environment = Environment(
        loader=PackageLoader("assay.report"),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        part: getattr(words, part) for part in ("count", "interval", "name", "number", "p_value", "value")
    }
    return environment.get_template(template).render(**values)


def printable(value: Any) -> Any:
    r"""Remove from text what reorders or hides other text; the template engine escapes the rest.

    Examples
    --------
    >>> printable("a\u202eb"), printable(3)
    ('a�b', 3)
    """
    return words.name(value, _LONGEST) if type(value) is str else value


def escape_markdown(text: Any) -> Any:
    r"""Put a backslash before every character that Markdown or HTML would interpret.

    Examples
    --------
    >>> print(escape_markdown("<b>a|b</b>"))
    \<b\>a\|b\</b\>
    """
    from markupsafe import Markup

    if isinstance(text, Markup):  # what a macro wrote is Markdown already
        return text
    plain = words.name(str(text), _LONGEST)
    return Markup("".join("\\" + c if c in _MARKDOWN_MARKS else c for c in plain))  # noqa: S704 - escaped here
