"""From a QDQ model that somebody else made to a refined one, without a search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from quantize.baseline import Baseline
from quantize.config import Config
from quantize.data import Data
from quantize.engine import EngineResult, Trial
from quantize.errors import InputError, PipelineError
from quantize.judged import JudgedOutputs
from quantize.judging import AccuracyJudge
from quantize.measuring import measure_ranges
from quantize.model import load_model
from quantize.operators import FloatOperator
from quantize.qdq import write_qdq
from quantize.refine import Network, Refiner, RefineReport
from quantize.refine.given import Given, read_given
from quantize.refining import begin_refinement
from quantize.saturation import SATURATION_IMAGES, find_saturation
from quantize.search import say_trial
from quantize.source import Source
from quantize.stages import Stages
from quantize.work import Work

_FLOAT_REASON = "it is float in the model that the run started from"


def refine_given(
    config: Config,
    source: Source,
    data: Data,
    stages: Stages,
    path: Path,
    *,
    baseline: Baseline | None = None,
    judged: JudgedOutputs | None = None,
    work: Work | None = None,
) -> EngineResult:
    """Refines a QDQ model of the input model: its integer operators stay, all else is made better.

    Args:
        config: the configuration.
        source: the fp32 model.
        data: the images.
        stages: times and tells.
        path: the QDQ model.
        baseline: knows what the fp32 model says about the evaluation images.
        judged: remembers what the refined model says about them.
        work: where what is finished is kept.

    Raises:
        InputError: it is no QDQ model of the input model, or nothing may be refined.
        EngineError: the runtime failed.
    """
    work = Work.forgotten() if work is None else work
    network = Network(source.prepared, source.inventory, config.target, source.signature.probabilities)
    given = read_given(load_model(path, named="--start_from ", strict=False), network, name=str(path))
    warnings = _saturation(path, data)
    for warning in warnings:
        stages.say(f"warning: {warning}")
    ranges = measure_ranges(config, source, data, stages, work)
    source, _, refiner = begin_refinement(config, source, data, ranges, stages, given=given.scales, work=work)
    if refiner is None:
        raise InputError("--start_from needs refinement: give --refine fast or full, and enough images")
    setting = _Setting(config, source, data, stages, baseline, judged, work)
    began_s = work.clock()
    model, report = setting.refined(given, refiner)
    fp32_accuracy, accuracy = setting.accuracies(model)
    left = [o for o in source.inventory.quantizable if o.name not in given.operators]
    trial = Trial(
        number=1,
        accuracy=accuracy,
        decline=config.criterion.decline(fp32_accuracy, accuracy),
        met=config.criterion.met(fp32_accuracy, accuracy),
        rules=(report.rule,),
        per_channel=True,
        fp32_operators=tuple(operator.name for operator in left),
        duration_s=work.clock() - began_s,
        refinement=report,
    )
    reused = {"accuracy", "refinement"} <= set(work.taken())
    say_trial(trial, config, stages, reused=reused)
    floats = tuple(FloatOperator(o.name, o.op_type, _FLOAT_REASON, fallback=True) for o in left)
    return EngineResult(
        model=model,
        fp32=source.prepared,
        met=trial.met,
        trial=trial,
        trials=(trial,),
        baseline=fp32_accuracy,
        fp32_operators=(*floats, *source.inventory.floating),
        sensitivity={},
        stopped_by="criterion" if trial.met else "exhausted",
        warnings=warnings,
        reused_trials=(trial.number,) if reused else (),
    )


@dataclass(frozen=True)
class _Setting:
    """What every step needs; the arguments of `refine_given`."""

    config: Config
    source: Source
    data: Data
    stages: Stages
    baseline: Baseline | None
    judged: JudgedOutputs | None
    work: Work

    def refined(self, given: Given, refiner: Refiner) -> tuple[onnx.ModelProto, RefineReport]:
        """The QDQ model with the integer operators of the given one, and what refinement did."""
        source, rule = self.source, self.config.refine.ranges
        tensors = {t for o in source.inventory.quantizable if o.name in given.operators for t in o.tensors}
        with self.stages.stage("refine"):
            draft, report = refiner.refine(given.operators, dict.fromkeys(sorted(tensors), rule))
            model = write_qdq(source.prepared, source.inventory, draft.plan(), self.config.target)
        return model, report

    def accuracies(self, model: onnx.ModelProto) -> tuple[float, float]:
        """The accuracy of the fp32 model and of the refined one, fractions."""
        with self.stages.stage("judge"):
            # Only the accepted model is judged here, which is never abandoned.
            judge = AccuracyJudge(
                self.data.evaluation,
                self.config.criterion,
                threads=self.config.thread_count,
                classes=self.source.signature.classes,
                baseline=self.baseline,
                judged=self.judged,
                work=self.work,
            )
            return judge(self.source.prepared), judge(model)


def _saturation(path: Path, data: Data) -> tuple[str, ...]:
    """What saturates in the given model, here or elsewhere; its refined form is checked by itself.

    Nothing of a model that ONNX Runtime does not run on these images: for refinement it is only read.
    """
    count = min(len(data.calibration.images), SATURATION_IMAGES)
    ((images, _),) = data.calibration.subset(range(count), batch_size=count)
    try:
        found = find_saturation(path, images)
    except PipelineError:
        return ()
    return () if found is None else tuple(found.lines(f"--start_from {path.name}"))
