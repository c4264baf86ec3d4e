"""Text that others wrote, made safe for Markdown: it shows what it is, and starts nothing."""

from __future__ import annotations

import re

from markupsafe import Markup

# What begins or ends something in the middle of a line of GitHub's Markdown, and what makes a link of words
# that look like an address.
_SPECIAL = re.compile(r"([\\`*_\[\]|~]|:(?=//)|(?<=www)\.)")

# What does so at its beginning: headings, quotes, lists.
_AT_START = re.compile(r"^(?:[#+=-]|&gt;|\d+(?=[.)]))")
_BACKTICKS = re.compile(r"`+")


def escaped(value: object) -> Markup:
    """Words in a line or a cell of a table: HTML is escaped first, then what Markdown would read."""
    text = _SPECIAL.sub(r"\\\1", " ".join(str(Markup.escape(str(value))).split()))
    begins = _AT_START.match(text)
    if begins is None:
        return Markup(text)
    # Of "12." the point is what makes a list.
    place = begins.end() if begins.group().isdigit() else 0
    return Markup(f"{text[:place]}\\{text[place:]}")


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
