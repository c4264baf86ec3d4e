"""Runs one or two classifiers on image files, and hands each result to a writer as it is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from calibration.progress import track
from quantize.errors import InputError
from quantize.labels import Label, read_labels
from quantize.metrics import NonFiniteError, check_finite, log_probabilities
from quantize.model import Signature, load_model, read_signature
from quantize.nonfinite import Naming, explained_scores
from quantize.portable_math import exp
from quantize.prediction.reading import Pixels, in_batches, read_images, stacked
from quantize.prediction.scores import best
from quantize.prediction.writers import Prediction, Summary, Writer
from quantize.preprocessing import Preprocessing, read_preprocessing
from quantize.saturation import find_saturation
from quantize.session import make_session, outputs

# Fewer images are done before a progress display has been read.
_PROGRESS_FROM_IMAGES = 20


@dataclass(frozen=True)
class Classifier:
    """A model that is ready to run."""

    path: Path
    signature: Signature
    session: ort.InferenceSession


@dataclass(frozen=True)
class Predictor:
    """One model, or two to compare, with all that turns image files into named classes.

    Attributes:
        models: the first is the one asked about.
        preprocessing: for all of them.
        labels: names of the classes, None without.
        top_k: guesses for each image.
        batch_size: images per inference.
        threads: for decoding and for inference.
    """

    models: tuple[Classifier, ...]
    preprocessing: Preprocessing
    labels: Sequence[Label] | None
    top_k: int
    batch_size: int
    threads: int

    def predict(self, paths: Sequence[Path], *, progress: bool) -> Iterator[Prediction]:
        """What the models say about each image, in the order of `paths`.

        Raises:
            InputError: the transforms do not make what a model takes, or a model makes NaN of an image.
            EngineError: a model failed.
        """
        images = read_images(paths, self.preprocessing, self._wanted, threads=self.threads)
        shown = track(
            images,
            description="predicting",
            total=len(paths),
            enabled=progress and len(paths) >= _PROGRESS_FROM_IMAGES,
        )
        for batch in in_batches(shown, self.batch_size):
            yield from self._batch(batch)

    @property
    def _wanted(self) -> tuple[int | None, ...]:
        return self.models[0].signature.input_shape[1:]

    def saturation(self, paths: Sequence[Path]) -> list[str]:
        """What saturates in the models, here on the first images or on other CPUs; one line each.

        Raises:
            EngineError: ONNX Runtime cannot run a model on them.
        """
        first = paths[: self.batch_size]
        read = read_images(first, self.preprocessing, self._wanted, threads=self.threads)
        images = stacked(next(in_batches(read, self.batch_size), []))
        if images is None:
            return []
        found = [(model.path, find_saturation(model.path, images)) for model in self.models]
        return [line for path, one in found if one is not None for line in one.lines(str(path))]

    def _batch(self, batch: Sequence[Pixels]) -> Iterator[Prediction]:
        arrays = stacked(batch)
        read = [image.path for image in batch if image.array is not None]
        rows = iter(self._rows(arrays, lambda row: f"image {read[row]}")) if arrays is not None else iter(())
        for image in batch:
            if image.array is None:
                yield Prediction(image.path, (), image.problem)
            else:
                guesses, kl_nats = next(rows)
                yield Prediction(image.path, guesses, kl_nats=kl_nats)

    def _rows(
        self, images: np.ndarray[Any, np.dtype[np.float32]], naming: Naming
    ) -> Iterator[tuple[Any, float | None]]:
        logs, guesses = [], []
        for model in self.models:
            logits = outputs(model.session, images, model=str(model.path))
            try:
                check_finite(logits, str(model.path))
            except NonFiniteError as error:
                raise explained_scores(error, model.path, images, naming, model=str(model.path)) from error
            if self.labels is not None and len(self.labels) != logits.shape[1]:
                raise InputError(
                    f"--labels names {len(self.labels)} classes, but {model.path} gives {logits.shape[1]} "
                    "scores; give the list that belongs to it"
                )
            probabilities = model.signature.probabilities
            logs.append(log_probabilities(logits, probabilities=probabilities))
            guesses.append(best(logits, count=self.top_k, probabilities=probabilities, labels=self.labels))
        if len(logs) == 1:
            return ((row, None) for row in zip(*guesses, strict=True))
        if logs[0].shape != logs[1].shape:
            raise InputError(
                f"--compare {self.models[1].path}: has {logs[1].shape[1]} classes, the other model "
                f"{logs[0].shape[1]}; compare models of the same task"
            )
        kl = (exp(logs[0]) * (logs[0] - logs[1])).sum(axis=1)
        return zip(zip(*guesses, strict=True), map(float, kl), strict=True)


def make_predictor(
    model: Path,
    *,
    other: Path | None = None,
    config: Path | None = None,
    labels: Path | None = None,
    top_k: int = 5,
    batch_size: int = 8,
    threads: int = 1,
) -> Predictor:
    """Reads models, transforms and names.

    Args:
        model: a float32 image classifier, fp32 or int8 inside.
        other: a second one to compare with.
        config: whose transforms are used; see `read_preprocessing`.
        labels: names of the classes, see `read_labels`.
        top_k: at least 1; more than there are classes means all.
        batch_size: at least 1.
        threads: at least 1.

    Raises:
        InputError: something given is wrong.
        EngineError: ONNX Runtime cannot load a model.
    """
    for name, value in (("top_k", top_k), ("batch_size", batch_size), ("threads", threads)):
        if value < 1:
            raise InputError(f"--{name} {value}: give 1 or more")
    models = tuple(
        _classifier(path, named, threads)
        for path, named in ((model, ""), (other, "--compare "))
        if path is not None
    )
    first = models[0].signature
    preprocessing = read_preprocessing(config, first.input_shape)
    names = None if labels is None else read_labels(labels, first.classes)
    # Where the transforms leave the size to the image, only images of the same size fit into one batch.
    size = batch_size if preprocessing.pipeline.output_shape() is not None else 1
    return Predictor(models, preprocessing, names, top_k, size, threads)


def run_predictions(
    predictor: Predictor, paths: Sequence[Path], writer: Writer, *, progress: bool
) -> Summary:
    """Hands every prediction to the writer; returns the totals."""
    summary = Summary()
    for prediction in predictor.predict(paths, progress=progress):
        summary.add(prediction)
        writer.write(prediction)
    writer.finish(summary)
    return summary


def _classifier(path: Path, named: str, threads: int) -> Classifier:
    signature = read_signature(load_model(path, named=named), path, named=named)
    return Classifier(path, signature, make_session(path, threads=threads))
