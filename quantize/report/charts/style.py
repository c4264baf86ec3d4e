"""What the roles of the charts look like, in light and in dark, in the page and on their own."""

from __future__ import annotations

# Contrast of 4.5 and more on the page's background for all that is text, in both schemes.
LIGHT = {
    "ink": "#1b1f24",
    "muted": "#59636e",
    "grid": "#d8dee4",
    "fp32": "#8a94a0",
    "int8": "#1f62b4",
    "second": "#b35c00",
    "bad": "#b42318",
    "good": "#1a7f37",
}
DARK = {
    "ink": "#e6e9ed",
    "muted": "#a0a9b3",
    "grid": "#363c44",
    "fp32": "#8b95a1",
    "int8": "#6fb1f5",
    "second": "#f0a24a",
    "bad": "#ff8078",
    "good": "#5fc977",
}


def variables(colours: dict[str, str]) -> str:
    """CSS declarations of the colours."""
    return "".join(f"--{role}:{colour};" for role, colour in colours.items())


def rules() -> str:
    """CSS rules that colour the classes of the charts."""
    return "".join(f".{prop}-{role}{{{prop}:var(--{role})}}" for prop in ("fill", "stroke") for role in LIGHT)


def standalone(svg: str) -> str:
    """A chart as a file of its own, which brings its colours, its font and a background."""
    sheet = (
        f"svg{{{variables(LIGHT)}background:#fff;font-family:sans-serif}}"
        f"@media(prefers-color-scheme:dark){{svg{{{variables(DARK)}background:#14171b}}}}{rules()}"
    )
    head, mark, rest = svg.partition(">")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}{mark}<style>{sheet}</style>{rest}\n'
