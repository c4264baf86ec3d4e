"""What a classifier says about image files, and where two classifiers differ."""

from __future__ import annotations

from quantize.prediction.run import Predictor, make_predictor, run_predictions
from quantize.prediction.sources import find_images
from quantize.prediction.writers import (
    CsvWriter,
    DocumentWriter,
    JsonLinesWriter,
    Prediction,
    Summary,
    TableWriter,
    Writer,
)

__all__ = [
    "CsvWriter",
    "DocumentWriter",
    "JsonLinesWriter",
    "Prediction",
    "Predictor",
    "Summary",
    "TableWriter",
    "Writer",
    "find_images",
    "make_predictor",
    "run_predictions",
]
