"""The data half of the schema: datasets, transforms and loaders, for calibration and for evaluation alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from quantize.config.fields import DataPath, FreeMapping, Positive, Section
from quantize.config.paths import IMAGE_LIST_NAME
from quantize.config.suggest import did_you_mean
from quantize.errors import quoted

__all__ = ["ClassFolders", "Dataloader", "Dataset", "LabelPostprocess", "ListedImages"]

# Datasets that 1.x knows and that hold no labelled image files.
_OTHER_DATASETS = (
    *("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "TFRecordDataset", "ImageRecord", "Imagenet"),
    *("sparse_dummy_v2", "bert", "mzbert", "VOCRecord", "COCORecord", "COCORaw", "COCONpy"),
    *("style_transfer", "GLUE"),
)


def _transforms(given: Any) -> Any:
    """Their names and arguments are for `calibration.transforms` to judge; here they only have to be some."""
    if not isinstance(given, Mapping) or not given:
        raise ValueError(
            f"expected transforms in the order they apply, such as `Rescale: {{}}`, got {quoted(given)}"
        )
    return given


Transforms = Annotated[FreeMapping, BeforeValidator(_transforms)]


class _Images(Section):
    exif_orientation: bool = Field(
        default=True, description="Turn photographs upright as their EXIF tag says (ours). Default: true."
    )


class ListedImages(_Images):
    """`ImagenetRaw`: image files, and a text file with one line `name label` for each."""

    data_path: DataPath = Field(description="The folder that names in the image list are relative to.")
    image_list: DataPath | None = Field(
        default=None, description="The list of names and labels. Default: `val.txt` in `data_path`."
    )

    @property
    def folder(self) -> Path:
        """Where the images are."""
        return self.data_path

    @property
    def list_file(self) -> Path:
        """The image list, given or by default."""
        return self.data_path / IMAGE_LIST_NAME if self.image_list is None else self.image_list


class ClassFolders(_Images):
    """`ImageFolder`: one sub-folder per class, classes in sorted order."""

    root: DataPath | None = Field(default=None, description="The folder of class folders (its 1.x name).")
    data_path: DataPath | None = Field(
        default=None, description="Another name for `root` (ours); give one of them."
    )
    synset: DataPath | None = Field(
        default=None,
        description="A file with one WordNet id per line in label order (ours), which folders are named "
        "after. Default: folders are classes 0, 1, … in sorted order.",
    )

    @model_validator(mode="after")
    def _one_folder(self) -> ClassFolders:
        if self.root is not None and self.data_path is not None:
            raise ValueError(
                f"root ({self.root}) and data_path ({self.data_path}) both name the folder; keep one"
            )
        if self.root is None and self.data_path is None:
            raise ValueError("root is missing; give the folder that holds one sub-folder per class")
        return self

    @property
    def folder(self) -> Path:
        """Where the class folders are."""
        folder = self.data_path if self.root is None else self.root
        if folder is None:
            raise AssertionError("validation let neither root nor data_path pass")
        return folder


class Dataset(Section):
    """Where images and labels come from: exactly one of the kinds below."""

    ImagenetRaw: ListedImages | None = Field(default=None, description="Image files and a list of labels.")
    ImageFolder: ClassFolders | None = Field(default=None, description="One sub-folder per class.")
    dummy: FreeMapping | None = Field(default=None, description="1.x: random input, to measure speed with.")
    dummy_v2: FreeMapping | None = Field(
        default=None, description="1.x: random input, to measure speed with."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Dataset:
        kinds = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(kinds) > 1:
            raise ValueError(f"{' and '.join(kinds)} are both given; keep one")
        if not kinds:
            raise ValueError("no dataset is given; write ImagenetRaw or ImageFolder below it")
        return self

    @classmethod
    def _help_with(cls, name: str) -> str:
        if name in _OTHER_DATASETS:
            return (
                "this pipeline reads image files: use ImagenetRaw (image list) or ImageFolder (class folders)"
            )
        return did_you_mean(name, ("ImagenetRaw", "ImageFolder"))

    @property
    def kind(self) -> Literal["ImagenetRaw", "ImageFolder", "dummy"]:
        """Which kind was given."""
        if self.ImagenetRaw is not None:
            return "ImagenetRaw"
        return "dummy" if self.ImageFolder is None else "ImageFolder"

    @property
    def images(self) -> ListedImages | ClassFolders | None:
        """The image files; None for random input."""
        return self.ImagenetRaw or self.ImageFolder


class Dataloader(Section):
    """How images become batches."""

    batch_size: Positive = Field(default=1, description="Images per batch. Default: 1.")
    dataset: Dataset | None = Field(
        default=None, description="Default: the dataset of the section it falls back to (see `Config`)."
    )
    transform: Transforms | None = Field(
        default=None,
        description="Transforms, applied in written order. Default: as the section it falls back to.",
    )
    last_batch: Literal["rollover", "discard"] = Field(
        default="rollover", description="1.x: what to do with a short last batch; we always use it."
    )
    filter: FreeMapping | None = Field(
        default=None, description="1.x: which images to leave out; not acted on."
    )
    shuffle: bool = Field(
        default=False, description="1.x: not acted on; the calibration choice is seeded instead."
    )
    distributed: bool = Field(default=False, description="1.x: several machines; not acted on.")

    @property
    def images(self) -> ListedImages | ClassFolders | None:
        """The image files given here, if any."""
        return None if self.dataset is None else self.dataset.images


class _LabelTransform(Section):
    LabelShift: int = Field(
        default=0, description="Subtracted from every label, for models with a background class. Default: 0."
    )
    Collect: FreeMapping | None = Field(default=None, description="1.x: not acted on.")
    SquadV1: FreeMapping | None = Field(default=None, description="1.x: not acted on.")
    SquadV1ModelZoo: FreeMapping | None = Field(default=None, description="1.x: not acted on.")


class LabelPostprocess(Section):
    """What happens to predictions and labels before they are compared."""

    transform: _LabelTransform = Field(default_factory=_LabelTransform, description="Default: nothing.")
