"""Where the artefacts of a run go, and how they get there in one step at the end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantize.config import Format
from quantize.errors import InputError
from quantize.files import make_folder
from quantize.scratch import staging_folder

_SUFFIX = ".onnx"
_INT8 = "-int8"
_QDQ = "-qdq"

# Put before the suffix of what did not meet the criterion, so that nobody ships it by mistake.
_FAILED = "-failed"


@dataclass(frozen=True)
class Destination:
    """The final names of one run's files, all in one folder.

    Attributes:
        folder: where they go; exists.
        models: format -> file.
        report: the JSON report; beside it, `html` and `markdown` say the same to people.
    """

    folder: Path
    models: Mapping[Format, Path]
    report: Path

    @property
    def html(self) -> Path:
        """The report as a page."""
        return self.report.with_suffix(".html")

    @property
    def markdown(self) -> Path:
        """The report as text."""
        return self.report.with_suffix(".md")

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return (*self.models.values(), self.report, self.html, self.markdown)

    def failed(self) -> Destination:
        """The names for a run that did not meet its criterion."""
        models = {kind: _before_suffix(path, _FAILED) for kind, path in self.models.items()}
        return Destination(self.folder, models, _before_suffix(self.report, _FAILED))


def plan_destination(output_model: Path, input_model: Path, formats: Sequence[Format]) -> Destination:
    """Resolves `--output_model`.

    A name ending in .onnx is the QOperator model (the only model, where one format is asked for), with the
    QDQ model beside it. Anything else is a folder, which `staging` creates.

    Raises:
        InputError: an output would overwrite the input model, or the folder cannot be made.
    """
    if output_model.suffix.lower() == _SUFFIX:
        folder = output_model.absolute().parent
        models = {kind: _named(output_model.absolute(), kind, formats) for kind in formats}
        report = folder / f"{output_model.stem}-report.json"
    else:
        folder = output_model.absolute()
        stem = input_model.stem
        names: dict[Format, str] = {"QOperator": f"{stem}{_INT8}{_SUFFIX}", "QDQ": f"{stem}{_QDQ}{_SUFFIX}"}
        models = {kind: folder / names[kind] for kind in formats}
        report = folder / "report.json"
    destination = Destination(folder, models, report)
    failed = destination.failed()
    for path in (*destination.files, *failed.files):
        _check_free(path, input_model, output_model)
    nearest = next(parent for parent in (folder, *folder.parents) if os.path.exists(parent))
    if not os.path.isdir(nearest):
        raise InputError(f"--output_model {output_model}: {nearest} is a file; name another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"--output_model {output_model}: {nearest} is read-only; choose a writable folder")
    return destination


def _check_free(path: Path, input_model: Path, output_model: Path) -> None:
    """Refuses to replace a folder or the input model, also under another of its names."""
    # Not Path.exists, which raises where a folder on the way is closed.
    same = os.path.exists(path) and os.path.exists(input_model) and path.samefile(input_model)
    if same or path == input_model.absolute():
        raise InputError(
            f"--output_model {output_model}: would overwrite the input model; name another place"
        )
    if os.path.isdir(path):
        raise InputError(f"--output_model {output_model}: {path} is a folder; name another file")


@contextlib.contextmanager
def staging(destination: Destination) -> Iterator[Path]:
    """A hidden folder beside the final files, on the same file system; gone afterwards whatever happens.

    Raises:
        InputError: the folder cannot be written.
    """
    make_folder(destination.folder)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(staging_folder(destination.folder))
        except OSError as error:
            raise InputError(
                f"cannot write into {destination.folder}: {error.strerror}; choose another place"
            ) from error
        yield folder


def _named(output: Path, kind: Format, formats: Sequence[Format]) -> Path:
    if kind == "QOperator" or len(formats) == 1:
        return output
    if output.stem.endswith(_INT8):
        return output.with_name(f"{output.stem.removesuffix(_INT8)}{_QDQ}{_SUFFIX}")
    return _before_suffix(output, _QDQ)


def _before_suffix(path: Path, text: str) -> Path:
    return path.with_name(f"{path.stem}{text}{path.suffix}")
