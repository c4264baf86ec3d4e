"""Channels are moved before the refinement where that helps, and what follows sees the moved model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quantize.ranges.collect
import quantize.refining
from quantize.config import Config
from quantize.data import Data, load_data
from quantize.demo_data import write_digits_dataset
from quantize.measuring import measure_ranges
from quantize.pipeline import tune
from quantize.ranges import collect_extremes
from quantize.refine import AUTO
from quantize.refining import Begun, begin_refinement
from quantize.session import make_session, outputs
from quantize.source import Source, read_source
from quantize.stages import Stages
from tests.quantize.sensitivity_runs import config_of

MODEL = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits-mobilenetv2.onnx"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return config_of(write_digits_dataset(tmp_path_factory.mktemp("digits") / "set").root, effort="fast")


@pytest.fixture(scope="module")
def source(config: Config) -> Source:
    return read_source(MODEL, config)


@pytest.fixture(scope="module")
def data(config: Config, source: Source) -> Data:
    return load_data(config, source.signature, progress=False)


def begun(config: Config, source: Source, data: Data) -> Begun:
    stages = Stages("quiet")
    return begin_refinement(config, source, data, measure_ranges(config, source, data, stages), stages)


def centring(begun: Begun) -> Any:
    """What is reported of the pass."""
    assert begun.refiner is not None
    operators = {operator.name: True for operator in begun.source.inventory.quantizable}
    tensors = {t for operator in begun.source.inventory.quantizable for t in operator.tensors}
    _, report = begun.refiner.refine(operators, dict.fromkeys(sorted(tensors), AUTO))
    found = report.passes[0]
    assert found.name == "centre"
    return found


def test_channels_are_moved_where_it_helps(config: Config, source: Source, data: Data) -> None:
    result = begun(config, source, data)
    report = centring(result)
    assert report.status == "applied"
    assert report.after.kl < report.before.kl
    images, _ = next(iter(data.evaluation))
    before, after = (
        outputs(make_session(one.prepared, threads=1), images) for one in (source, result.source)
    )
    np.testing.assert_allclose(after, before, atol=1e-4)
    assert result.source.prepared != source.prepared


@pytest.mark.parametrize("known", [7, 10_000])
def test_ranges_are_those_of_the_moved_model(
    known: int, config: Config, source: Source, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the channels of all images are known, or only of the first seven."""
    monkeypatch.setattr(quantize.ranges.collect, "CHANNEL_IMAGES", known)
    result = begun(config, source, data)
    found = result.ranges.extremes
    measured = collect_extremes(result.source.prepared, list(found.lows), data.calibration, threads=1)
    for tensor in found.lows:
        # A float32 rounding error of the largest number in the sum.
        slack = 1e-5 * (measured.highs[tensor].max() - measured.lows[tensor].min())
        np.testing.assert_allclose(found.lows[tensor], measured.lows[tensor], atol=slack)
        np.testing.assert_allclose(found.highs[tensor], measured.highs[tensor], atol=slack)
    assert result.ranges.scale(next(iter(found.lows)), "kl").scale > 0  # histograms, of the moved model


def test_what_harms_is_taken_back(
    config: Config, source: Source, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = quantize.refining.moves_of

    def far_apart(*given: Any) -> Any:
        return {t: move + 50 * (np.arange(len(move)) % 2) for t, move in true(*given).items()}

    monkeypatch.setattr(quantize.refining, "moves_of", far_apart)
    result = begun(config, source, data)
    report = centring(result)
    assert report.status == "taken back"
    assert report.after.kl > report.before.kl
    assert result.source is source


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"refine.centre": False}, "switched off"),
        ({"refine.effort": "none"}, None),
    ],
)
def test_it_can_be_left_out(
    change: dict[str, object], words: str | None, config: Config, source: Source, data: Data
) -> None:
    result = begun(config.with_overrides(change), source, data)
    assert result.source is source
    assert not result.ranges.extremes.channel_lows
    if words is None:
        assert result.refiner is None
    else:
        report = centring(result)
        assert (report.status, report.what) == ("skipped", words)
        assert report.before == report.after


def test_it_says_so_where_nothing_can_be_moved(
    config: Config, source: Source, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize.refining, "moves_of", lambda *_: {})
    assert "narrower" in centring(begun(config, source, data)).what
    monkeypatch.setattr(quantize.refining, "find_streams", lambda _: [])
    assert "padding" in centring(begun(config, source, data)).what


def test_the_job_ships_and_explains_the_moved_model(config: Config, tmp_path: Path) -> None:
    """The report compares tensors with the moved fp32 model; beside the other, moved ones would be noise."""
    result = tune(MODEL, config, tmp_path / "out")
    passes = result.report["tuning"]["refinement"]["passes"]
    assert [passes[0]["name"], passes[0]["status"]] == ["centre", "applied"]
    tensors = result.report["diagnosis"]["signal"]["tensors"]
    assert min(one["sqnr_db"] for one in tensors) > 10
