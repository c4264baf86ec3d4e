"""The report for people: what it says, in which order, and that no name that a user gives can break it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest

from quantize.report.build import SCHEMA_PATH, report_text
from quantize.report.pages import render_html, render_markdown
from quantize.report.view import command_of
from tests.quantize.report.samples import HOSTILE, PIXEL, TAME, report, thumbnails

SECTIONS = ["verdict", "outcome", "causes", "images", "making"]

# What a page of ours may hold, and nothing else: no script, no frame, no form, no way out.
ELEMENTS = set(
    re.findall(
        r"\w+",
        "html head meta title link style body main section footer article details summary h1 h2 h3 h4 p b br "
        "span div code pre ol li figure figcaption img table thead tbody tr th td svg g defs path rect text "
        "tspan use clippath",
    )
)
EMPTY = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """Reads a page: elements, their attributes, text; and whether all that opens is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


@pytest.mark.parametrize("names", [TAME, HOSTILE], ids=["tame", "hostile"])
@pytest.mark.parametrize("looked", [True, False])
def test_the_report_fits_its_schema(make_verification: Any, names: list[str], looked: bool) -> None:
    made = report(make_verification(), names, looked=looked)
    schema = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    jsonschema.validate(made, schema)
    text = report_text(made)
    assert json.loads(text) == json.loads(json.dumps(made))
    assert text.encode("utf-8")


def test_questions_are_answered_in_order(tame: dict[str, Any], tame_page: str) -> None:
    page = Page(tame_page)
    assert [attributes["id"] for attributes in page.all("section")] == SECTIONS
    places = [
        page.words.index(words)
        for words in (
            "Can I ship",
            tame["verdict"]["sentence"].removeprefix("PASS: "),
            "Criterion: relative decline of top-1 at most 1 %",
            "What it cost and what it won",
            "Where the error comes from",
            "Which images changed their mind",
            "How it was made",
            "python -m quantize tune",
        )
    ]
    assert places == sorted(places)


def test_every_figure_is_there(tame_page: str) -> None:
    page = Page(tame_page)
    for text in (
        "84.00 %",
        "0.60 %",
        "97.50 %",
        "13.97",
        "3.67 MB",
        "1.47x",
        "53 of 53",
        "46 of 400 images",
        "10 lost, 6 won, 30 wrong both times",
        "24 of them are shown",
        "because of block_0/conv",
        "a note on block_0/conv",
    ):
        assert text in page.words, text
    labels = {attributes["aria-label"] for attributes in page.all("svg") if "aria-label" in attributes}
    ranges = {label for label in labels if label.startswith("Distribution of ")}
    assert len(ranges) == 6
    assert len(labels - ranges) == 6  # declines, size, latency, throughput, sensitivity, signal-to-noise


@pytest.mark.parametrize(
    ("given", "caption", "head"),
    [
        ({}, "One thread, batches of 32 images; the models took turns", "batches of 32"),
        (
            {"fixed_batch": 1},
            "One thread, batches of 1 image, the only size that the model takes; the models took turns",
            "batches of 1",
        ),
    ],
)
def test_throughput_says_how_it_was_measured(
    given: dict[str, Any], caption: str, head: str, make_verification: Any
) -> None:
    made = report(make_verification(**given), TAME)
    page, text = Page(render_html(made, {})), render_markdown(made)
    assert caption in page.words
    for row in (f"images per second, {head}", "250", f"speed-up in {head}", "2.08x"):
        assert row in page.words
        assert row in text
    assert caption.partition(";")[0].replace("One", "one") in text


def test_flags_and_units_stay_on_their_line(make_verification: Any) -> None:
    made = report(make_verification(), TAME)
    made["diagnosis"]["sensitivity_origin"] = "Run again with --measure_sensitivity <b>."
    text = render_html(made, {})
    assert 'Run again with <span class="flag">--measure_sensitivity</span> &lt;b&gt;.' in text
    assert "at most 1\u00a0%" in text


def test_what_a_bar_to_the_left_means_is_told_where_there_is_one(
    make_verification: Any, tame_page: str
) -> None:
    assert "A bar to the left" not in Page(tame_page).words
    made = report(make_verification(), TAME)
    made["tuning"]["sensitivity_nats"][TAME[0]] = -0.001
    assert "A bar to the left" in Page(render_html(made, {})).words


def test_the_command_is_a_flag_a_line_and_the_same(make_verification: Any) -> None:
    made = report(make_verification(), TAME)
    command = [
        "python",
        "-m",
        "quantize",
        "tune",
        "--input_model=my model.onnx",
        "--metric",
        "top1",
        "--json",
    ]
    made["run"]["command"] = command
    shown = command_of(made)
    assert shown.splitlines() == [
        "python -m quantize tune \\",
        "    '--input_model=my model.onnx' \\",
        "    --metric top1 \\",
        "    --json",
    ]
    # What a shell makes of a line that ends in a backslash.
    assert shlex.split(shown.replace("\\\n", "")) == command
    made["run"]["command"] = []
    assert command_of(made) == ""


def test_throughput_that_was_not_measured(make_verification: Any) -> None:
    made = report(make_verification(timed_batches=False), TAME)
    assert made["throughput"] is None
    assert "images per second" not in Page(render_html(made, {})).words
    assert "throughput not measured" in render_markdown(made)


def test_the_page_asks_nobody_for_anything(hostile_page: str) -> None:
    page = Page(hostile_page)
    assert {tag for tag, _ in page.elements} <= ELEMENTS
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (
            tag,
            attributes,
        )
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            value = attributes.get(name)
            assert value is None or value in (PIXEL, "data:,") or value.startswith("#"), (tag, value)
    assert "@import" not in hostile_page
    assert not re.search(r"url\((?!#)", hostile_page)


def test_the_policy_forbids_everything_but_our_style_and_images(hostile_page: str) -> None:
    text = hostile_page
    (policy,) = [
        attributes["content"]
        for attributes in Page(text).all("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    sheets = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(sheets) == 1
    digest = base64.b64encode(hashlib.sha256(sheets[0].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_hostile_names_are_shown_and_do_nothing(hostile_page: str) -> None:
    text = hostile_page
    assert text.encode("utf-8")  # half characters would not pass
    page = Page(text)
    assert "document.title='owned'" in page.words  # as text
    assert "script" not in {tag for tag, _ in page.elements}
    assert len(page.all("style")) == 1
    assert len(page.all("img")) == len(thumbnails(len(HOSTILE)))
    assert "{{ 7 * 7 }} {% raw %}" in page.words
    assert "$\\frac{1}{0}$" in page.words
    assert "\\x1b[31mred\\x07\\x00" in page.words
    assert "\\u202eturned\\u2028line" in page.words
    assert "caf\\udce9 \\udcff.jpg" in page.words
    assert "名前 🐱 ümläut" in page.words
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)


def test_names_are_unique_in_the_page(tame_page: str) -> None:
    page = Page(tame_page)
    found = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(found) == len(set(found))
    links = [a["href"][1:] for tag, a in page.elements if tag == "use"]
    clips = [a["clip-path"][5:-1] for _, a in page.elements if "clip-path" in a]
    assert links
    assert clips
    assert set(links) | set(clips) <= set(found)


def test_the_same_report_gives_the_same_bytes(tame: dict[str, Any], tame_page: str) -> None:
    assert render_html(tame, thumbnails(24)) == tame_page
    assert render_markdown(tame) == render_markdown(tame)


def test_a_report_of_which_little_is_known(make_verification: Any) -> None:
    made = report(make_verification(formats=("QDQ",), lost=30), TAME, looked=False)
    made["run"] |= {"command": [], "packages": {}, "stages": [], "started_at": ""}
    made["run"]["platform"] = {"cpu": "", "cpu_features": [], "cpu_count": 1, "machine": "m"} | {
        "system": "s",
        "python": "3",
    }
    made["tuning"] |= {"fp32_operators": [], "trials": [], "sensitivity_nats": {}}
    made["models"]["int8"]["QDQ"]["path"] = None
    page = Page(render_html(made))
    assert [attributes["id"] for attributes in page.all("section")] == SECTIONS
    assert "FAIL" in page.words
    assert "Not measured." in page.words
    assert "not kept" in page.words
    assert "Nobody looked." in page.words
    assert "**FAIL**" in render_markdown(made)


def test_what_is_undefined_is_a_dash(make_verification: Any) -> None:
    made = report(make_verification(), TAME)
    for artefact in made["models"]["int8"].values():
        for metric in ("top1", "top5"):
            artefact["decline"][metric]["relative_fraction"] = {"estimate": None, "low": None, "high": None}
    page = Page(render_html(made))
    assert "declines" not in " ".join(a.get("aria-label", "").lower() for a in page.all("svg"))
    assert "| top-1 decline, relative | - | - | - |" in render_markdown(made)


# Markdown.


def test_markdown_says_the_same_in_the_same_order(tame: dict[str, Any]) -> None:
    text = render_markdown(tame)
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads == [
        "# Can I ship `conv` as int8?",
        "## What it cost and what it won",
        "## Where the error comes from",
        "### Sensitivity of the operators",
        "### Signal-to-noise along the network",
        "### Operators left in fp32",
        "## Which images changed their mind",
        "## How it was made",
    ]
    assert f"**PASS**: {tame['verdict']['sentence'].removeprefix('PASS: ')}" in text
    assert "| agreement with fp32 | - | 97.50 % | 97.50 % |" in text
    assert "10 lost, 6 won, 30 wrong both times" in text


def unescaped_cells(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line)) - 1


@pytest.mark.parametrize("names", [TAME, HOSTILE], ids=["tame", "hostile"])
def test_tables_of_markdown_are_whole(make_verification: Any, names: list[str]) -> None:
    text = render_markdown(report(make_verification(), names))
    assert text.encode("utf-8")
    lines, in_code, width, tables = text.splitlines(), False, 0, 0
    for line in lines:
        if line.startswith("```"):
            in_code = not in_code
        if in_code or not line.startswith("|"):
            width = 0
            continue
        tables += not width
        width = width or unescaped_cells(line)
        assert unescaped_cells(line) == width, line
    assert tables >= 5


def test_hostile_names_start_nothing_in_markdown(hostile: dict[str, Any]) -> None:
    text = render_markdown(hostile)
    outside = re.sub(r"(?ms)^(`{3,}).*?^\1$", "", text)  # blocks of code show anything as it is
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", outside)  # and so do code spans
    assert "<" not in outside
    assert not re.search(r"(?<!\\)\]\(", outside)
    assert not re.search(r"(?<!\\):\/\/", outside)
    assert [line for line in outside.splitlines() if line.startswith("# ")] == ["# Can I ship  as int8?"]
