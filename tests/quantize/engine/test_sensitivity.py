"""Sensitivity around the search: what is known before orders it, and what it made can be varied."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

from quantize import engine
from quantize.ranges import RULES


def test_what_was_measured_before_orders_the_fallbacks(kit: Any) -> None:
    harm = kit.Harm({"stem": 0.5, "project": 0.3})
    measured = []

    def divergence(model: onnx.ModelProto) -> float:
        measured.append(model)
        found: float = harm.divergence(model)
        return found

    task = kit.build_task(judge=harm, divergence=divergence)
    names = [operator.name for operator in task.inventory.quantizable]
    # The file says that the operators do harm in the order of the alphabet, whatever the truth is.
    known = {name: 1.0 - sorted(names).index(name) / 100 for name in names}
    result = engine.tune(task, kit.build_options(0.01, known_nats=known, max_trials=len(RULES) + 3))
    assert result.sensitivity == known
    fallbacks = [set(trial.fp32_operators) for trial in result.trials if trial.fp32_operators]
    assert fallbacks
    assert fallbacks == [set(sorted(names)[: k + 1]) for k in range(len(fallbacks))]
    # The rules were ranked by whole models, and no operator was measured.
    assert all(kit.integer_operators(model) == set(kit.WEIGHTED) for model in measured)

    some = {name: nats for name, nats in known.items() if name != "stem"}
    measured.clear()
    result = engine.tune(task, kit.build_options(0.01, known_nats=some, max_trials=len(RULES) + 3))
    assert set(result.sensitivity) == set(names)
    assert result.sensitivity["project"] == known["project"]
    assert result.sensitivity["stem"] == pytest.approx(0.5)


def test_the_finished_model_can_be_measured_without_an_operator(kit: Any) -> None:
    harm = kit.Harm({"stem": 0.001, "project": 0.003})
    task = kit.build_task(judge=harm, divergence=harm.divergence)
    result = engine.tune(task, kit.build_options(0.01, timeout_s=0.5))
    assert result.trial.fp32_operators == ()
    assert result.divergence_without is not None
    full = result.divergence_without(None)
    saved = {name: full - result.divergence_without(name) for name in kit.WEIGHTED}
    assert saved == pytest.approx(dict.fromkeys(kit.WEIGHTED, 0.0) | {"stem": 0.001, "project": 0.003})
