"""What the sections of a configuration come down to, as single values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from quantize.config.machine import available_cores
from quantize.config.operators import Restrictions, forced_patterns, means, restrictions, unmatched_patterns
from quantize.config.refine import Refine
from quantize.config.schema import Settings
from quantize.config.sections import Evaluation, Model, Quantization
from quantize.config.tuning import Tuning
from quantize.criterion import Criterion
from quantize.target import TARGETS, Format, Target

__all__ = ["Format", "Resolved"]


@dataclass(frozen=True)
class Resolved:
    """Validated sections, and the values that the pipeline takes from them.

    The sections `model`, `quantization`, `evaluation`, `refine` and `tuning` are as written, with defaults
    filled in.

    Attributes:
        settings: the validated sections.
    """

    settings: Settings

    @property
    def model(self) -> Model:
        """Section `model`."""
        return self.settings.model

    @property
    def quantization(self) -> Quantization:
        """Section `quantization`."""
        return self.settings.quantization

    @property
    def evaluation(self) -> Evaluation:
        """Section `evaluation`."""
        return self.settings.evaluation

    @property
    def refine(self) -> Refine:
        """Section `refine`."""
        return self.settings.refine

    @property
    def tuning(self) -> Tuning:
        """Section `tuning`."""
        return self.settings.tuning

    @property
    def criterion(self) -> Criterion:
        """How much accuracy may be lost, and which accuracy."""
        given = self.tuning.accuracy_criterion
        return Criterion(given.kind, given.tolerance, self.evaluation.accuracy.metric.name)

    @property
    def target(self) -> Target:
        """The deployment that the models are made for."""
        return TARGETS[self.quantization.target]

    @property
    def primary_format(self) -> Format:
        """The format that `--output_model` names: the only one wanted or read, or else the framework's."""
        wanted = self.quantization.quant_format
        if wanted != "both":
            return wanted
        if len(self.target.formats) == 1:
            return self.target.formats[0]
        return "QDQ" if self.model.framework == "onnxrt_qdq" else "QOperator"

    @property
    def formats(self) -> tuple[Format, ...]:
        """The formats to write, the primary one first."""
        if self.quantization.quant_format != "both" or len(self.target.formats) == 1:
            return (self.primary_format,)
        return ("QDQ", "QOperator") if self.primary_format == "QDQ" else ("QOperator", "QDQ")

    @property
    def thread_count(self) -> int:
        """Threads to use: as configured, otherwise every core this process may run on."""
        return self.settings.threads or available_cores()

    @property
    def threads_per_instance(self) -> int:
        """Threads of one benchmark instance; cores are shared out evenly when nothing is configured."""
        layout = self.evaluation.performance.configs
        given = layout.intra_num_of_threads or layout.cores_per_instance
        return given or max(1, self.thread_count // layout.num_of_instance)

    @property
    def selection_count(self) -> int:
        """Images that choose between refined variants; 0 where nothing is refined."""
        return 0 if self.refine.effort == "none" else self.refine.selection_samples

    @property
    def seed(self) -> int:
        """Seed of every random choice."""
        return self.tuning.random_seed

    @property
    def calibration_count(self) -> int:
        """Images to learn activation ranges from."""
        return self.quantization.calibration.sampling_size[0]

    @property
    def evaluation_count(self) -> int | None:
        """Images to measure accuracy on; None for all that calibration leaves."""
        accuracy = self.evaluation.accuracy
        if accuracy.iteration > 0:
            return accuracy.iteration * accuracy.dataloader.batch_size
        return accuracy.sampling_size

    @property
    def fp32_operators(self) -> tuple[str, ...]:
        """Patterns of the operator names that `op_wise` keeps in fp32."""
        return forced_patterns(self.quantization.op_wise)

    @property
    def fp32_operator_types(self) -> tuple[str, ...]:
        """Patterns of the operator types that `optype_wise` keeps in fp32."""
        return forced_patterns(self.quantization.optype_wise)

    def restrictions(self, name: str, op_type: str) -> Restrictions:
        """What the engine may choose from for one operator; see `quantize.config.operators`."""
        return restrictions(self.quantization, name, op_type)

    def unmatched_patterns(self, operators: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """Dotted names of the `op_wise` and `optype_wise` entries that mean none of these (name, type)."""
        return unmatched_patterns(self.quantization, operators)

    def keeps_in_fp32(self, name: str, op_type: str) -> bool:
        """Whether the configuration forbids to quantize this operator."""
        return means(name, self.fp32_operators) or means(op_type, self.fp32_operator_types)
