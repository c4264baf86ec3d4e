"""A command line whose commands only note down what they were asked."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

from quantize.cli import main
from quantize.config import Config

PROJECT = Path(__file__).parents[2]


class Recorder:
    """Stands in for `quantize.pipeline` and `quantize.demo`: remembers calls, answers as told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answer: int | BaseException = 0

    def _record(self, name: str, *args: Any, **kwargs: Any) -> int:
        self.calls.append((name, args, kwargs))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def run_tune(self, *args: Any, **kwargs: Any) -> types.SimpleNamespace:
        return types.SimpleNamespace(exit_code=self._record("tune", *args, **kwargs))

    def run_demo(self, *args: Any, **kwargs: Any) -> types.SimpleNamespace:
        return types.SimpleNamespace(exit_code=self._record("demo", *args, **kwargs))

    def run_evaluate(self, *args: Any, **kwargs: Any) -> int:
        return self._record("evaluate", *args, **kwargs)

    def run_benchmark(self, *args: Any, **kwargs: Any) -> int:
        return self._record("benchmark", *args, **kwargs)

    @property
    def config(self) -> Config:
        config = self.calls[-1][1][0]
        assert isinstance(config, Config)
        return config


TUNE = ["tune", "--input_model=a model.onnx", "--config=c.yaml", "--output_model=out"]
MEASURE = ["--input_model", "a model.onnx", "--config", "c.yaml"]


def failed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    assert main(list(arguments)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err.removeprefix("error: ").strip()
