"""The page in a real browser: nothing to complain of, nothing asked for, and readable on every screen."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quantize.report.pages import render_html
from tests.quantize.report.samples import HOSTILE, TAME, report, thumbnails
from tests.quantize.report.test_pages import SECTIONS

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
]
# What a browser's setting "light" or "dark" becomes inside the engine.
SCHEMES = {"dark": "0", "light": "1"}


@dataclass(frozen=True)
class Seen:
    stdout: str
    console: list[str]
    network: str


class Browser:
    def __init__(self, program: str, folder: Path) -> None:
        self._program, self._folder, self._count = program, folder, 0

    def open(self, page: Path, *flags: str) -> Seen:
        self._count += 1
        own = self._folder / str(self._count)
        own.mkdir()
        log = own / "network.json"
        done = subprocess.run(
            [
                self._program,
                *QUIET,
                f"--user-data-dir={own / 'profile'}",
                f"--log-net-log={log}",
                *flags,
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
            check=True,
        )
        console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        return Seen(done.stdout, console, log.read_text(encoding="utf-8", errors="replace"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(NAMES)} is on PATH (Debian: apt install chromium)")
    return Browser(program, tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def page(make_verification: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hostile names and tame ones: the former break what the latter fill."""
    names = [*HOSTILE, *TAME]
    path = tmp_path_factory.mktemp("page") / "report.html"
    made = render_html(report(make_verification(), names), thumbnails(24))
    path.write_text(made, encoding="utf-8")
    return path


def test_the_console_would_tell(browser: Browser, tmp_path: Path) -> None:
    """What the next test relies on: a page that breaks its own policy is heard of."""
    page = tmp_path / "bad.html"
    policy = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">"
    page.write_text(f"<!doctype html>{policy}<style>p {{}}</style><p style='color: red'>x")
    assert browser.open(page, "--dump-dom").console


def test_every_section_is_there_and_nothing_is_complained_of(browser: Browser, page: Path) -> None:
    seen = browser.open(page, "--dump-dom")
    assert seen.console == []
    places = [seen.stdout.index(f'<section id="{name}"') for name in SECTIONS]
    assert places == sorted(places)
    assert "<title>PASS: int8 report</title>" in seen.stdout  # nobody changed it
    assert "127.0.0.1:9" not in seen.network
    assert "example.org" not in seen.network


@pytest.mark.parametrize("size", [(390, 9000), (1200, 5000)], ids=["phone", "desktop"])
def test_it_fits_the_screen_in_light_and_dark(
    size: tuple[int, int], browser: Browser, page: Path, tmp_path: Path
) -> None:
    width, height = size
    shown = {}
    for scheme, setting in SCHEMES.items():
        shot = tmp_path / f"{scheme}.png"
        seen = browser.open(
            page,
            f"--blink-settings=preferredColorScheme={setting}",
            f"--window-size={width},{height}",
            f"--screenshot={shot}",
        )
        assert seen.console == []
        shown[scheme] = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    for scheme, pixels in shown.items():
        assert pixels.shape == (height, width, 3)
        margin = pixels[:, -3:]
        assert np.abs(margin - margin[0, 0]).max() == 0, f"{scheme}: something reaches beyond the right edge"
        background = margin[0, 0].mean()
        assert background < 60 if scheme == "dark" else background > 200
        # Text is there, and stands out from what it is written on.
        contrast = np.abs(pixels.mean(axis=2) - background)
        assert (contrast > 120).mean() > 0.005


def test_it_prints(browser: Browser, page: Path, tmp_path: Path) -> None:
    paper = tmp_path / "report.pdf"
    seen = browser.open(page, f"--print-to-pdf={paper}", "--no-pdf-header-footer")
    assert seen.console == []
    assert paper.read_bytes().startswith(b"%PDF-")
