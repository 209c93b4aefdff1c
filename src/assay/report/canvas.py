"""Pictures: matplotlib figures drawn to SVG text, for light and dark pages alike.

Only matplotlib's object interface is used, so that nothing global is touched, and no
display is needed.
"""

from __future__ import annotations

import base64
import functools
import io
from dataclasses import dataclass
from typing import Any

from assay.errors import MissingDependency
from assay.report import words

__all__ = ["COLOURS", "INK", "MARKERS", "MUTED", "Picture", "draw", "figure", "label", "log_axis", "tidy"]

INK, MUTED, _GRID = "#24292f", "#6e7781", "#d8dee4"
# Okabe and Ito 2008: told apart by colour-blind readers.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "D", "^", "v", "P")
_FEW_DECADES = 100
_DARK = {
    INK: "#e6edf3",
    MUTED: "#9da7b3",
    _GRID: "#30363d",
    "#0072b2": "#4ba3e3",
    "#d55e00": "#f28c4b",
    "#009e73": "#2fc79b",
}


@dataclass(frozen=True)
class Picture:
    """A finished picture.

    Parameters
    ----------
    key
        File name without ending.
    title, caption
        What it shows, and how to read it.
    svg
        SVG text.
    """

    key: str
    title: str
    caption: str
    svg: str

    @property
    def data_uri(self) -> str:
        """The picture as an address that needs no file; images cannot run scripts."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


def figure(width: float, height: float) -> Any:
    """Return an empty matplotlib figure, sizes in inches.

    Raises
    ------
    MissingDependency
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = "reports need matplotlib; install it with: pip install 'assay-ml[report]'"
        raise MissingDependency(msg) from error
    return Figure(figsize=(width, height), layout="constrained")


def tidy(axes: Any, *, grid: str = "x") -> None:
    """Remove what carries no data, and draw the rest quietly."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.tick_params(which="both", colors=MUTED, labelcolor=INK, labelsize=9)
    axes.xaxis.label.set(color=INK, size=9.5)
    axes.yaxis.label.set(color=INK, size=9.5)
    axes.title.set(color=INK, size=10)
    if grid:
        axes.grid(visible=True, axis=grid, color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def log_axis(axes: Any, low: float, high: float, *, margin: float = 1.6) -> None:
    """Make x logarithmic from a little below ``low`` to a little above ``high``, with labels that fit."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    axes.set_xlim(low / margin, high * margin)
    axes.xaxis.set_minor_formatter(NullFormatter())
    if high < _FEW_DECADES * low:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def label(text: str, longest: int = 26) -> str:
    r"""Return a name that matplotlib draws as it stands: no formulas, no characters that its font lacks.

    Examples
    --------
    >>> label("$x$ \u6f22")
    '\\$x\\$ ?'
    """
    known = _glyphs()
    plain = "".join(c if ord(c) in known else "?" for c in words.name(text, longest))
    return plain.replace("$", r"\$")


def draw(fig: Any, key: str, title: str, caption: str) -> Picture:
    """Return the figure as a picture, the same text for the same data."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.hashsalt": key, "svg.fonttype": "path"}):
        fig.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    start = out.getvalue().index("<svg")
    head, body = out.getvalue()[start:].split(">", 1)
    return Picture(key, title, caption, f"{head}>\n<style>{_dark_style()}</style>{body}")


def _dark_style() -> str:
    # Overrides by attribute: where a viewer ignores them the light picture remains.
    rules = "".join(
        f'[style*="{part}: {light}"]{{{part}:{dark}!important}}'
        for light, dark in _DARK.items()
        for part in ("fill", "stroke")
    )
    return f"@media (prefers-color-scheme: dark){{{rules}}}"


@functools.cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())
