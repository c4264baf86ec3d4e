"""The configuration as the pipeline uses it: validated, immutable, with every default resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from quantize.config import canonical, images, overrides
from quantize.config.document import Document
from quantize.config.fields import plain
from quantize.config.problems import input_error
from quantize.config.resolved import Resolved
from quantize.config.schema import Settings
from quantize.config.source import DataSource
from quantize.config.unused import unused_fields
from quantize.config.warn import warnings_about

__all__ = ["Config"]


@dataclass(frozen=True)
class Config(Resolved):
    """One configuration, valid from the moment it exists.

    A dataloader section that gives no dataset or no transforms takes them from another one: calibration and
    accuracy from each other, performance from accuracy.

    Attributes:
        settings: the validated sections (of `Resolved`, which has what they come down to).
        document: what they were made from; not part of equality.
        notes: what was decided while applying the command line, for `warnings`.
    """

    document: Document = field(repr=False, compare=False)
    notes: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def from_document(
        cls, document: Document, *, flags: Mapping[str, str] | None = None, notes: tuple[str, ...] = ()
    ) -> Config:
        """Validate a document.

        Args:
            document: what was written.
            flags: dotted field → command-line flag that set it, for error messages.
            notes: sentences for `warnings`.

        Raises:
            InputError: a field is unknown, wrong, or contradicts another one.
        """
        try:
            settings = Settings.model_validate(document.copied(), context={"folder": document.folder})
        except ValidationError as error:
            raise input_error(error, document, flags or {}) from error
        images.check_transforms(settings, document)
        return cls(settings, document, notes)

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> Config:
        """Validate fields that come from no file; relative paths are relative to the working directory."""
        return cls.from_document(Document(plain(content)))

    def with_overrides(
        self, changes: Mapping[str, object], *, flags: Mapping[str, str] | None = None
    ) -> Config:
        """This configuration with dotted fields replaced, validated again; None restores a field's default.

        Text is treated as if it stood in the file. A `pathlib.Path` is relative to the working directory
        instead.

        Raises:
            InputError: as for `from_document`; a field in `flags` is called by its flag.
        """
        content = self.document.copied()
        overrides.apply(content, changes)
        return self._again(content, flags=flags)

    def with_data(self, location: Path | None = None, label_path: Path | None = None) -> Config:
        """This configuration, reading all images from elsewhere: `--dataset_location` and `--label_path`."""
        if location is None and label_path is None:
            return self
        content = self.document.copied()
        notes = overrides.point_at(content, location, label_path)
        return self._again(content, notes=tuple(notes))

    def _again(
        self, content: dict[str, Any], *, flags: Mapping[str, str] | None = None, notes: tuple[str, ...] = ()
    ) -> Config:
        changed = Document(content, self.document.origin, self.document.lines)
        return Config.from_document(changed, flags=flags, notes=self.notes + notes)

    @property
    def source(self) -> Path | None:
        """The file, absolute; None for a configuration made in memory."""
        return self.document.origin

    def calibration_data(self) -> DataSource:
        """The images for calibration.

        Raises:
            InputError: no dataset or no transforms are given, or a path was never filled in.
        """
        return images.source(self.settings, self.document, images.CALIBRATION)

    def evaluation_data(self) -> DataSource:
        """The images for accuracy. Raises as `calibration_data`."""
        return images.source(self.settings, self.document, images.ACCURACY)

    def performance_data(self) -> DataSource:
        """The images for speed; those for accuracy unless others are given. Raises as `calibration_data`."""
        return images.source(self.settings, self.document, images.PERFORMANCE)

    @property
    def placeholder_fields(self) -> tuple[str, ...]:
        """Dotted names of the data paths that were never filled in."""
        return images.placeholder_fields(self.settings)

    @property
    def unused_fields(self) -> tuple[str, ...]:
        """Dotted names of fields that were given and have no effect here."""
        return unused_fields(self.document.content)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed but probably not meant, one sentence each; unused fields are the last."""
        return (*self.notes, *warnings_about(self.settings, self.unused_fields))

    def to_dict(self) -> dict[str, Any]:
        """Every section with defaults filled in, as plain JSON values. Paths are absolute."""
        return canonical.full(self.settings)

    def to_canonical_json(self) -> str:
        """What determines the result, and nothing that differs between machines: sorted, compact JSON.

        Left out: paths, threads, the benchmark, the workspace, the model's name, and fields without effect.
        """
        return canonical.to_json(self)

    def config_hash(self) -> str:
        """SHA-256 of `to_canonical_json()`, as 64 hexadecimal digits."""
        return canonical.digest(self.to_canonical_json())
