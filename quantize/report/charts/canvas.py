"""Draws with matplotlib, and makes of what it writes SVG that fits into a page.

Matplotlib's own SVG brings colours, a style sheet that would hold for the whole page, and names that repeat.
Here colours are drawn as codes, and become classes that the page's style sheet colours for light and dark; no
`style` is left, so that a page may forbid inline styles; and names get the chart's own prefix.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from quantize.printable import printable

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

# Role -> the colour that it is drawn in. The page decides what it looks like; see `style.py`.
INK, MUTED, GRID, FP32, INT8, SECOND, BAD, GOOD = (f"#00000{digit}" for digit in range(1, 9))
_ROLES: Mapping[str, str] = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    FP32: "fp32",
    INT8: "int8",
    SECOND: "second",
    BAD: "bad",
    GOOD: "good",
}

# One point of a figure is one CSS pixel of the page, where the page shows it in its own size.
_POINTS_PER_INCH = 72

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"

# What XML 1.0 cannot hold at all; `printable` has spelled out the rest of the control characters.
_DECLARATION = re.compile(r"([a-z-]+)\s*:\s*([^;]+)")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")

# Properties that are kept, as attributes; fonts are the page's.
_KEPT = frozenset(
    {
        "fill-opacity",
        "fill-rule",
        "font-size",
        "font-weight",
        "opacity",
        "stroke-dasharray",
        "stroke-dashoffset",
        "stroke-linecap",
        "stroke-linejoin",
        "stroke-opacity",
        "stroke-width",
        "text-anchor",
    }
)

_SETTINGS: Mapping[str, Any] = {
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "figure.facecolor": "none",
    "font.size": 10.5,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "quantize",
    "text.color": INK,
    # Names of operators are no formulas, whatever dollar signs they hold.
    "text.parse_math": False,
    "text.usetex": False,
    "xtick.color": MUTED,
    "xtick.labelsize": 10,
    "xtick.major.size": 0,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 10,
    "ytick.major.size": 0,
}


class Canvas:
    """One figure, with the text that pointing at its parts shows."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self._tips: dict[str, list[str]] = {}

    def tip(self, artist: Artist, text: str) -> None:
        """Shows `text` while the pointer rests on `artist`."""
        self.tips(artist, [text])

    def tips(self, artist: Artist, texts: Sequence[str]) -> None:
        """The same for each marker of a line, in their order; for an artist of one part, one text."""
        key = f"tip{len(self._tips)}"
        artist.set_gid(key)
        self._tips[key] = [printable(text) for text in texts]

    def svg(self, name: str, description: str) -> str:
        """The figure as an `svg` element.

        Args:
            name: letters and digits, unique in the page.
            description: what a reader who cannot see it is told.
        """
        stream = io.StringIO()
        with warnings.catch_warnings():
            # Matplotlib's own font lacks a glyph; text is drawn by the reader's fonts, which have more.
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            self._settle_layout()
            self.figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        root = ElementTree.fromstring(stream.getvalue().encode("utf-8"))
        root = _cleaned(root, name, self._tips)
        root.attrib["role"] = "img"
        root.attrib["aria-label"] = printable(description)
        return ElementTree.tostring(root, encoding="unicode")

    def _settle_layout(self) -> None:
        """Places everything, once: `savefig` would draw all of it without looking at it, and then again."""
        engine = self.figure.get_layout_engine()
        if engine is not None:
            engine.execute(self.figure)
        self.figure.set_layout_engine(None)


@contextlib.contextmanager
def canvas(width_pixels: float, height_pixels: float) -> Iterator[Canvas]:
    """A new figure in our style, whatever the user's own matplotlib is set to."""
    load()
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = dict(_SETTINGS)  # its keys are typed as one large literal
        matplotlib.rcParams.update(settings)
        size = (width_pixels / _POINTS_PER_INCH, height_pixels / _POINTS_PER_INCH)
        figure = Figure(figsize=size, dpi=_POINTS_PER_INCH, layout="constrained")
        FigureCanvasSVG(figure)  # whose measures of text hold for the layout
        yield Canvas(figure)


def load() -> None:
    """Imports what a canvas needs; a third of a second the first time."""
    with _hushed(), _without_backend():
        import matplotlib.backends.backend_svg
        import matplotlib.figure  # noqa: F401


@contextlib.contextmanager
def _without_backend() -> Iterator[None]:
    """Imports matplotlib although MPLBACKEND may name what it does not know; files need no backend.

    Whoever draws with it afterwards, in a notebook, gets the backend that they asked for, if there is one.
    """
    wanted = os.environ.get("MPLBACKEND")
    if wanted is None or "matplotlib" in sys.modules:
        yield
        return
    del os.environ["MPLBACKEND"]
    try:
        yield
        with contextlib.suppress(ValueError):
            sys.modules["matplotlib"].rcParams["backend"] = wanted
    finally:
        os.environ["MPLBACKEND"] = wanted


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """While it is imported, matplotlib would announce on stderr where it puts its cache of fonts."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def short(text: str, characters: int) -> str:
    """Printable text of at most so many characters; of a longer one the end, where names differ."""
    safe = printable(text)
    return safe if len(safe) <= characters else "…" + safe[len(safe) - characters + 1 :]


def _cleaned(root: ElementTree.Element, name: str, tips: Mapping[str, Sequence[str]]) -> ElementTree.Element:
    """Removes metadata and style sheets, turns styles into attributes and classes, and makes names unique."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        _give_titles(element, tips.get(element.get("id", ""), ()))
        if "id" in element.attrib:
            element.set("id", f"{name}-{element.attrib['id']}")
        if _LINK in element.attrib:
            element.set("href", f"#{name}-{element.attrib.pop(_LINK)[1:]}")
        if "clip-path" in element.attrib:
            element.set("clip-path", _REFERENCE.sub(rf"url(#{name}-\1)", element.attrib["clip-path"]))
        _restyle(element)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
    root.set("xmlns", _SVG)
    for size in ("width", "height"):
        root.set(size, root.attrib[size].removesuffix("pt"))
    return root


def _give_titles(element: ElementTree.Element, texts: Sequence[str]) -> None:
    """A title for an element, or one for each of its markers."""
    parts = [element] if len(texts) == 1 else [part for part in element.iter(f"{{{_SVG}}}use") if texts]
    for part, text in zip(parts, texts, strict=True):
        title = ElementTree.Element(f"{{{_SVG}}}title")
        title.text = text
        part.insert(0, title)


def _restyle(element: ElementTree.Element) -> None:
    classes = []
    for prop, value in _DECLARATION.findall(element.attrib.pop("style", "")):
        colour = value.strip()
        if prop in ("fill", "stroke"):
            if colour in _ROLES:
                classes.append(f"{prop}-{_ROLES[colour]}")
            else:
                element.set(prop, colour)
        elif prop in _KEPT:
            element.set(prop, colour)
        elif prop == "font":
            # "10.5px 'DejaVu Sans', …", perhaps with a weight before the size
            size = re.search(r"([\d.]+)px", colour)
            element.set("font-size", size.group(1) if size else "10")
    if classes:
        element.set("class", " ".join(classes))
