"""`report.html` and `report.md`: the report for people, made of the values of `report.json` and nothing else.

The page asks nobody for anything: one file, no script, charts and images inside, and a policy that says so.
Whatever comes from outside (names of files, classes, operators, the command line) is escaped where it is put.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from quantize.diagnose.thumbnails import Thumbnail
from quantize.report import markdown, view
from quantize.report.charts import style
from quantize.report.figures import figures

# Escaping leaves it as it is.
_FLAG = re.compile(r"--[a-z]\w+")

# Place of an image in `diagnosis.changed_images.shown` -> its thumbnail.
Thumbnails = Mapping[int, Thumbnail]


def render_html(report: Mapping[str, Any], thumbnails: Thumbnails | None = None) -> str:
    """The page.

    Args:
        report: as `build_report` makes it.
        thumbnails: those that there are.
    """
    safe = view.cleaned(report)
    sheet = _stylesheet()
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode("ascii")
    return (
        _environment("html")
        .get_template("report.html.j2")
        .render(
            **_facts(safe),
            # The style sheet is this package's own, and nothing of it comes from outside.
            stylesheet=Markup(sheet),
            stylesheet_digest=digest,
            figures={name: Markup(svg) for name, svg in figures(safe).items()},
            thumbnails=dict(thumbnails or {}),
        )
    )


def compile_templates() -> None:
    """Makes the templates ready, which is most of the time that the first page takes."""
    for kind in ("html", "md"):
        _environment(kind).get_template(f"report.{kind}.j2")


def render_markdown(report: Mapping[str, Any]) -> str:
    """The same as text."""
    text = _environment("md").get_template("report.md.j2").render(**_facts(view.cleaned(report)))
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _facts(report: Mapping[str, Any]) -> dict[str, Any]:
    head, rows = view.outcome_table(report)
    diagnosis = report.get("diagnosis")
    return {
        "report": report,
        "criterion": str(view.criterion_of(report)),
        "tiles": view.tiles(report),
        "head": head,
        "rows": rows,
        "diagnosis": diagnosis,
        "throughput_conditions": view.throughput_conditions(report),
        "sensitivity": view.ranked_sensitivity(report),
        "fallbacks": [one for one in report["tuning"]["fp32_operators"] if one["fallback"]],
        "never_integer": [one for one in report["tuning"]["fp32_operators"] if not one["fallback"]],
        "command": view.command_of(report),
        "configuration": view.configuration_of(report),
    }


@cache
def _environment(kind: str) -> Environment:
    made = Environment(
        loader=PackageLoader("quantize.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"percent": view.percent, "number": view.number, "synonym": view.synonym}
    made.filters |= {"unbroken": _unbroken}
    if kind == "md":
        made.filters |= {"text": markdown.escaped, "code": markdown.code, "block": markdown.block}
    return made


def _unbroken(value: object) -> Markup:
    """Escaped text whose flags (--name) and numbers with their unit (1.5 %) stay on one line."""
    text = str(Markup.escape(str(value))).replace(" %", "\u00a0%")
    return Markup(_FLAG.sub(r'<span class="flag">\g<0></span>', text))


def _stylesheet() -> str:
    source, _, _ = PackageLoader("quantize.report").get_source(_environment("html"), "report.css")
    light, dark = style.variables(style.LIGHT), style.variables(style.DARK)
    scheme = f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"
    # Paper is white, whatever the screen is.
    paper = f"@media print{{:root{{{light}--page:#fff;--card:#fff}}}}\n"
    return f"{scheme}{source}\n{style.rules()}\n{paper}"
