"""Escaping for Markdown."""

from __future__ import annotations

import pytest

from quantize.report.markdown import block, code, escaped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("top-1 declines 1.18 % (tolerated 1.50 %)", "top-1 declines 1.18 % (tolerated 1.50 %)"),
        ("a|b*c_d`e[f]", r"a\|b\*c\_d\`e\[f\]"),
        ("<b>&\"'", "&lt;b&gt;&amp;&#34;&#39;"),
        ("two\nlines\r\n\tand  spaces", "two lines and spaces"),
        ("# no heading", r"\# no heading"),
        ("- no item", r"\- no item"),
        ("12. no item", r"12\. no item"),
        ("12 is no item", "12 is no item"),
        ("> no quote", r"\&gt; no quote"),
        ("http://x www.x", r"http\://x www\.x"),
        ("back\\slash", r"back\\slash"),
        ("", ""),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert str(escaped(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name", "`name`"),
        ("a`b", "``a`b``"),
        ("`a``", "``` `a`` ```"),
        ("a|b", r"`a\|b`"),
        ("a\nb", "`a b`"),
        ("<b>", "`<b>`"),
        ("", ""),
    ],
)
def test_code_spans(text: str, expected: str) -> None:
    assert str(code(text)) == expected


def test_the_fence_is_longer_than_any_inside() -> None:
    assert str(block("a\n````\nb\n")) == "`````\na\n````\nb\n`````"
    assert str(block("x")) == "```\nx\n```"
