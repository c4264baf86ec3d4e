"""The flags that say which images are used, and how far their files are trusted."""

from __future__ import annotations

from quantize.cli.flag import COMMANDS, Flag, number_flag
from quantize.cli.values import one_of, path

__all__ = ["IMAGE_FLAGS"]

_IMAGES = "images"

IMAGE_FLAGS = (
    Flag(
        name="dataset_location",
        group=_IMAGES,
        help="folder of the images, instead of all data paths of the configuration",
        commands=COMMANDS,
        parse=path,
        metavar="DIR",
        other_names=("--data_path",),
    ),
    Flag("label_path", _IMAGES, "image list with lines `name label`", COMMANDS, path, "FILE"),
    number_flag(
        name="calibration_samples",
        group=_IMAGES,
        help="images to learn scales from (default: 100)",
        commands=COMMANDS,
        field="quantization.calibration.sampling_size",
    ),
    number_flag(
        name="eval_samples",
        group=_IMAGES,
        help="images to measure accuracy on (default: all that calibration leaves)",
        commands=COMMANDS,
        field="evaluation.accuracy.sampling_size",
    ),
    Flag(
        name="allow_overlap",
        group=_IMAGES,
        help="measure accuracy on calibration images too; the report warns of it",
        commands=COMMANDS,
        field="quantization.calibration.allow_overlap",
    ),
    Flag(
        name="on_bad_image",
        group=_IMAGES,
        help="stop before any work, or skip and report; more than 1 %% skipped stops too (default: stop)",
        commands=COMMANDS,
        parse=one_of("stop", "skip"),
        metavar="ACTION",
        field="images.on_bad_image",
    ),
    Flag(
        name="follow_links",
        group=_IMAGES,
        help="allow symbolic links in the folder of the images that lead out of it",
        commands=COMMANDS,
        field="images.follow_links",
    ),
    number_flag("batch_size", _IMAGES, "images per inference, 4 when judging (default: 1)", COMMANDS, None),
)
