"""What the main job asks for the sake of its report: on the way, at the end, and the pages that tell it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

from quantize.config import Config
from quantize.data import Data
from quantize.destination import Destination
from quantize.diagnose.changes import ChangeWatcher
from quantize.diagnose.class_names import class_names
from quantize.diagnose.diagnosis import Diagnosis, Sensitivity, measured_sensitivity, measured_signal
from quantize.diagnose.options import ReportOptions
from quantize.diagnose.record import read_record
from quantize.diagnose.thumbnails import thumbnail
from quantize.diagnose.work import multiply_adds
from quantize.engine import EngineResult
from quantize.errors import InputError
from quantize.report import RunContext
from quantize.report.ahead import load_ahead
from quantize.source import Source
from quantize.stages import Stages
from quantize.verify import FP32

# The report as JSON values and the final names -> path of each page -> its text.
Pages = Callable[[Mapping[str, Any], Destination], Mapping[Path, str]]

# Four rows of six on a large screen, and some 200 kB of thumbnails.
_IMAGES_SHOWN = 24


class Inquiry:
    """The inquiry of one run.

    What can be wrong with what the user gave is found when it is made, before any work.

    Attributes:
        watcher: sees the logits of the verification; None where there will be no pages.
        known_nats: what leaving each operator in fp32 saves, from the file that was given.
        warnings: what does not fit, and the run goes on with.

    Raises:
        InputError: a file is wrong, or of another model.
    """

    def __init__(self, config: Config, source: Source, data: Data, options: ReportOptions) -> None:
        self._config, self._source, self._data, self._options = config, source, data, options
        self._format = config.primary_format
        self._loading: Thread | None = None
        self.known_nats, self.warnings = _known(options.sensitivity, source, config)
        self._names = class_names(
            data.evaluation,
            source.signature.classes,
            given=options.labels,
            image_list=config.evaluation_data().image_list,
        )
        self.watcher = (
            ChangeWatcher(
                FP32, self._format, limit=_IMAGES_SHOWN, probabilities=source.signature.probabilities
            )
            if options.pages
            else None
        )

    def uses(self, data: Data) -> None:
        """From now on these images: those that are left after looking at them."""
        self._data = data

    def diagnose(self, found: EngineResult, stages: Stages) -> Diagnosis | None:
        """Measures where the error comes from; None where there will be no pages."""
        if self.watcher is None:
            return None
        self._loading = load_ahead()
        with stages.stage("look for causes"):
            stages.say("looking for the causes of errors")
            signal, notes = measured_signal(
                found.fp32,
                self._source.inventory,
                found.model,
                self._data.calibration,
                threads=self._config.thread_count,
            )
            sensitivity = self._sensitivity(found)
        changes = self.watcher.changes()
        files = self._data.evaluation.images.files
        return Diagnosis(
            signal=signal,
            sensitivity=sensitivity,
            changes=changes,
            changes_format=self._format,
            files={image.index: files[image.index] for image in changes.shown},
            names=self._names,
            notes=notes,
        )

    def _sensitivity(self, found: EngineResult) -> Sensitivity:
        """What the search measured, or what was given, or what is measured now."""
        if self.known_nats:
            return Sensitivity(self.known_nats, f"Read from {self._options.sensitivity}.")
        if found.sensitivity:
            return Sensitivity(found.sensitivity, "Measured by the search, on the model it began to repair.")
        if found.divergence_without is None:
            return Sensitivity()
        left = {one.name for one in found.fp32_operators}
        return measured_sensitivity(
            [one.name for one in self._source.inventory.quantizable if one.name not in left],
            found.divergence_without,
            asked=self._options.measure_sensitivity,
            multiply_adds=multiply_adds(self._source.prepared),
        )

    def told(self, context: RunContext, diagnosis: Diagnosis | None) -> RunContext:
        """The context of the report, with what was found."""
        if diagnosis is None:
            return context
        return dataclasses.replace(
            context, diagnosis=diagnosis, sensitivity_nats=diagnosis.sensitivity.saved_nats
        )

    def pages(self, report: Mapping[str, Any], final: Destination) -> Mapping[Path, str]:
        """The report for people, by the name of the file; none where they are not wanted."""
        if self.watcher is None:
            return {}
        if self._loading is not None:
            self._loading.join()
        from quantize.report.pages import render_html, render_markdown

        evaluation = self._data.evaluation
        thumbnails = {
            place: made
            for place, image in enumerate(self.watcher.changes().shown)
            if (
                made := thumbnail(
                    evaluation.images.path(image.index), exif_orientation=evaluation.exif_orientation
                )
            )
        }
        return {final.html: render_html(report, thumbnails), final.markdown: render_markdown(report)}


def _known(path: Path | None, source: Source, config: Config) -> tuple[dict[str, float], tuple[str, ...]]:
    """What a record of the command `sensitivity` says, and what does not fit this run."""
    if path is None:
        return {}, ()
    record = read_record(path, "--sensitivity")
    if record.settings.get("model_sha256") != source.sha256:
        raise InputError(
            f"--sensitivity {path}: was measured on another model than {source.path}; measure this one"
        )
    if not record.complete:
        raise InputError(f"--sensitivity {path}: is not finished; run `python -m quantize sensitivity` again")
    if (record.effort == "none") == (config.refine.effort == "none"):
        return record.saved_nats(), ()
    measured, run = ("a plain", "a refined") if record.effort == "none" else ("a refined", "a plain")
    return record.saved_nats(), (
        f"--sensitivity {path}: was measured on {measured} model, and this run makes {run} one; its order of "
        f"fallbacks may not fit: measure with --refine={config.refine.effort}",
    )
