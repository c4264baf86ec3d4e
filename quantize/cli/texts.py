"""The prose of the command line."""

from __future__ import annotations

from quantize.cli.flags import BENCHMARK, EVALUATE, TUNE

__all__ = [
    "DESCRIPTION",
    "DESCRIPTIONS",
    "EXAMPLES",
    "EXIT_CODES",
    "SHORT_USAGE",
    "SUMMARIES",
    "USAGES",
]

DESCRIPTION = """Tunes an ONNX image classifier into int8, and proves what it costs in accuracy.

Each command has a help of its own: python -m quantize COMMAND --help"""

SUMMARIES = {
    TUNE: "make int8 models within an accuracy tolerance",
    EVALUATE: "measure the accuracy of a model",
    BENCHMARK: "measure the speed of a model",
}

USAGES = {
    TUNE: (
        "bash run_tuning.sh --input_model=M.onnx --config=FILE --output_model=OUT [flags]\n"
        "       bash run_tuning.sh --demo [flags]\n"
        "       (the same as: python -m quantize tune …)"
    ),
    EVALUATE: "python -m quantize evaluate --input_model=M.onnx --config=FILE [flags]",
    BENCHMARK: (
        "bash run_benchmark.sh --input_model=M.onnx --config=FILE --mode=accuracy|performance [flags]\n"
        "       (the same as: python -m quantize benchmark …)"
    ),
}

DESCRIPTIONS = {
    TUNE: """Finds an int8 version of a model that loses no more accuracy than tolerated, writes it in both
ONNX formats with a report, and checks the files it wrote. Flags win over the configuration; the
defaults named here are those of a configuration that does not say. `--key=value` and `--key value` are
the same.""",
    EVALUATE: """Measures top-1 and top-5 accuracy on the evaluation images of the configuration.
Flags win over the configuration. `--key=value` and `--key value` are the same.""",
    BENCHMARK: """Measures latency (median, 90th and 99th percentile) and throughput, with the warm-up,
threads and instances of the configuration, or accuracy. Flags win over the configuration.""",
}

EXAMPLES = {
    TUNE: """examples:
  bash run_tuning.sh --demo
  bash run_tuning.sh --input_model=mobilenetv2-12.onnx --config=mobilenetv2.yaml --output_model=out \\
      --dataset_location=imagenet/val --label_path=imagenet/val.txt
  bash run_tuning.sh --input_model=m.onnx --config=my.yaml --output_model=m8.onnx --tolerable_loss=0.5%""",
    EVALUATE: """example:
  python -m quantize evaluate --input_model=out/m-int8.onnx --config=my.yaml --eval_samples=1000""",
    BENCHMARK: """examples:
  bash run_benchmark.sh --input_model=out/m-int8.onnx --config=my.yaml --mode=performance --batch_size=1
  bash run_benchmark.sh --input_model=out/m-int8.onnx --config=my.yaml --mode=accuracy""",
}

_CODES = """exit codes:
  0  done{done}
  2  wrong input or usage; one line on stderr says which and what to do
  3  the engine failed (--verbose shows where)
  130  interrupted; files that were there before are untouched"""

_TUNE_CODES = _CODES.format(
    done="""; the int8 models are within the tolerance
  1  the tolerance was not met; nothing is kept without --keep_failed"""
)

EXIT_CODES = {TUNE: _TUNE_CODES} | dict.fromkeys((EVALUATE, BENCHMARK), _CODES.format(done=""))

# For someone who typed a command and nothing else.
SHORT_USAGE = {
    TUNE: """usage: bash run_tuning.sh --input_model=M.onnx --config=FILE --output_model=OUT [flags]
       bash run_tuning.sh --demo      tunes the bundled example: nothing else is needed
       bash run_tuning.sh --help      lists every flag""",
    EVALUATE: """usage: python -m quantize evaluate --input_model=M.onnx --config=FILE [flags]
       python -m quantize evaluate --help      lists every flag""",
    BENCHMARK: """usage: bash run_benchmark.sh --input_model=M.onnx --config=FILE --mode=performance [flags]
       bash run_benchmark.sh --help      lists every flag""",
    "": """usage: python -m quantize tune|evaluate|benchmark --input_model=M.onnx --config=FILE [flags]
       python -m quantize tune --demo      tunes the bundled example: nothing else is needed
       python -m quantize --help           lists every command""",
}
