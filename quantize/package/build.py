"""From an int8 model and its report to what a model zoo asks for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from quantize.errors import InputError
from quantize.files import atomic_write_bytes, atomic_write_text, make_folder
from quantize.graph import opset_of
from quantize.loading import external_files
from quantize.model import load_model, read_signature
from quantize.names import is_plain, require_plain
from quantize.package.archive import tar_gz, unpacked
from quantize.package.evidence import Evidence, find_evidence
from quantize.package.manifest import MANIFEST, manifest_entry, merged
from quantize.package.samples import check_sample, features_port, make_sample
from quantize.package.texts import TABLE_HEAD, decline_sentence, model_card, table_row
from quantize.preprocessing import read_preprocessing

_FOLDER = re.compile(r"[A-Za-z0-9._+-]+(/[A-Za-z0-9._+-]+)*")
_DEFAULT_FOLDER = "validated/vision/classification"
_DEFAULT_TAGS = ("vision", "classification")


@dataclass(frozen=True)
class Request:
    """What to package, and how to call it.

    Attributes:
        model: the int8 file.
        report: its report; looked for beside it when None.
        title: what people call it; the file's name without suffix when None.
        zoo_folder: of the model inside the zoo; derived from the name of the fp32 file when None.
        tags: for the manifest; derived when empty.
        image: for the sample input; noise when None.
        config: whose preprocessing the image gets.
        allow_failed: package a model whose verdict is FAIL.
    """

    model: Path
    report: Path | None = None
    title: str | None = None
    zoo_folder: str | None = None
    tags: tuple[str, ...] = ()
    image: Path | None = None
    config: Path | None = None
    allow_failed: bool = False


@dataclass(frozen=True)
class Package:
    """One packaged model.

    Attributes:
        name: of its files, without suffix.
        content, archive: the bytes of the model and of its package.
        entry: for the manifest.
        row, sentence: for the zoo's README.
        card: the model card, Markdown.
    """

    name: str
    content: bytes
    archive: bytes
    entry: dict[str, Any]
    row: str
    sentence: str
    card: str

    def files(self) -> dict[str, bytes]:
        """Where its files go below the output folder → their content."""
        return {
            f"model/{self.name}.onnx": self.content,
            f"model/{self.name}.tar.gz": self.archive,
            f"{self.name}-card.md": self.card.encode(),
        }


def make_package(request: Request) -> Package:
    """Packages one model, in memory, and checks the result by running it.

    Raises:
        InputError: there is no report of this very file, it failed, or a name cannot be used.
        EngineError: the packaged model does not run, or does not reproduce its output.
    """
    model = load_model(request.model, named="")
    outside = external_files(request.model)
    if outside:
        raise InputError(
            f"{request.model}: keeps weights in {outside[0].name!r}, which its report does not vouch for; "
            "save it as one file"
        )
    content, name = request.model.read_bytes(), request.model.stem
    _check_names(name, request)
    # Of the bytes that are packaged, whatever becomes of the file meanwhile.
    evidence = find_evidence(request.model, hashlib.sha256(content).hexdigest(), request.report)
    if not evidence.passed and not request.allow_failed:
        raise InputError(
            f"{request.model}: did not pass ({evidence.sentence}); --allow_failed packages it anyway"
        )
    signature = read_signature(model, request.model, named="")
    preprocessing = None
    if request.image is not None:
        preprocessing = read_preprocessing(request.config, signature.input_shape)
    sample = make_sample(content, signature, image=request.image, preprocessing=preprocessing)
    members = {f"{name}/test_data_set_0/{file}": data for file, data in sample.files(signature).items()}
    archive = tar_gz({f"{name}/{name}.onnx": content, **members})
    check_sample(unpacked(archive), name, signature)
    title = request.title or name
    entry = manifest_entry(
        model,
        content,
        archive,
        title=title,
        name=name,
        zoo_folder=request.zoo_folder or f"{_DEFAULT_FOLDER}/{_family(evidence, name)}",
        onnx_version=_onnx_version(model, evidence),
        tags=request.tags or (*_DEFAULT_TAGS, _family(evidence, name)),
        features=features_port(model, sample, signature),
    )
    row = table_row(
        title,
        name,
        model_bytes=len(content),
        archive_bytes=len(archive),
        onnx_version=str(entry["onnx_version"]),
        opset=opset_of(model),
        evidence=evidence,
    )
    card = model_card(title, entry, evidence, name=name, sample=sample.source)
    return Package(name, content, archive, entry, row, decline_sentence(title, evidence), card)


def write_packages(packages: Sequence[Package], folder: Path) -> list[Path]:
    """Writes models, archives, cards, the README's rows, and the manifest; one there already is extended.

    Raises:
        InputError: two models have the same name, the folder cannot be written, or its manifest is none.
    """
    names = [package.name for package in packages]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{twice[0]}: two models have this name; a zoo needs one for each")
    manifest = merged(folder / MANIFEST, [package.entry for package in packages])
    make_folder(folder / "model")
    files = {name: data for package in packages for name, data in package.files().items()}
    for name, data in files.items():
        atomic_write_bytes(folder / name, data)
    rows = [TABLE_HEAD, *(package.row for package in packages), ""]
    sentences = [line for package in packages for line in (package.sentence, "")]
    atomic_write_text(folder / "README-rows.md", "\n".join([*rows, *sentences]))
    atomic_write_text(folder / MANIFEST, manifest)
    return [folder / name for name in [*files, "README-rows.md", MANIFEST]]


def _check_names(name: str, request: Request) -> None:
    require_plain(name, str(request.model))
    if request.title is not None and not request.title.strip():
        raise InputError("--title is empty; give a name, or leave it out")
    folder = request.zoo_folder
    if folder is not None and (not _FOLDER.fullmatch(folder) or ".." in folder.split("/")):
        raise InputError(
            f"--zoo_folder {folder}: expected a relative folder such as vision/classification/net"
        )


def _family(evidence: Evidence, name: str) -> str:
    """The network's name: the fp32 file's up to the opset in it, `mobilenetv2-12` → `mobilenetv2`."""
    stem = Path(evidence.fp32_path).stem
    family = re.sub(r"-\d+$", "", stem).lower()
    return family if is_plain(family) else name


def _onnx_version(model: onnx.ModelProto, evidence: Evidence) -> str:
    """Of the package that wrote the model: what the model says, or else its report."""
    said = {entry.key: entry.value for entry in model.metadata_props}
    return said.get("quantize.package.onnx") or evidence.packages.get("onnx") or onnx.__version__
