"""Which operators a pattern means, and which of its choices reach the engine."""

from __future__ import annotations

import re

from quantize.engine.restrictions import translate

NAMES = ["Conv_0", "Conv_1", "block[0]/conv(a", "Conv.2"]


def matched(pattern: str) -> list[str]:
    spelled, _ = translate("op_wise", {pattern: {"weight": {"dtype": "fp32"}}}, NAMES)
    return [name for key in spelled for name in NAMES if re.compile(key).fullmatch(name)]


def test_a_name_comes_before_a_pattern() -> None:
    assert matched("Conv.2") == ["Conv.2"]
    assert matched("block[0]/conv(a") == ["block[0]/conv(a"]


def test_patterns_are_regular_expressions_or_else_shell_patterns() -> None:
    assert matched("Conv_[01]") == ["Conv_0", "Conv_1"]
    assert matched("Conv_.*") == ["Conv_0", "Conv_1"]
    assert matched(re.escape("block[0]/conv(a")) == ["block[0]/conv(a"]
    assert matched("*_?") == ["Conv_0", "Conv_1"]  # no regular expression
    assert matched("Conv") == []  # the whole name counts


def test_values_become_lists_of_what_is_offered() -> None:
    given = {"Conv_0": {"weight": {"dtype": "fp32"}, "activation": {"algorithm": ("kl", "magic")}}}
    spelled, warnings = translate("op_wise", given, NAMES)
    assert list(spelled.values()) == [{"weight": {"dtype": ["fp32"]}, "activation": {"algorithm": ["kl"]}}]
    assert warnings == ()


def test_empty_settings_restrict_nothing() -> None:
    given = {"Conv_0": None, "Conv_1": {"weight": None, "activation": {"algorithm": [], "dtype": None}}}
    spelled, warnings = translate("op_wise", given, NAMES)
    assert list(spelled.values()) == [{}, {}]
    assert warnings == ()


def test_two_patterns_for_the_same_operators_are_both_kept() -> None:
    given = {"Conv_.*": {"weight": {"dtype": "fp32"}}, "Conv_[01]": {"weight": {"granularity": "per_tensor"}}}
    spelled, _ = translate("op_wise", given, NAMES)
    assert len(spelled) == 2


def test_what_has_no_effect_is_named_with_the_choices() -> None:
    given = {"Conv_0": {"activation": {"dtype": ["int8"]}, "bias": {"dtype": ["int8"]}}, "Gather_*": {}}
    _, warnings = translate("op_wise", given, NAMES)
    assert warnings == (
        "op_wise.Conv_0.activation.dtype: int8 had no effect; offered are uint8, fp32",
        "op_wise.Conv_0.bias.dtype: int8 had no effect; there is no such setting",
        "op_wise: 'Gather_*' matches no operator that can be int8, and had no effect",
    )
