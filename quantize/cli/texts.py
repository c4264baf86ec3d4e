"""The prose of the command line."""

from __future__ import annotations

from quantize.cli.flags import BENCHMARK, EVALUATE, TUNE

__all__ = [
    "DESCRIPTION",
    "DESCRIPTIONS",
    "EXAMPLES",
    "EXIT_CODES",
    "MEASURING",
    "OUTPUTS",
    "PROGRAM_EXAMPLES",
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
    EVALUATE: """Measures top-1 and top-5 accuracy of any model on the evaluation images of the configuration:
the very images that `tune` judges on, if the other flags are the same. Flags win over the configuration.
`--key=value` and `--key value` are the same.""",
    BENCHMARK: """Measures latency (median, 90th and 99th percentile) and throughput, with the warm-up,
threads and instances of the configuration, or accuracy. Flags win over the configuration. Compare models
call by call with `tune`'s report, or run them in turn: a shared machine drifts by tens of percent.""",
}

# What the flags of `evaluate` and `benchmark` are for, where that is not what they are for in `tune`.
MEASURING = {
    "input_model": "the model, fp32 or int8 (required)",
    "config": "the YAML configuration; also looked for in configs/ (required)",
    "batch_size": "images per inference; accuracy takes at most 4 (default: 1)",
    "calibration_samples": "images that tune learns from, and that are left out here (default: 100)",
    "selection_samples": "images that tune chooses by, and that are left out here too (default: 50)",
    "allow_overlap": "leave no image out",
    "seed": "seed of the choice of images; that of tune, for the same ones (default: 9527)",
    "quiet": "print the result and errors only",
}

# What comes out, and where it goes.
OUTPUTS = {
    TUNE: """files, in the folder OUT, or beside OUT.onnx under names that begin with OUT:
  NAME-int8.onnx, NAME-qdq.onnx        the models: QOperator (OUT.onnx itself, where that is given) and QDQ
  report.json, report.html, report.md  what was measured, as data (quantize/report/schema.json), page and text
  report-failed.…, NAME-…-failed.onnx  instead, where the tolerance was not met (models: with --keep_failed)
  All appear at the end and at once, or not at all.

output:
  The table and the verdict on standard output, progress on standard error.
  --json prints one document: passed, sentence, models, report_path, report""",
    EVALUATE: """output:
  One line: accuracies as fractions, and the number of images.
  --json prints one document: model, images, top1_fraction, top1_correct, top5_fraction, top5_correct,
  top1_ties""",
    BENCHMARK: """output:
  Two lines: latency of one call in milliseconds, and throughput of all instances in images per second.
  --json prints one document: model, latency {calls, median_ms, p90_ms, p99_ms}, throughput_images_per_s,
  batch_size, threads, instances; with --mode=accuracy: as evaluate""",
}

PROGRAM_EXAMPLES = """examples, from a model and photographs to an app:
  python -m quantize prepare model mobilenetv2-12 --output=models
  python -m quantize tune --input_model=models/mobilenetv2-12.onnx --config=mobilenetv2.yaml \\
      --output_model=out --dataset_location=imagenet/val --label_path=imagenet/val.txt
  python -m quantize predict out/mobilenetv2-12-int8.onnx photo.jpg --labels=imagenet/synset.txt
  python -m quantize export uint8 out/mobilenetv2-12-int8.onnx

--key=value and --key value are the same, and so are --some_flag and --some-flag."""

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
