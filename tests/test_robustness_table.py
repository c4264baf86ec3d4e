"""docs/robustness.md is what the tests say, and markers that make no row are refused."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
SCRIPT = PROJECT / "scripts" / "robustness_table.py"

# The markers of the made-up tests below, which are not the project's.
CONFIGURATION = "[pytest]\nmarkers =\n    robustness(area, done, does, times=1): a row\n"
TESTS = """
import pytest

@pytest.mark.robustness("Faults", "a disk that fills up", "keeps what was there", times=20)
@pytest.mark.parametrize("size", [1, 2])
def test_full(size): ...

@pytest.mark.parametrize("name", [
    pytest.param("a", marks=pytest.mark.robustness("Models", "names <b>|*a_b*| & `x`", "refuses [it](x)")),
    pytest.param("b", marks=pytest.mark.robustness(area="Models", done="a loop", does="refuses it")),
])
def test_names(name): ...

@pytest.mark.robustness("Faults", "a disk that fills up", "keeps what was there")
def test_full_again(): ...

def test_nothing(): ...
"""


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
    )


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    folder = tmp_path / "made up"
    folder.mkdir()
    (folder / "pytest.ini").write_text(CONFIGURATION, encoding="utf-8")
    (folder / "test_full_disk.py").write_text(TESTS, encoding="utf-8")
    return folder


def test_the_page_is_what_the_tests_say() -> None:
    done = run("--check")
    assert done.returncode == 0, done.stderr


def test_rows_are_grouped_and_added_up_and_escaped(made_up: Path) -> None:
    page = made_up / "page.md"
    assert run("--check", "--tests", made_up, "--page", page).returncode == 1
    assert not page.exists()
    assert run("--tests", made_up, "--page", page).returncode == 0
    text = page.read_text(encoding="utf-8")
    assert text.index("## Models") < text.index("## Faults")
    assert [line for line in text.splitlines() if line.startswith("| ") and "What is done" not in line] == [
        r"| names \<b\>\|\*a\_b\*\| &amp; \`x\` | refuses \[it\]\(x\) | 1 "
        r"| [test\_full\_disk](test_full_disk.py) |",
        r"| a loop | refuses it | 1 | [test\_full\_disk](test_full_disk.py) |",
        r"| a disk that fills up | keeps what was there | 41 | [test\_full\_disk](test_full_disk.py) |",
    ]
    assert run("--check", "--tests", made_up, "--page", page).returncode == 0
    page.write_text(text.replace("41", "42"), encoding="utf-8")
    stale = run("--check", "--tests", made_up, "--page", page)
    assert stale.returncode == 1
    assert "out of date" in stale.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"area": "Weather"}, "area 'Weather' is none of"),
        ({"does": "stays dry."}, "without a full stop"),
        ({"done": ""}, "done ''"),
        ({"done": "rain\nand wind"}, "one line"),
        ({"times": 0}, "times 0"),
        ({"times": True}, "times True"),
        ({"often": 2}, "often"),
    ],
)
def test_arguments_that_make_no_row_are_refused(arguments: dict[str, object], part: str) -> None:
    given = {"area": "Models", "done": "rain", "does": "stays dry", **arguments}
    with pytest.raises((TypeError, ValueError), match=part):
        runpy.run_path(str(SCRIPT))["row_of"](**given)


def test_a_wrong_marker_is_an_error_that_names_the_test(made_up: Path) -> None:
    (made_up / "test_full_disk.py").write_text(
        'import pytest\n\n@pytest.mark.robustness("Models", "rain")\ndef test_it(): ...\n', encoding="utf-8"
    )
    done = run("--tests", made_up, "--page", made_up / "page.md")
    assert done.returncode == 2
    assert "test_full_disk.py::test_it" in done.stderr
    assert "does" in done.stderr
    assert not (made_up / "page.md").exists()


@pytest.mark.parametrize(
    "content", ["import no_such_module", "import pytest\npytest.skip('x', allow_module_level=True)"]
)
def test_a_file_that_cannot_be_collected_is_an_error(made_up: Path, content: str) -> None:
    (made_up / "test_other.py").write_text(content, encoding="utf-8")
    done = run("--tests", made_up, "--page", made_up / "page.md")
    assert done.returncode == 2
    assert "test_other.py is not collected" in done.stderr
