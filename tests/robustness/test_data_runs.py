"""Whole runs on sets with bad images or with hostile names: stopped before the work, or told to the end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from calibration import prepared
from calibration.store import Store
from quantize.cli import main
from quantize.config import Config
from quantize.data import Data, load_data
from quantize.errors import InputError
from tests.quantize.image_samples import CLASSES, TRANSFORM
from tests.robustness import bad_files
from tests.robustness.runs import COUNT, EXTENT, SIGNATURE


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _text(path: Path) -> None:
    path.write_text("not an image")


def _bomb(path: Path) -> None:
    path.write_bytes(bad_files.png(60_000, 60_000))


def _missing(path: Path) -> None:
    path.unlink()


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _small(path: Path) -> None:
    Image.new("RGB", (3, 3)).save(path)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (_empty, "is empty, damaged, or no image"),
    "truncated": (_truncated, "cannot be decoded"),
    "text": (_text, "is empty, damaged, or no image"),
    "a bomb": (_bomb, "exceeds limit"),
    "missing": (_missing, "there is no such image file"),
    "a folder": (_folder, "Is a directory"),
    "a pipe": (_pipe, "is a pipe"),
    "smaller than the crop": (_small, "cannot crop"),
}


def loaded(config: Path, **changes: object) -> Data:
    read = Config.from_mapping(json.loads(config.read_text()))
    crop = {"CenterCrop": {"size": EXTENT}, **TRANSFORM}
    cropping = {"quantization.calibration.dataloader.transform": crop}
    named = {f"images.{name}": value for name, value in changes.items()}
    return load_data(
        read.with_overrides({**cropping, **named}),
        SIGNATURE,
        progress=False,
    )


def victim(images: Path, number: int = 0) -> Path:
    return sorted(images.glob("*/*.png"))[number]


def role_files(data: Data) -> list[set[str]]:
    assert data.judging is not None
    return [set(loader.images.files) for loader in (data.calibration, data.judging, data.evaluation)]


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(
            how,
            marks=pytest.mark.robustness(
                "Data",
                f"One of {COUNT} images is {how}",
                "The run stops before the work, and says how many are bad, which, and why; with "
                "--on_bad_image skip the image is left out, and nothing else changes",
            ),
        )
        for how in DAMAGES
    ],
)
def test_a_bad_image_stops_or_is_left_out(how: str, config: Path, images: Path) -> None:
    damage, reason = DAMAGES[how]
    whole = loaded(config)
    path = victim(images, 17)
    name = path.relative_to(images).as_posix()
    damage(path)
    with pytest.raises(InputError) as caught:
        loaded(config)
    assert name in str(caught.value)
    assert caught.value.exit_code == 2
    if how not in ("missing", "a folder", "a pipe"):  # these are seen when the list is read, with their line
        assert str(caught.value).startswith(f"1 of {COUNT} images is bad, and cannot be used: {name}: ")
        assert "--on_bad_image skip" in str(caught.value)
        assert reason in str(caught.value)
    first, second = loaded(config, on_bad_image="skip"), loaded(config, on_bad_image="skip")
    assert role_files(first) == role_files(second) == [files - {name} for files in role_files(whole)]
    calibration, judging, evaluation = role_files(first)
    assert calibration.isdisjoint(judging | evaluation)
    assert judging.isdisjoint(evaluation)
    (bad,) = first.soundness.bad
    assert bad.name == name
    assert reason in bad.reason
    assert first.soundness.checked == COUNT
    assert first.warnings[-1].startswith(f"1 of {COUNT} images is skipped: {name}: ")


@pytest.mark.robustness(
    "Data",
    "More than 1 % of the images are bad, and skipping is allowed",
    "Exit code 2, and a line with the count, the share, and three of them",
)
def test_too_many_bad_images(
    config: Path, images: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(0, COUNT, 10):
        _empty(victim(images, number))
    command = ["evaluate", f"--config={config}", f"--input_model={model}", "-q", "--no_cache"]
    assert main([*command, "--on_bad_image=skip"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert " images are bad, and cannot be used: " in err
    assert err.count("is empty, damaged, or no image") == 3
    assert " more; that is " in err  # as many as the split has given to evaluation
    assert "leaves out at most 1%" in err


@pytest.mark.robustness(
    "Data",
    "One image is bad; tune, evaluate, benchmark --mode=accuracy and sensitivity run on the set",
    "Each exits with code 2 and one line before its work; with --on_bad_image skip each goes on and says so",
)
@pytest.mark.parametrize("command", ["tune", "evaluate", "benchmark", "sensitivity"])
def test_every_command_that_judges(
    command: str,
    config: Path,
    model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(model.parent)
    bad = _spoiled(config, command)
    arguments = {
        "tune": ["tune", f"--input_model={model}", "--output_model=out"],
        "evaluate": ["evaluate", f"--input_model={model}", "--json"],
        "benchmark": ["benchmark", f"--input_model={model}", "--mode=accuracy", "--json"],
        "sensitivity": ["sensitivity", str(model), "--json", "--samples=4", "--calibration_samples=100"],
    }[command] + [f"--config={config}"]
    before = {path.name for path in model.parent.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(WORK[command], lambda *_, **__: pytest.fail("the work began"))
        assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert f"images is bad, and cannot be used: {bad}: " in line
    assert {path.name for path in model.parent.iterdir()} == before
    assert main([*arguments, "--on_bad_image=skip"]) == 0
    out, err = capsys.readouterr()
    assert f"images is skipped: {bad}: " in err
    if command in ("evaluate", "benchmark"):
        skipped = json.loads(out)["skipped"]
        assert (skipped["skipped_count"], skipped["images"][0]["name"]) == (1, bad)


# What each command does first with the images.
WORK = {
    "tune": "quantize.inputs.Baseline",
    "evaluate": "quantize.measure.evaluate",
    "benchmark": "quantize.measure.evaluate",
    "sensitivity": "quantize.sensitivity.Probe",
}


def _spoiled(config: Path, command: str) -> str:
    """The name of an image that a command uses and that is empty now."""
    read = Config.from_mapping(json.loads(config.read_text()))
    if command == "sensitivity":
        read = read.with_overrides({"quantization.calibration.sampling_size": 100})
    data = load_data(read, SIGNATURE, progress=False)
    chosen = data.evaluation if command in ("evaluate", "benchmark") else data.calibration
    path = chosen.images.path(5)
    _empty(path)
    return chosen.images.files[5]


@pytest.mark.robustness(
    "Data",
    "A run skips an image",
    "Its name and the reason are in report.json, report.md, report.html and on the terminal, cut where long",
)
def test_skipped_images_are_in_the_report(
    config: Path, images: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = images / ("0/" + "<b>" + "x" * 220 + ".png")
    name = (images / "val.txt").read_text().split()[0]
    (images / name).rename(bad)
    _empty(bad)
    listed = (images / "val.txt").read_text().replace(name, bad.relative_to(images).as_posix())
    (images / "val.txt").write_text(listed)
    command = ["tune", f"--input_model={model}", f"--config={config}", f"--output_model={tmp_path}/out"]
    assert main([*command, "--on_bad_image=skip", "--no_cache"]) == 0
    assert f"warning: 1 of {COUNT} images is skipped: 0/<b>xxx" in capsys.readouterr().err
    report = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    skipped = report["images"]["skipped"]
    assert (skipped["checked_count"], skipped["skipped_count"]) == (COUNT, 1)
    (told,) = skipped["images"]
    assert told["name"].startswith("0/<b>xxx")
    assert len(told["name"]) == 201
    assert told["reason"].startswith("is empty, damaged, or no image")
    sets = report["images"]
    assert sum(sets[role]["count"] for role in ("calibration", "selection", "evaluation")) == COUNT - 1
    html = next((tmp_path / "out").glob("*.html")).read_text()
    assert "0/&lt;b&gt;xxx" in html
    assert "<b>xxx" not in html
    assert "images is skipped" in next((tmp_path / "out").glob("*.md")).read_text()


@pytest.mark.robustness(
    "Data",
    "The images were checked by an earlier run, and the cache is warm",
    "No image is decoded again to check it; one that was damaged since then is found",
)
def test_checking_costs_nothing_twice(
    config: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Config.from_mapping(json.loads(config.read_text()))
    seen: list[Path] = []
    real = prepared.decoded

    def noting(path: Path, **settings: Any) -> Any:
        seen.append(path)
        return real(path, **settings)

    monkeypatch.setattr(prepared, "decoded", noting)

    def load() -> Data:
        store = Store(tmp_path / "cache", limit_bytes=10**8, warn=pytest.fail)
        return load_data(read, SIGNATURE, progress=False, store=store)

    data = load()
    assert len(seen) == COUNT
    assert len(list(data.evaluation)) > 0
    load()
    assert len(seen) == COUNT
    _empty(victim(images))
    with pytest.raises(InputError, match=f"1 of {COUNT} images is bad"):
        load()
    assert len(seen) == COUNT + 1


@pytest.mark.robustness(
    "Data",
    "`predict` gets good images, and bad ones of every kind, among them a pipe and a bomb",
    "The good ones are classified, the bad ones named with the reason; exit code 1",
)
def test_predict_names_bad_images(
    images: Path, config: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = [how for how in DAMAGES if how not in ("missing", "a folder", "smaller than the crop")]
    bad = [victim(images, number) for number in range(len(kinds))]
    for path, how in zip(bad, kinds, strict=True):
        DAMAGES[how][0](path)
    command = ["predict", str(model), str(images / "0"), f"--config={config}", "--json"]
    assert main(command) == 1
    out, err = capsys.readouterr()
    document = json.loads(out)
    failed = {one["image"]: one["error"] for one in document["images"] if "error" in one}
    assert sorted(failed) == sorted(map(str, bad))
    for path, how in zip(bad, kinds, strict=True):
        assert DAMAGES[how][1] in failed[str(path)]
        assert f"error: {path}: " in err
    assert document["summary"] == {"images": COUNT // CLASSES - len(kinds), "failed": len(kinds)}
