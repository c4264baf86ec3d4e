"""The transforms of a configuration without its images: what turns any image file into a model's input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calibration.transforms import Pipeline, build_pipeline
from calibration.transforms.arithmetic import LabelShift
from quantize.config import Config, load_config
from quantize.errors import InputError

# The shipped configuration for networks of ImageNet's usual input, and that input without the batch.
_DEFAULT_CONFIG = "mobilenetv2.yaml"
_DEFAULT_INPUT = (3, 224, 224)


@dataclass(frozen=True)
class Preprocessing:
    """How image files become a model's input.

    Attributes:
        pipeline: the transforms, without shifts of labels: there are none here.
        exif_orientation: whether photographs are turned upright.
        source: the configuration's file.
        assumed: whether it was not named by anybody, but chosen for the model's input.
    """

    pipeline: Pipeline
    exif_orientation: bool
    source: Path
    assumed: bool

    @property
    def note(self) -> str:
        """What a person should know who named no configuration."""
        return (
            f"no --config: preprocessing as in configs/{self.source.name}, "
            "because the model takes Nx3x224x224"
        )


def read_preprocessing(config: Path | None, input_shape: tuple[int | None, ...]) -> Preprocessing:
    """The transforms that the evaluation of a configuration uses.

    Args:
        config: as for `find_config`; None for the one of MobileNetV2, if the model takes Nx3x224x224.
        input_shape: of the model's input, batch first; None where it is open.

    Raises:
        InputError: no configuration was named and none is known for the input, or it is wrong.
    """
    if config is None and input_shape[1:] != _DEFAULT_INPUT:
        shape = "x".join("N" if extent is None else str(extent) for extent in input_shape)
        raise InputError(
            f"--config is missing: the model takes {shape}, and only for Nx3x224x224 is there a usual "
            "preprocessing; name the configuration that the model was tuned with"
        )
    loaded = load_config(config or _DEFAULT_CONFIG)
    if loaded.source is None:
        raise AssertionError("a configuration that was read from a file knows its file")
    pipeline, exif_orientation = _evaluation_transforms(loaded)
    return Preprocessing(pipeline, exif_orientation, loaded.source, config is None)


def _evaluation_transforms(config: Config) -> tuple[Pipeline, bool]:
    """As `Config.evaluation_data`, but the data paths may never have been filled in."""
    settings = config.settings
    loaders = (settings.evaluation.accuracy.dataloader, settings.quantization.calibration.dataloader)
    transforms = next((loader.transform for loader in loaders if loader.transform is not None), None)
    if transforms is None:
        raise InputError(
            f"{config.document.name}: evaluation.accuracy.dataloader.transform is missing; name the model's "
            "preprocessing there"
        )
    images = next((loader.images for loader in loaders if loader.images is not None), None)
    steps = build_pipeline(transforms).steps
    without_labels = Pipeline(tuple(step for step in steps if not isinstance(step, LabelShift)))
    return without_labels, images is None or images.exif_orientation
