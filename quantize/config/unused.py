"""Fields of the 1.x schema that we accept but do not act on.

Each is listed with the values that ask for what happens anyway: `performance_only: false` is honoured without
any code, `performance_only: true` is not and has to be named. A section listed here stands for everything in
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from quantize.config.fields import plain
from quantize.config.restrictions import unused_restrictions

__all__ = ["unused_fields"]

_LOADERS = (
    "quantization.calibration.dataloader",
    "evaluation.accuracy.dataloader",
    "evaluation.performance.dataloader",
)
_LAYOUTS = ("evaluation.accuracy.configs", "evaluation.performance.configs")

# Dotted field → the values that need no warning.
_NOT_ACTED_ON: dict[str, tuple[Any, ...]] = {
    "model.inputs": ([],),
    "model.outputs": ([],),
    **{
        f"{loader}.{field}": values
        for loader in _LOADERS
        for field, values in {
            "last_batch": ("rollover",),
            "filter": ({},),
            "shuffle": (False,),
            "distributed": (False,),
            "dataset.dummy": (),
            "dataset.dummy_v2": (),
        }.items()
    },
    **{
        f"{layout}.{field}": ()
        for layout in _LAYOUTS
        for field in ("inter_num_of_threads", "kmp_blocktime", "kmp_affinity")
    },
    "quantization.train": ({},),
    "quantization.advance": ({},),
    "quantization.optimization_level": (),
    # What the engine does with every model here, spelt out.
    "quantization.recipes.scale_propagation_max_pooling": (True,),
    "quantization.recipes.scale_propagation_concat": (True,),
    "quantization.recipes.first_conv_or_matmul_quantization": (True,),
    "quantization.recipes.last_conv_or_matmul_quantization": (True,),
    "quantization.recipes.pre_post_process_quantization": (True,),
    "quantization.recipes.fast_bias_correction": (False,),
    "quantization.recipes.weight_correction": (False,),
    "quantization.recipes.*": (),
    "evaluation.accuracy.configs.cores_per_instance": (),
    "evaluation.accuracy.configs.num_of_instance": (1,),
    "evaluation.accuracy.configs.intra_num_of_threads": (),
    "evaluation.accuracy.multi_metrics": ({},),
    "evaluation.accuracy.postprocess.transform.Collect": (),
    "evaluation.accuracy.postprocess.transform.SquadV1": (),
    "evaluation.accuracy.postprocess.transform.SquadV1ModelZoo": (),
    "evaluation.performance.postprocess": ({},),
    "tuning.strategy.confidence_batches": (),
    "tuning.strategy.accuracy_weight": (1.0,),
    "tuning.strategy.latency_weight": (1.0,),
    "tuning.strategy.hawq_v2_loss": (),
    "tuning.strategy.sigopt_api_token": (),
    "tuning.strategy.sigopt_project_id": (),
    "tuning.strategy.sigopt_experiment_name": (),
    "tuning.exit_policy.performance_only": (False,),
    "tuning.workspace.resume": (),
    "tuning.objective": ("performance",),
    "tuning.multi_objectives": ({},),
    "tuning.tensorboard": (False,),
    "tuning.diagnosis": ({}, False),
    "use_bf16": (False,),
    "optimization_level": (),
    "graph_optimization": ({},),
    "mixed_precision": ({},),
    "pruning": ({},),
    "distillation": ({},),
    "auto_distillation": ({},),
    "nas": ({},),
    "train": ({},),
}


def unused_fields(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Dotted names of the given fields that have no effect, in written order.

    Args:
        content: a configuration that passed validation, as it was written.
    """
    return (*_walk(content, ""), *unused_restrictions(content.get("quantization") or {}))


def _walk(content: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in content.items():
        dotted = f"{prefix}{name}"
        known = dotted if dotted in _NOT_ACTED_ON else f"{prefix}*"
        if dotted not in _NOT_ACTED_ON and isinstance(value, Mapping) and f"{dotted}.*" in _NOT_ACTED_ON:
            yield from _walk(value, f"{dotted}.")
        elif known in _NOT_ACTED_ON:
            if value is not None and not any(_same(value, harmless) for harmless in _NOT_ACTED_ON[known]):
                yield dotted
        elif isinstance(value, Mapping):
            yield from _walk(value, f"{dotted}.")


def _same(value: Any, harmless: Any) -> bool:
    """Equal in value and kind: 1 is not true."""
    return isinstance(value, bool) == isinstance(harmless, bool) and plain(value) == harmless
