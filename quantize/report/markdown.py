"""Text that others wrote, made safe for Markdown: it shows what it is, and starts nothing."""

from __future__ import annotations

import re

from markupsafe import Markup

# Characters that begin or end something in GitHub's Markdown, wherever they stand in a line.
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|~>:@/])")
_BACKTICKS = re.compile(r"`+")


def escaped(value: object) -> Markup:
    """Words in a line or a cell of a table: HTML is escaped first, then everything that Markdown reads.

    `:` `@` and `/` are among that, because addresses become links without any mark-up.
    """
    html = str(Markup.escape(str(value)))
    # An entity's own `#` (of `&#39;`) must stay.
    parts = re.split(r"(&(?:#\d+|[a-z]+);)", html)
    text = "".join(part if number % 2 else _SPECIAL.sub(r"\\\1", part) for number, part in enumerate(parts))
    return Markup(" ".join(text.split()))


def code(value: object) -> Markup:
    """A code span; for names, which are shown letter by letter. Tables need `|` escaped even there."""
    text = " ".join(str(value).split()).replace("|", "\\|")
    if not text:
        return Markup("")
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return Markup(f"{fence}{space}{text}{space}{fence}")


def block(value: object) -> Markup:
    """A fenced block of code; its fence is longer than any that the text holds."""
    text = str(value).rstrip("\n")
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=0)
    fence = "`" * max(longest + 1, 3)
    return Markup(f"{fence}\n{text}\n{fence}")
