from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quantize.config import Config, load_config
from quantize.config.overrides import apply
from quantize.config.paths import is_placeholder, looks_like_class_folders, resolve_path
from quantize.errors import InputError

DATA = Path(__file__).parent / "data"
CALIBRATION = "quantization.calibration.dataloader"
ACCURACY = "evaluation.accuracy.dataloader"
PERFORMANCE = "evaluation.performance.dataloader"
TRANSFORM = {"Rescale": {}, "Transpose": {"perm": [2, 0, 1]}}


def listed(folder: str = "images", **more: Any) -> dict[str, Any]:
    loader = {"dataset": {"ImagenetRaw": {"data_path": folder, **more}}, "transform": TRANSFORM}
    return {"evaluation": {"accuracy": {"dataloader": loader}}}


def zoo() -> Config:
    return load_config(DATA / "zoo_qlinearops.yaml")


# Paths.


@pytest.mark.parametrize(
    "path",
    [
        "/path/to/calibration/dataset",
        "path/to",
        "../path/to/x",
        "<DIR>/train",
        "/data/<name>",
        "your_images",
        "...",
    ],
)
def test_placeholders(path: str) -> None:
    assert is_placeholder(path)


@pytest.mark.parametrize("path", ["/data/imagenet", "path/together", "footpath/to/x", "val.txt", "a<b"])
def test_real_paths(path: str) -> None:
    assert not is_placeholder(path)


def test_a_path_that_exists_is_no_placeholder(tmp_path: Path) -> None:
    (tmp_path / "path" / "to" / "images").mkdir(parents=True)
    assert not is_placeholder(tmp_path / "path" / "to" / "images")
    assert resolve_path("path/to/images", tmp_path) == tmp_path / "path" / "to" / "images"


def test_what_expands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGES", "/data/images")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NOT_SET", raising=False)
    assert resolve_path("${IMAGES}/val", tmp_path) == Path("/data/images/val")
    assert resolve_path("$IMAGES/$IMAGES", tmp_path) == Path("/data/images/data/images")
    assert resolve_path("~/val", Path("/elsewhere")) == tmp_path / "val"
    assert resolve_path("../val", tmp_path / "configs") == tmp_path / "val"
    with pytest.raises(ValueError, match="NOT_SET is not set"):
        resolve_path("$IMAGES/${NOT_SET}/val", tmp_path)


def test_paths_are_relative_to_the_file_and_flags_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "c.yaml").write_text(
        "evaluation: {accuracy: {dataloader: "
        "{dataset: {ImageFolder: {root: ../images}}, transform: {Rescale: }}}}"
    )
    monkeypatch.chdir(tmp_path)
    config = load_config("configs/c.yaml")
    assert config.evaluation_data().data_path == tmp_path / "images"
    assert config.with_data(Path("images")).evaluation_data().data_path == tmp_path / "images"
    changed = config.with_overrides({f"{ACCURACY}.dataset.ImageFolder.root": "images"})
    assert changed.evaluation_data().data_path == tmp_path / "configs" / "images"


def test_unset_variable_names_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(InputError, match=r"ImagenetRaw\.data_path: environment variable NOT_SET is not set"):
        Config.from_mapping(listed("$NOT_SET/val"))


# What each task reads.


def test_tasks_fall_back_to_each_other() -> None:
    config = Config.from_mapping(listed(image_list="list.txt"))
    expected = Path.cwd() / "images", Path.cwd() / "list.txt"
    for source in (config.calibration_data(), config.evaluation_data(), config.performance_data()):
        assert (source.data_path, source.image_list) == expected
        assert source.kind == "ImagenetRaw"
        assert list(source.transform) == ["Rescale", "Transpose"]
        assert (source.batch_size, source.synset, source.exif_orientation) == (1, None, True)
    only = {"quantization": {"calibration": listed()["evaluation"]["accuracy"]}}
    assert Config.from_mapping(only).evaluation_data() == Config.from_mapping(only).calibration_data()


def test_batch_sizes_do_not_fall_back() -> None:
    config = Config.from_mapping(listed()).with_overrides({f"{ACCURACY}.batch_size": 32})
    assert config.evaluation_data().batch_size == 32
    assert config.performance_data().batch_size == config.calibration_data().batch_size == 1


def test_image_list_is_val_txt_by_default() -> None:
    assert Config.from_mapping(listed("/data")).evaluation_data().image_list == Path("/data/val.txt")


@pytest.mark.parametrize("name", ["root", "data_path"])
def test_class_folders(name: str) -> None:
    fields = {name: "/data", "synset": "/data/synset.txt", "exif_orientation": False}
    content = {
        "evaluation": {
            "accuracy": {"dataloader": {"dataset": {"ImageFolder": fields}, "transform": TRANSFORM}}
        }
    }
    source = Config.from_mapping(content).evaluation_data()
    assert (source.kind, source.data_path, source.image_list) == ("ImageFolder", Path("/data"), None)
    assert (source.synset, source.exif_orientation) == (Path("/data/synset.txt"), False)


def test_random_input_falls_back_to_the_images() -> None:
    config = Config.from_mapping(listed("/data")).with_overrides(
        {f"{PERFORMANCE}.dataset": {"dummy_v2": {"input_shape": [3]}}}
    )
    assert config.performance_data().data_path == Path("/data")
    assert config.unused_fields == (f"{PERFORMANCE}.dataset.dummy_v2",)


def test_missing_dataset_and_transform_are_named() -> None:
    with pytest.raises(InputError, match=r"evaluation\.accuracy\.dataloader\.dataset is missing"):
        Config.from_mapping({}).evaluation_data()
    only_images = {"evaluation": {"accuracy": {"dataloader": {"dataset": {"ImageFolder": {"root": "a"}}}}}}
    with pytest.raises(InputError, match=r"quantization\.calibration\.dataloader\.transform is missing"):
        Config.from_mapping(only_images).calibration_data()


def test_label_shift_of_1x_becomes_a_transform() -> None:
    shift = {"evaluation.accuracy.postprocess.transform.LabelShift": 1}
    config = Config.from_mapping(listed()).with_overrides(shift)
    assert list(config.evaluation_data().transform.items())[-1] == ("LabelShift", {"label_shift": 1})
    twice = {**shift, f"{ACCURACY}.transform": {**TRANSFORM, "LabelShift": {"label_shift": 1}}}
    with pytest.raises(InputError, match="both have a LabelShift; keep one"):
        config.with_overrides(twice)


# Placeholders.


def test_placeholder_is_an_error_when_it_is_used() -> None:
    with pytest.raises(InputError) as caught:
        zoo().calibration_data()
    assert str(caught.value) == (
        "zoo_qlinearops.yaml:13: quantization.calibration.dataloader.dataset.ImagenetRaw.data_path is still "
        "the placeholder '/path/to/calibration/dataset': edit it there, or pass --dataset_location DIR "
        "and --label_path FILE"
    )
    with pytest.raises(InputError, match=r"--dataset_location DIR$"):
        load_config(DATA / "zoo_qdq.yaml").evaluation_data()


def test_location_and_labels_fill_every_placeholder(tmp_path: Path) -> None:
    config = zoo().with_data(tmp_path, tmp_path / "labels.txt")
    assert config.placeholder_fields == ()
    for source in (config.calibration_data(), config.evaluation_data(), config.performance_data()):
        assert (source.data_path, source.image_list) == (tmp_path, tmp_path / "labels.txt")


def test_location_alone_finds_its_val_txt(tmp_path: Path) -> None:
    (tmp_path / "val.txt").touch()
    source = zoo().with_data(tmp_path).evaluation_data()
    assert (source.kind, source.image_list) == ("ImagenetRaw", tmp_path / "val.txt")


def test_location_alone_may_be_class_folders(tmp_path: Path) -> None:
    for name in ("n01440764", "n01443537"):
        (tmp_path / name).mkdir()
    config = zoo().with_data(tmp_path)
    assert config.evaluation_data().kind == "ImageFolder"
    assert [f"{tmp_path} has no val.txt" in warning for warning in config.warnings] == [True]


def test_location_alone_without_either_still_asks_for_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"image_list is still the placeholder .*--label_path FILE"):
        zoo().with_data(tmp_path).evaluation_data()


def test_location_keeps_a_list_that_was_filled_in() -> None:
    source = (
        Config.from_mapping(listed(image_list="/lists/val.txt")).with_data(Path("/data")).evaluation_data()
    )
    assert (source.data_path, source.image_list) == (Path("/data"), Path("/lists/val.txt"))


def test_labels_turn_class_folders_into_a_list() -> None:
    fields = {"root": "/data", "exif_orientation": False}
    content = {
        "evaluation": {
            "accuracy": {"dataloader": {"dataset": {"ImageFolder": fields}, "transform": TRANSFORM}}
        }
    }
    config = Config.from_mapping(content)
    source = config.with_data(label_path=Path("/labels.txt")).evaluation_data()
    assert (source.kind, source.data_path, source.image_list) == (
        "ImagenetRaw",
        Path("/data"),
        Path("/labels.txt"),
    )
    assert not source.exif_orientation
    moved = config.with_data(Path("/other")).evaluation_data()
    assert (moved.kind, moved.data_path) == ("ImageFolder", Path("/other"))


def test_synset_survives_another_location() -> None:
    fields = {"root": "/data", "synset": "/synset.txt"}
    content = {
        "evaluation": {
            "accuracy": {"dataloader": {"dataset": {"ImageFolder": fields}, "transform": TRANSFORM}}
        }
    }
    assert Config.from_mapping(content).with_data(Path("/b")).evaluation_data().synset == Path("/synset.txt")


def test_no_location_changes_nothing() -> None:
    config = zoo()
    assert config.with_data() is config


def test_random_input_is_not_moved() -> None:
    config = load_config(DATA / "zoo_qdq.yaml").with_data(Path("/data"))
    dataset = config.evaluation.performance.dataloader.dataset
    assert dataset is not None
    assert dataset.kind == "dummy"


def test_class_folders_are_recognised_by_name_only(tmp_path: Path) -> None:
    assert not looks_like_class_folders(tmp_path / "absent")
    (tmp_path / "one").mkdir()
    (tmp_path / ".hidden").mkdir()
    assert not looks_like_class_folders(tmp_path)
    (tmp_path / "two").mkdir()
    assert looks_like_class_folders(tmp_path)
    (tmp_path / "val.txt").touch()
    assert not looks_like_class_folders(tmp_path)


# Overrides.


def test_sections_written_once_for_two_tasks_change_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "quantization: {calibration: {dataloader: &loader {batch_size: 4}}}\n"
        "evaluation: {accuracy: {dataloader: *loader}}\n"
    )
    config = load_config(path).with_overrides({f"{ACCURACY}.batch_size": 8})
    assert config.quantization.calibration.dataloader.batch_size == 4
    assert config.evaluation.accuracy.dataloader.batch_size == 8


def test_none_restores_a_default() -> None:
    config = zoo().with_overrides({"tuning.random_seed": None, "tuning.accuracy_criterion": None})
    assert (config.seed, config.criterion.tolerance) == (9527, 0.01)


def test_flag_is_named_instead_of_the_file() -> None:
    with pytest.raises(InputError, match=r"^--seed: expected at least 0, got -5$"):
        zoo().with_overrides({"tuning.random_seed": -5}, flags={"tuning.random_seed": "--seed"})
    with pytest.raises(InputError, match=r"^--tolerable_loss: expected a fraction"):
        zoo().with_overrides(
            {"tuning.accuracy_criterion": {"relative": "7"}},
            flags={"tuning.accuracy_criterion": "--tolerable_loss"},
        )
    both = {"evaluation.accuracy.sampling_size": 5, "evaluation.accuracy.iteration": 5}
    with pytest.raises(InputError, match=r"^--eval_samples: .*keep one"):
        zoo().with_overrides(both, flags={"evaluation.accuracy.sampling_size": "--eval_samples"})


def test_another_criterion() -> None:
    def criterion(**given: object) -> object:
        return zoo().with_overrides({"tuning.accuracy_criterion": given}).criterion

    assert str(criterion(absolute=0.02)) == "absolute decline of top-1 at most 2 percentage points"
    assert str(criterion(relative="0.5%")) == "relative decline of top-1 at most 0.5 %"


def test_override_through_a_value_is_refused() -> None:
    with pytest.raises(InputError, match=r"^a\.b: expected fields, got 3$"):
        apply({"a": {"b": 3}}, {"a.b.c": 4})
