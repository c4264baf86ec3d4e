"""The sections `model`, `quantization`, `evaluation` and `tuning` of the 1.x schema, and our fields in them.

A field whose description says "not acted on" is listed in `quantize.config.unused` and named in a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from quantize.config.data import Dataloader, LabelPostprocess
from quantize.config.fields import AtOnce, FreeMapping, NonNegative, Positive, Section, SizeList, no_settings
from quantize.config.patterns import check_pattern
from quantize.config.suggest import did_you_mean
from quantize.errors import quoted
from quantize.target import TARGETS, TargetName

__all__ = ["Accuracy", "Calibration", "Evaluation", "Model", "Performance", "Quantization"]

_FRAMEWORKS = ("onnxrt_qlinearops", "onnxrt_qdq")
_STATIC: Literal["post_training_static_quant"] = "post_training_static_quant"
_OTHER_APPROACHES = frozenset(
    ("post_training_dynamic_quant", "post_training_auto_quant", "quant_aware_training")
)
_OTHER_METRICS = (
    *("mAP", "COCOmAP", "COCOmAPv2", "VOCmAP", "SquadF1", "MSE", "RMSE", "MAE", "Loss", "BLEU"),
    *("F1", "mIOU", "GLUE", "ROC"),
)


class Model(Section):
    """Which model, and in which form the int8 model is wanted first."""

    name: str = Field(default="model", description="What reports call the model. Default: model.")
    framework: Literal["onnxrt_qlinearops", "onnxrt_qdq"] = Field(
        default="onnxrt_qlinearops",
        description="The primary format: onnxrt_qlinearops (the default: QOperator) or onnxrt_qdq.",
    )
    inputs: Any = Field(default=None, description="1.x: read from the model; not acted on.")
    outputs: Any = Field(default=None, description="1.x: read from the model; not acted on.")

    @field_validator("framework", mode="before")
    @classmethod
    def _known_framework(cls, given: Any) -> Any:
        if given in ("onnxrt_integerops", "onnxrt_integer"):
            raise ValueError(
                f"{quoted(given)} is dynamic quantization, which has no calibrated scales for convolutions; "
                "use onnxrt_qlinearops or onnxrt_qdq"
            )
        if given == "onnxrt_qdqops":  # how part of the 1.x documentation spells it
            return "onnxrt_qdq"
        if given not in _FRAMEWORKS:
            raise ValueError(f"{quoted(given)} is not supported; {did_you_mean(str(given), _FRAMEWORKS)}")
        return given


class Calibration(Section):
    """The images from which activation ranges are learnt."""

    sampling_size: SizeList = Field(
        default=(100,), description="How many images. 1.x accepts a list: the first is used. Default: 100."
    )
    allow_overlap: bool = Field(
        default=False,
        description="Evaluate on calibration images too (ours); the report then warns. Default: false.",
    )
    dataloader: Dataloader = Field(default_factory=Dataloader, description="Default: as evaluation.accuracy.")


class Quantization(Section):
    """How the model is quantized."""

    approach: Literal["post_training_static_quant"] = Field(
        default=_STATIC, description=f"Only {_STATIC} exists here. Default: {_STATIC}."
    )
    quant_format: Literal["QOperator", "QDQ", "both"] = Field(
        default="both",
        description="Which files are written (ours). Default: both, the framework's one first.",
    )
    target: TargetName = Field(
        default="portable",
        description="Which deployment's kernels the models are made for (ours): portable, avx2, vnni, arm, "
        "tensorrt or qnn. Default: portable.",
    )
    calibration: Calibration = Field(default_factory=Calibration, description="Default: 100 images.")
    op_wise: FreeMapping = Field(
        default_factory=no_settings,
        description="Operator name (pattern) → settings: which range rules (activation.algorithm), which "
        "granularity of weights, or fp32 (dtype).",
    )
    optype_wise: FreeMapping = Field(
        default_factory=no_settings, description="Operator type (pattern) → settings; as op_wise."
    )
    model_wise: FreeMapping = Field(
        default_factory=no_settings, description="Settings for all operators; as op_wise."
    )
    recipes: FreeMapping = Field(
        default_factory=no_settings, description="1.x: switches of the engine; not acted on."
    )
    train: FreeMapping | None = Field(default=None, description="1.x: training; not acted on.")
    advance: FreeMapping | None = Field(default=None, description="1.x: bias correction; not acted on.")
    optimization_level: int | None = Field(default=None, description="1.x: not acted on.")

    @field_validator("approach", mode="before")
    @classmethod
    def _static_only(cls, given: Any) -> Any:
        if given in _OTHER_APPROACHES:
            raise ValueError(f"{quoted(given)} is not what this pipeline does; use {_STATIC}")
        if given != _STATIC:
            raise ValueError(f"{quoted(given)} is not supported; {did_you_mean(str(given), (_STATIC,))}")
        return given

    @field_validator("target", mode="before")
    @classmethod
    def _known_target(cls, given: Any) -> Any:
        if given not in tuple(TARGETS):
            raise ValueError(f"{quoted(given)} is no target; {did_you_mean(str(given), tuple(TARGETS))}")
        return given

    @model_validator(mode="after")
    def _readable(self) -> Quantization:
        formats = TARGETS[self.target].formats
        if self.quant_format != "both" and self.quant_format not in formats:
            raise ValueError(
                f"quant_format: {self.quant_format} and target: {self.target} contradict each other: "
                f"{self.target} reads {' and '.join(formats)} only; use quant_format: {formats[0]}, or "
                "target: portable"
            )
        return self

    @field_validator("model_wise")
    @classmethod
    def _parts(cls, given: Any) -> Any:
        for part, choice in given.items():
            if choice is not None and not isinstance(choice, Mapping):
                raise ValueError(f"{part}: expected fields such as `algorithm: minmax`, got {quoted(choice)}")
        return given

    @field_validator("op_wise", "optype_wise")
    @classmethod
    def _patterns(cls, given: Any) -> Any:
        for pattern, settings in given.items():
            if not isinstance(settings, Mapping):
                raise ValueError(f"{pattern}: expected fields (activation, weight), got {quoted(settings)}")
            for part, choice in settings.items():
                if part not in ("activation", "weight"):
                    raise ValueError(
                        f"{pattern}: {quoted(part)} {did_you_mean(part, ('activation', 'weight'))}"
                    )
                if choice is not None and not isinstance(choice, Mapping):
                    raise ValueError(
                        f"{pattern}.{part}: expected fields such as `dtype: ['fp32']`, got {quoted(choice)}"
                    )
            check_pattern(pattern)
        return given


class Instances(Section):
    """How a measurement is laid out over the processor."""

    cores_per_instance: AtOnce | None = Field(
        default=None, description="Cores for each instance. Default: all available ones, shared out."
    )
    num_of_instance: AtOnce = Field(default=1, description="Processes that run at the same time. Default: 1.")
    intra_num_of_threads: AtOnce | None = Field(
        default=None, description="Threads inside an operator. Default: cores_per_instance."
    )
    inter_num_of_threads: AtOnce | None = Field(default=None, description="1.x: not acted on.")
    kmp_blocktime: NonNegative | None = Field(default=None, description="1.x: OpenMP; not acted on.")
    kmp_affinity: str | None = Field(default=None, description="1.x: OpenMP; not acted on.")


class Metric(Section):
    """What accuracy means: exactly one of the two."""

    topk: Literal[1, 5] | None = Field(default=None, description="1 or 5. Default: 1.")
    Accuracy: FreeMapping | None = Field(default=None, description="Another name for topk: 1.")

    @field_validator("topk", mode="before")
    @classmethod
    def _no_switch(cls, given: Any) -> Any:
        if isinstance(given, bool):  # true equals 1, so the comparison below would let it pass
            raise ValueError(f"expected 1 or 5, got {quoted(given)}")
        return given

    @model_validator(mode="after")
    def _agree(self) -> Metric:
        if self.Accuracy is not None and self.topk == 5:
            raise ValueError("topk: 5 and Accuracy (which is topk: 1) contradict each other; keep one")
        return self

    @classmethod
    def _help_with(cls, name: str) -> str:
        if name in _OTHER_METRICS:
            return "this pipeline quantizes image classifiers: use topk: 1 or topk: 5"
        return did_you_mean(name, ("topk", "Accuracy"))

    @property
    def name(self) -> Literal["top1", "top5"]:
        """The metric as the rest of the code calls it."""
        return "top5" if self.topk == 5 else "top1"


class Accuracy(Section):
    """How accuracy is measured."""

    metric: Metric = Field(default_factory=Metric, description="Default: topk: 1.")
    sampling_size: Positive | None = Field(
        default=None, description="How many images (ours). Default: all that calibration did not use."
    )
    iteration: int = Field(
        default=-1, ge=-1, description="1.x: at most so many batches; -1 is all. Default: -1."
    )
    dataloader: Dataloader = Field(
        default_factory=Dataloader, description="Default: as quantization.calibration."
    )
    postprocess: LabelPostprocess = Field(default_factory=LabelPostprocess, description="Default: nothing.")
    configs: Instances = Field(default_factory=Instances, description="1.x: not acted on; use `threads`.")
    multi_metrics: FreeMapping | None = Field(default=None, description="1.x: not acted on; use metric.")

    @model_validator(mode="after")
    def _one_limit(self) -> Accuracy:
        if self.iteration == 0:
            raise ValueError("iteration is 0, which leaves no image; write -1 for all batches, or at least 1")
        if self.sampling_size is not None and self.iteration > 0:
            raise ValueError(
                f"sampling_size ({self.sampling_size} images) and iteration ({self.iteration} batches) "
                "both limit the images; keep one"
            )
        return self


class Performance(Section):
    """How speed is measured."""

    warmup: NonNegative = Field(default=5, description="Runs that are not counted. Default: 5.")
    iteration: int = Field(
        default=-1, ge=-1, description="Runs that are counted; -1 lets the benchmark choose."
    )
    configs: Instances = Field(default_factory=Instances, description="Default: one instance on all cores.")
    dataloader: Dataloader = Field(default_factory=Dataloader, description="Default: as evaluation.accuracy.")
    postprocess: LabelPostprocess | None = Field(default=None, description="1.x: not acted on.")

    @field_validator("iteration")
    @classmethod
    def _some(cls, given: int) -> int:
        if given == 0:
            raise ValueError("0 runs measure nothing; write at least 1, or -1 to let the benchmark choose")
        return given


class Evaluation(Section):
    """What is measured."""

    accuracy: Accuracy = Field(default_factory=Accuracy, description="Default: top-1.")
    performance: Performance = Field(default_factory=Performance, description="Default: one instance.")
