"""What a run works on: the model and the images, read, checked and told apart from others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quantize.baseline import Baseline
from quantize.cache import open_store
from quantize.config import Config
from quantize.data import Data, check_data, list_data
from quantize.diagnose.options import ReportOptions
from quantize.inquiry import Inquiry
from quantize.judged import JudgedOutputs
from quantize.model import load_model
from quantize.resuming import Digests, open_work
from quantize.source import Source, read_source
from quantize.stages import Stages
from quantize.work import Work


@dataclass(frozen=True)
class Inputs:
    """Everything that is settled before the first model is made.

    Attributes:
        source: the fp32 model.
        data: the images of every role, those that cannot be used left out.
        inquiry: what the report asks for.
        baseline: what the fp32 model says about the evaluation images.
        judged: what the last judged int8 model says about them.
        digests: what tells the images from others.
        work: where what is finished is kept.
    """

    source: Source
    data: Data
    inquiry: Inquiry
    baseline: Baseline
    judged: JudgedOutputs
    digests: Digests
    work: Work


def read_inputs(
    config: Config, stages: Stages, input_model: Path, start_from: Path | None, report: ReportOptions
) -> Inputs:
    """Reads and checks what was given, cheap mistakes first, and runs the fp32 model.

    Args:
        config: the configuration.
        stages: times and tells.
        input_model: the fp32 model.
        start_from: a QDQ model that is refined instead of searching for one.
        report: how the report is made.

    Raises:
        InputError: something given is wrong.
        EngineError: the runtime failed.
    """
    store = open_store(config, stages.warn)
    with stages.stage("read and prepare the model"):
        source = read_source(input_model, config)
        if start_from is not None:  # a mistake in it is told before any work
            load_model(start_from, named="--start_from ", strict=False)
    with stages.stage("list the images"):
        data = list_data(config, source.signature, progress=stages.shown, store=store)
        inquiry = Inquiry(config, source, data, report)
        for warning in inquiry.warnings:
            stages.warn(warning)
    with stages.stage("check the images"):
        data = check_data(data, config, source.signature)
        inquiry.uses(data)
        stages.count_images("check the images", data.soundness.checked)
        _announce(stages, source, data)
    baseline = Baseline(input_model.absolute(), data.evaluation, workers=config.thread_count)
    with stages.stage("fp32 baseline"):
        stages.count_images("fp32 baseline", baseline.evaluation.counts.images)
    with stages.stage("hash the images"):
        digests = Digests.of(data)
        stages.count_images("hash the images", len(data.calibration.images) + len(data.evaluation.images))
    work = open_work(config, source, data, digests, store, start_from=start_from)
    judged = JudgedOutputs(data.evaluation)
    return Inputs(source, data, inquiry, baseline, judged, digests, work)


def _announce(stages: Stages, source: Source, data: Data) -> None:
    stages.say(
        f"{source.path.name}: opset {source.signature.opset}, {len(source.inventory.quantizable)} operators "
        f"can be int8, {source.inventory.weighted_count()} of them with weights"
    )
    judging = "" if data.judging is None else f"{len(data.judging.images)} to choose variants by, "
    stages.say(
        f"{len(data.calibration.images)} images to calibrate on, {judging}{len(data.evaluation.images)} "
        "others to judge"
    )
    for warning in (*source.warnings, *data.warnings):
        stages.say(f"warning: {warning}")
