"""Every flag of the command line, once: its name, its help, what it accepts and which field it sets.

Nothing heavy is imported here: `--help` reads this table and nothing else.
"""

from __future__ import annotations

from quantize.cli.flag import ACCURACY, BENCHMARK, COMMANDS, EVALUATE, PERFORMANCE, TUNE, Flag
from quantize.cli.flag import number_flag as _number
from quantize.cli.image_flags import IMAGE_FLAGS
from quantize.cli.values import gigabytes, one_of, path, seconds, text

__all__ = [
    "ACCURACY",
    "BENCHMARK",
    "COMMANDS",
    "EVALUATE",
    "FLAGS",
    "PERFORMANCE",
    "TUNE",
    "Flag",
]

_FILES = "files"
_REFINEMENT = "refinement of the integer model"
_ACCURACY = "accuracy that may be lost"
_SEARCH = "search"
_SPEED = "speed"
_RUN = "run"
_CACHE = "cache of decoded images"

_LAYOUT = "evaluation.performance.configs"


_FILE_FLAGS = (
    Flag("input_model", _FILES, "the fp32 model (evaluate, benchmark: any model)", COMMANDS, path, "M.onnx"),
    Flag("config", _FILES, "the YAML configuration; also looked for in configs/", COMMANDS, path, "FILE"),
    Flag(
        name="output_model",
        group=_FILES,
        help="where the int8 models go: a name ending in .onnx, or a folder",
        parse=path,
        metavar="OUT",
    ),
    Flag("demo", _FILES, "tune the bundled example; needs neither a model nor a configuration"),
    Flag("keep_failed", _FILES, "keep the best model that misses the tolerance, under a name that says so"),
    Flag(
        name="quant_format",
        group=_FILES,
        help="which files are written: QOperator, QDQ or both (default: both)",
        parse=one_of("QOperator", "QDQ", "both"),
        metavar="FORMAT",
        field="quantization.quant_format",
    ),
    Flag(
        name="target",
        group=_FILES,
        help="kernels that the models are for: portable, avx2, vnni, arm, tensorrt, qnn (default: portable)",
        parse=one_of("portable", "avx2", "vnni", "arm", "tensorrt", "qnn"),
        metavar="NAME",
        field="quantization.target",
    ),
    Flag(
        name="workspace",
        group=_FILES,
        help="keep the model of every trial in this folder (default: none is kept)",
        parse=path,
        metavar="DIR",
        field="tuning.workspace.path",
    ),
)

_REPORT = "report"
_REPORT_FLAGS = (
    Flag("no_html", _REPORT, "write report.json only, not report.html and report.md; look for no causes"),
    Flag(
        name="labels",
        group=_REPORT,
        help="names of the classes, a line each (default: synset.txt beside the image list, or folders)",
        parse=path,
        metavar="FILE",
    ),
    Flag(
        name="sensitivity",
        group=_REPORT,
        help="a file that the command `sensitivity` wrote: the fallback order, and a chart of the report",
        parse=path,
        metavar="FILE",
    ),
    Flag(
        name="measure_sensitivity",
        group=_REPORT,
        help="measure what every operator costs, for the report (default: where it takes under 2 seconds)",
    ),
)

_REFINE_FLAGS = (
    Flag(
        name="start_from",
        group=_REFINEMENT,
        help="refine this QDQ model of --input_model, whoever made it, instead of searching for one",
        parse=path,
        metavar="QDQ.onnx",
    ),
    Flag(
        name="refine",
        group=_REFINEMENT,
        help="none, fast (one rule for ranges) or full (the best of several) (default: full)",
        parse=one_of("none", "fast", "full"),
        metavar="EFFORT",
        field="refine.effort",
    ),
    _number(
        name="selection_samples",
        group=_REFINEMENT,
        help="images that choose between variants, used for nothing else (default: 50)",
        commands=COMMANDS,
        field="refine.selection_samples",
    ),
    Flag(
        name="ranges",
        group=_REFINEMENT,
        help="rule for activation ranges (default: auto, by the effect on the scores)",
        parse=text,
        metavar="RULE",
        field="refine.ranges",
    ),
)

_ACCURACY_FLAGS = (
    Flag(
        name="criterion",
        group=_ACCURACY,
        help="relative, (fp32 - int8) / fp32, or absolute, fp32 - int8 (default: relative)",
        parse=one_of("relative", "absolute"),
        metavar="KIND",
    ),
    Flag(
        name="tolerable_loss",
        group=_ACCURACY,
        help="the most that may be lost, such as 0.01 or 1%% (default: 1%%)",
        parse=text,
        metavar="X",
    ),
    Flag(
        name="metric",
        group=_ACCURACY,
        help="top1 or top5 (default: top1)",
        parse=one_of("top1", "top5"),
        metavar="METRIC",
    ),
)

_SEARCH_FLAGS = (
    Flag(
        name="strategy",
        group=_SEARCH,
        help="sensitivity, basic, bayesian, exhaustive, mse_v2 or conservative (default: sensitivity)",
        parse=text,
        metavar="NAME",
        field="tuning.strategy.name",
    ),
    _number(
        "max_trials",
        _SEARCH,
        "at most so many trials (default: 100)",
        (TUNE,),
        "tuning.exit_policy.max_trials",
    ),
    Flag(
        name="timeout",
        group=_SEARCH,
        help="seconds to search for the best; 0 stops at the first success (default: 0)",
        parse=seconds,
        metavar="SECONDS",
        field="tuning.exit_policy.timeout",
    ),
    _number(
        name="seed",
        group=_SEARCH,
        help="seed of the choice of images and of the search (default: 9527)",
        commands=COMMANDS,
        field="tuning.random_seed",
    ),
)

_SPEED_FLAGS = (
    Flag(
        name="mode",
        group=_SPEED,
        help="performance, or accuracy, which is `evaluate` (default: performance)",
        commands=(BENCHMARK,),
        parse=one_of(PERFORMANCE, ACCURACY),
        metavar="MODE",
    ),
    _number(
        name="warmup",
        group=_SPEED,
        help="runs that do not count (default: 5)",
        commands=(BENCHMARK,),
        field="evaluation.performance.warmup",
    ),
    _number(
        name="iteration",
        group=_SPEED,
        help="runs that count; -1 lets the benchmark choose (default: -1)",
        commands=(BENCHMARK,),
        field="evaluation.performance.iteration",
    ),
    _number(
        name="cores_per_instance",
        group=_SPEED,
        help="threads of each instance (default: all cores, shared out)",
        commands=(BENCHMARK,),
        field=f"{_LAYOUT}.cores_per_instance",
    ),
    _number(
        name="num_of_instance",
        group=_SPEED,
        help="processes at the same time (default: 1)",
        commands=(BENCHMARK,),
        field=f"{_LAYOUT}.num_of_instance",
    ),
)

_CACHE_FLAGS = (
    Flag(
        name="cache_dir",
        group=_CACHE,
        help="its folder (default: quantize-pipeline in $XDG_CACHE_HOME or ~/.cache)",
        commands=COMMANDS,
        parse=path,
        metavar="DIR",
        field="cache.dir",
    ),
    Flag(
        name="cache_size",
        group=_CACHE,
        help="the most it may take, in GB; least recently used goes first (default: 2)",
        commands=COMMANDS,
        parse=gigabytes,
        metavar="GB",
        field="cache.size",
    ),
    Flag(
        name="cache_by_content",
        group=_CACHE,
        help="tell images apart by content too, not only by path, size and times",
        commands=COMMANDS,
        field="cache.by_content",
    ),
    Flag("resume", _CACHE, "reuse the trials that an earlier run had finished", field="tuning.resume"),
    Flag("no_cache", _CACHE, "keep nothing between passes and runs: decode every time", COMMANDS),
)

_RUN_FLAGS = (
    Flag("profile", _RUN, "measure milliseconds by operator kind, of fp32 and of what was written"),
    _number("threads", _RUN, "threads to use (default: all cores)", COMMANDS, "threads"),
    Flag(
        "json", _RUN, "print one JSON document on standard output, and all else on standard error", COMMANDS
    ),
    Flag("quiet", _RUN, "print the verdict and errors only", COMMANDS, other_names=("-q",)),
    Flag("verbose", _RUN, "print every step, and tracebacks of errors", COMMANDS, other_names=("-v",)),
)

FLAGS: tuple[Flag, ...] = (
    *_FILE_FLAGS,
    *_REPORT_FLAGS,
    *IMAGE_FLAGS,
    *_REFINE_FLAGS,
    *_ACCURACY_FLAGS,
    *_SEARCH_FLAGS,
    *_SPEED_FLAGS,
    *_CACHE_FLAGS,
    *_RUN_FLAGS,
)
