"""Runs of the whole program, made once and looked at by many tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Run:
    """A finished run of the command line."""

    code: int
    stdout: str
    stderr: str
    folder: Path

    @property
    def report(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        return content

    def model(self, suffix: str) -> Path:
        """The one model in the output folder whose name ends so."""
        (found,) = self.folder.glob(f"*{suffix}.onnx")
        return found


Runner = Callable[..., Run]


@pytest.fixture(scope="session")
def run_program(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Runs `python -m quantize tune` as a user would, beside a folder of its own or for a file in one."""

    def run(*arguments: str | Path, folder: Path | None = None, file: Path | None = None) -> Run:
        folder = file.parent if file else folder or tmp_path_factory.mktemp("out put")
        environment = {**os.environ, "PYTHONPATH": str(project_root), "NO_COLOR": "1"}
        command = [
            sys.executable,
            "-m",
            "quantize",
            "tune",
            *map(str, arguments),
            "--output_model",
            str(file or folder),
        ]
        done = subprocess.run(
            command, cwd=folder.parent, env=environment, capture_output=True, text=True, check=False
        )
        return Run(done.returncode, done.stdout, done.stderr, folder)

    return run


@pytest.fixture(scope="session")
def demo(run_program: Runner) -> Run:
    """The bundled example, as `run_tuning.sh --demo` runs it."""
    return run_program("--demo", "--threads=2")


@pytest.fixture(scope="session")
def real_data(shared_dir: Path) -> list[str]:
    """The flags that name the real model and the real images."""
    return [
        f"--input_model={shared_dir / 'models/mobilenetv2-12.onnx'}",
        f"--dataset_location={shared_dir / 'imagenet-sample/images'}",
        f"--label_path={shared_dir / 'imagenet-sample/val.txt'}",
    ]


@pytest.fixture(scope="session")
def flagship(run_program: Runner, real_data: list[str]) -> Run:
    """The real MobileNetV2 on the real images, with the shipped configuration."""
    return run_program(*real_data, "--config=mobilenetv2.yaml")


@pytest.fixture(scope="session")
def engine_alone(run_program: Runner, real_data: list[str]) -> Run:
    """The same without refinement."""
    return run_program(*real_data, "--config=mobilenetv2.yaml", "--refine=none", "--no_html")
