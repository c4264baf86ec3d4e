"""The whole schema: Neural Compressor's 1.x YAML, and the few fields of ours."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from quantize.config.cache import Cache
from quantize.config.fields import AtOnce, Section
from quantize.config.image_files import ImageFiles
from quantize.config.refine import Refine
from quantize.config.sections import Evaluation, Model, Quantization
from quantize.config.tuning import Tuning
from quantize.errors import quoted

__all__ = ["Settings"]

_VERSIONS = ("1.0", "1")


class Settings(Section):
    """A validated configuration, section by section, as it was written."""

    model: Model = Field(default_factory=Model, description="Which model. Default: QOperator first.")
    quantization: Quantization = Field(default_factory=Quantization, description="How it is quantized.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="What is measured.")
    refine: Refine = Field(default_factory=Refine, description="How it is improved (ours). Default: full.")
    tuning: Tuning = Field(default_factory=Tuning, description="How the search goes.")
    threads: AtOnce | None = Field(
        default=None,
        description="Threads for everything but the benchmark (ours). Default: all available cores.",
    )
    images: ImageFiles = Field(default_factory=ImageFiles, description="How far files are trusted (ours).")
    cache: Cache = Field(default_factory=Cache, description="What is kept between runs (ours).")
    device: Literal["cpu"] = Field(default="cpu", description="Only cpu exists here. Default: cpu.")
    version: Any = Field(default=None, description="1.x: version of the schema, 1.0.")
    use_bf16: bool | None = Field(default=None, description="1.x: not acted on.")
    optimization_level: int | None = Field(default=None, description="1.x: not acted on.")
    graph_optimization: Any = Field(default=None, description="1.x: another task; not acted on.")
    mixed_precision: Any = Field(default=None, description="1.x: another task; not acted on.")
    pruning: Any = Field(default=None, description="1.x: another task; not acted on.")
    distillation: Any = Field(default=None, description="1.x: another task; not acted on.")
    auto_distillation: Any = Field(default=None, description="1.x: another task; not acted on.")
    nas: Any = Field(default=None, description="1.x: another task; not acted on.")
    train: Any = Field(default=None, description="1.x: training; not acted on.")

    @field_validator("device", mode="before")
    @classmethod
    def _cpu_only(cls, given: Any) -> Any:
        if given != "cpu":
            raise ValueError(
                f"{quoted(given)} is not supported, the int8 kernels used here are the CPU's; use cpu"
            )
        return given

    @model_validator(mode="after")
    def _resumes_from_the_cache(self) -> Settings:
        if self.tuning.resume and not self.cache.enabled:
            raise ValueError(
                "tuning.resume and cache.enabled: false contradict each other: finished work is kept in the "
                "cache; remove one"
            )
        return self

    @field_validator("version")
    @classmethod
    def _schema_version(cls, given: Any) -> Any:
        if str(given) not in _VERSIONS:
            raise ValueError(f"{quoted(given)} is another schema than this one; write 1.0, or remove it")
        return given
