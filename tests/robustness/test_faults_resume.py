"""`--resume`: finished work is reused, changes no byte, and is not believed if it is damaged or another's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

import quantize
from calibration.store import Store
from quantize import judging, measuring
from quantize.cli import main
from quantize.config import SHIPPED_FOLDER, load_config
from quantize.diagnose.options import ReportOptions
from quantize.errors import InputError
from quantize.pipeline import TuningResult
from quantize.refine import refiner
from quantize.report.volatile import steady
from quantize.work import KIND
from tests.robustness.programs import Program

Tune = Callable[..., TuningResult]


@pytest.fixture
def tune(tiny: Path, tmp_path: Path) -> Tune:
    overrides = {"refine.effort": "fast", "cache.dir": tmp_path / "cache", "threads": 2}

    # Pages and charts are none of the work that is kept, and most of a small run's time.
    def run(*, pages: bool = False, **changes: object) -> TuningResult:
        given = {key.replace("__", "."): value for key, value in changes.items()}
        return quantize.tune(
            tiny / "net.onnx",
            tiny / "c.yaml",
            tmp_path / "out",
            overrides={**overrides, **given},
            report=ReportOptions(pages=pages),
        )

    return run


@pytest.fixture
def work_done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was really done, a word each."""
    done: list[str] = []

    def noting(module: Any, name: str) -> None:
        real = getattr(module, name)

        def call(*arguments: Any, **more: Any) -> Any:
            result = real(*arguments, **more)
            done.append(name)
            return result

        monkeypatch.setattr(module, name, call)

    noting(measuring, "collect_extremes")
    noting(refiner, "run_passes")
    return done


def same(first: TuningResult, second: TuningResult) -> bool:
    return steady(first.report) == steady(second.report)


def bytes_of(result: TuningResult) -> dict[str, bytes]:
    return {kind: path.read_bytes() for kind, path in result.models.items()}


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob(f"*.{KIND}"))


@pytest.mark.robustness(
    "Faults",
    "run again with --resume after a run with the same settings",
    "ranges, refinement and accuracy are reused, and models and report are the same but for times",
)
@pytest.mark.parametrize("effort", ["none", "fast", "full"])
def test_finished_trials_are_reused(effort: str, tune: Tune, work_done: list[str]) -> None:
    pages = effort == "full"
    first = tune(refine__effort=effort, pages=pages)
    assert first.report["run"]["reused"] == {"trials": [], "pieces": 0, "saved_s": 0.0}
    models = bytes_of(first)
    done = len(work_done)
    assert done >= 1
    second = tune(refine__effort=effort, tuning__resume=True, pages=pages)
    assert len(work_done) == done
    assert second.report["run"]["reused"]["trials"] == [1]
    assert second.report["run"]["reused"]["saved_s"] > 0
    assert bytes_of(second) == models
    assert same(first, second)
    # Nothing else asks for it: by default everything is done anew.
    tune(refine__effort=effort)
    assert len(work_done) == 2 * done


@pytest.mark.robustness(
    "Faults",
    "interrupted in the middle of a trial's refinement, then run again with --resume",
    "the variants that were finished are reused, and the models are those of an undisturbed run",
)
def test_parts_of_a_trial_are_reused(
    tune: Tune, work_done: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One thread refines one variant after the other.
    whole = tune(refine__effort="full", threads=1)
    (tmp_path / "cache").rename(tmp_path / "other")
    expected, needed = bytes_of(whole), work_done.count("run_passes")
    assert needed > 2
    work_done.clear()
    noted = refiner.run_passes

    def interrupted(*arguments: Any, **more: Any) -> Any:
        if work_done.count("run_passes") == 2:
            raise KeyboardInterrupt
        return noted(*arguments, **more)

    monkeypatch.setattr(refiner, "run_passes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(refine__effort="full", threads=1)
    monkeypatch.setattr(refiner, "run_passes", noted)
    assert bytes_of(whole) == expected, "what was there before is intact"
    work_done.clear()
    resumed = tune(refine__effort="full", tuning__resume=True, threads=1)
    assert work_done == ["run_passes"] * (needed - 2)
    assert resumed.report["run"]["reused"]["trials"] == []
    assert bytes_of(resumed) == expected
    assert same(whole, resumed)


@pytest.mark.robustness(
    "Faults",
    "interrupted in the third trial of a search, then run again with --resume",
    "the first two trials are reused, and trials, models and report are those of an undisturbed run",
)
@pytest.mark.parametrize("effort", ["none", "fast"])
def test_a_search_goes_on_where_it_was(
    effort: str, tune: Tune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not met by int8 throughout, so that operators go back to fp32, one by one.
    wanted = {"refine__effort": effort, "tuning__accuracy_criterion": {"relative": 0.0}}
    whole = tune(**wanted)
    trials = len(whole.report["tuning"]["trials"])
    assert trials > 2
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    (tmp_path / "cache").rename(tmp_path / "other")
    judged, real = 0, judging.evaluate

    def interrupted(*arguments: Any, **more: Any) -> Any:
        nonlocal judged
        judged += 1
        if judged == 3:
            raise KeyboardInterrupt
        return real(*arguments, **more)

    monkeypatch.setattr(judging, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(**wanted)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    judged = 10
    resumed = tune(tuning__resume=True, **wanted)
    # Two trials may come to the same model, which is then judged once.
    assert 0 < judged - 10 <= trials - 2
    assert resumed.report["run"]["reused"]["trials"][:2] == [1, 2]
    assert bytes_of(resumed) == bytes_of(whole)
    assert same(whole, resumed)


@pytest.mark.robustness(
    "Faults",
    "run again with --resume and --start_from",
    "the refinement is reused if the file has the same bytes, and only then",
)
def test_refining_a_given_model_is_resumed(tiny: Path, tune: Tune, tmp_path: Path) -> None:
    first = tune(refine__effort="none")
    given = tmp_path / "given.onnx"
    given.write_bytes(first.models["QDQ"].read_bytes())

    def restart(name: str, *, resume: bool) -> TuningResult:
        overrides = {"refine.effort": "fast", "cache.dir": tmp_path / "cache", "tuning.resume": resume}
        return quantize.tune(
            tiny / "net.onnx",
            tiny / "c.yaml",
            tmp_path / name,
            overrides=overrides,
            start_from=given,
            report=ReportOptions(pages=False),
        )

    whole, resumed = restart("a", resume=False), restart("b", resume=True)
    assert resumed.report["run"]["reused"]["trials"] == [1]
    assert bytes_of(resumed) == bytes_of(whole)
    model = onnx.load(given)
    model.doc_string = "another file"
    onnx.save(model, given)
    assert restart("c", resume=True).report["run"]["reused"]["trials"] == []


@pytest.mark.robustness(
    "Faults",
    "finished work in the cache is cut short, emptied, or has one bit flipped",
    "it is taken for absent and done again, and the models are the same",
)
@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "of another key", "not ours inside"])
def test_damaged_work_is_not_believed(damage: str, tune: Tune, work_done: list[str], tmp_path: Path) -> None:
    expected = bytes_of(tune())
    done = len(work_done)
    contents = [path.read_bytes() for path in entries(tmp_path / "cache")]
    for path, content in zip(entries(tmp_path / "cache"), contents, strict=True):
        if damage == "cut":
            path.write_bytes(content[:-1])
        elif damage == "empty":
            path.write_bytes(b"")
        elif damage == "flipped":
            middle = len(content) // 2
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        elif damage == "of another key":
            path.write_bytes(contents[contents.index(content) - 1])
        else:
            store = Store(tmp_path / "cache", limit_bytes=10**9, warn=pytest.fail)
            array = store.get(KIND, path.stem)
            assert array is not None
            store.put(KIND, path.stem, array[: len(array) // 2].copy())
    again = tune(tuning__resume=True)
    assert again.report["run"]["reused"]["pieces"] == 0
    assert len(work_done) == 2 * done
    assert bytes_of(again) == expected


@pytest.mark.robustness(
    "Faults",
    "--resume after a run with another model, other images, settings, seed, code or package versions",
    "nothing of that run is reused",
)
@pytest.mark.parametrize(
    "change",
    [
        {"tuning__random_seed": 1},
        {"quantization__target": "vnni"},
        {"refine__gain": False},
        {"quantization__calibration__sampling_size": 29},
        {"evaluation__accuracy__sampling_size": 35},
        "image",
        "package",
        "code",
        "processor",
    ],
    ids=lambda change: change if isinstance(change, str) else next(iter(change)),
)
def test_work_of_other_settings_is_not_reused(
    change: Any, tune: Tune, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune()
    picture = tiny / "images" / "000.png"
    content = picture.read_bytes()
    try:
        if change == "image":
            picture.write_bytes(content + b"\0")
            change = {}
        elif change == "package":
            monkeypatch.setattr("quantize.resuming.package_versions", lambda *_: {"numpy": "0"})
            change = {}
        elif change == "code":
            monkeypatch.setattr("quantize.resuming._own_digest", lambda: "other")
            change = {}
        elif change == "processor":
            monkeypatch.setattr("quantize.resuming.cpu", lambda: ("other", []))
            change = {}
        resumed = tune(tuning__resume=True, **change)
    finally:
        picture.write_bytes(content)
    assert resumed.report["run"]["reused"] == {"trials": [], "pieces": 0, "saved_s": 0.0}


def test_a_longer_search_reuses_the_trials_of_a_shorter_one(tune: Tune) -> None:
    """How often to try, and how much may be lost, is nothing that a trial depends on."""
    tune(tuning__exit_policy__max_trials=1)
    more = {"tuning__exit_policy__max_trials": 5, "evaluation__accuracy__metric": {"topk": 1}}
    assert tune(tuning__resume=True, **more).report["run"]["reused"]["trials"] == [1]


def test_reused_work_takes_the_time_that_it_took(
    tune: Tune, monkeypatch: pytest.MonkeyPatch, work_done: list[str]
) -> None:
    first = tune()
    second = tune(tuning__resume=True)
    took = [one.report["tuning"]["trials"][0]["duration_s"] for one in (first, second)]
    assert took[1] >= second.report["run"]["reused"]["saved_s"] * 0.5
    assert took[1] >= first.report["tuning"]["refinement"]["duration_s"]


def test_the_program_says_that_there_is_something_to_reuse(
    program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = program.flags("--refine=none", "--no_html")
    said = []
    for more in ([], [], ["--resume"]):
        assert main(["tune", *flags, *more]) == 0
        said.append(capsys.readouterr().err)
    hint = "left finished work; --resume would reuse it"
    assert [hint in text for text in said] == [False, True, False]
    assert "meets the criterion (finished by an earlier run)" in said[2]
    assert main(["cache", "info", f"--cache_dir={program.cache}"]) == 0
    assert "pieces of finished work, which --resume reuses" in capsys.readouterr().out
    assert main(["cache", "clear", f"--cache_dir={program.cache}"]) == 0
    assert entries(program.cache) == []


@pytest.mark.robustness(
    "Faults",
    "--resume where nothing is kept: with --no_cache, cache.enabled: false, or --demo without --cache_dir",
    "refused before any work, exit code 2, with the cure",
)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--no_cache", "--resume"], "--no_cache and --resume contradict each other; keep one"),
        (["--resume"], "give it to both runs"),
    ],
)
def test_resume_needs_a_place(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["tune", "--demo", f"--output_model={tmp_path / 'out'}", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.robustness(
    "Faults",
    "--resume where nothing is kept: with --no_cache, cache.enabled: false, or --demo without --cache_dir",
    "refused before any work, exit code 2, with the cure",
)
def test_resume_without_a_cache_in_the_file() -> None:
    config = load_config(SHIPPED_FOLDER / "demo_digits.yaml")
    with pytest.raises(InputError, match=r"tuning\.resume and cache\.enabled: false contradict"):
        config.with_overrides({"tuning.resume": True, "cache.enabled": False})


def test_resume_is_no_part_of_what_determines_the_result() -> None:
    config = load_config(SHIPPED_FOLDER / "demo_digits.yaml")
    assert config.with_overrides({"tuning.resume": True}).config_hash() == config.config_hash()
    assert json.loads(config.to_canonical_json())["search"].keys().isdisjoint({"resume"})
