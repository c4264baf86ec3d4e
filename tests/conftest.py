"""Fixtures that tests of every folder share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quantize.demo_data import DigitsDataset, write_digits_dataset

# These look at the same runs of most of a minute, which each process would make anew.
_LONG_RUNS = {f"tests/end_to_end/test_{name}.py" for name in ("commands", "demo", "real_model")}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where tests run side by side: a file stays together, and so do those that look at the same runs.

    Marks for `--dist=loadgroup` would say so too, but pytest 9.2 does not hand on the names that they give.
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "long runs" if file in _LONG_RUNS else file

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The checkout that these tests belong to."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir(project_root: Path) -> Path:
    """The real model and images beside the checkout (or where QUANTIZE_SHARED says); skips without them."""
    folder = Path(os.environ.get("QUANTIZE_SHARED") or project_root.parent / "shared")
    missing = [
        name
        for name in ("models/mobilenetv2-12.onnx", "imagenet-sample/val.txt")
        if not (folder / name).is_file()
    ]
    if missing:
        pytest.skip(f"needs the real model and images: {folder / missing[0]} is absent (set QUANTIZE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DigitsDataset:
    """All pictures of the bundled example, which are only read."""
    return write_digits_dataset(tmp_path_factory.mktemp("digits") / "set")


@pytest.fixture
def checkout(project_root: Path, tmp_path: Path) -> Path:
    """A copy of the scripts and what they read, without any Python package, in a path with a space."""
    folder = (tmp_path / "check out").resolve()
    shutil.copytree(
        project_root / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__")
    )
    for path in (
        *project_root.glob("run_*.sh"),
        project_root / "pyproject.toml",
        *project_root.glob("requirements*.lock"),
    ):
        shutil.copy(path, folder / path.name)
    return folder


@pytest.fixture(autouse=True, scope="session")
def _no_users_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept between runs goes to a temporary folder, also that of child processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
