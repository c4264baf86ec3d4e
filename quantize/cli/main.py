"""Runs a command, and turns every way it can end into an exit code and at most one line."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
import threading
import traceback
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from quantize.cli import texts
from quantize.cli.commands import ADDED
from quantize.cli.commands.common import human_output, print_json
from quantize.cli.configure import configured, demo_overrides
from quantize.cli.flags import BENCHMARK, COMMANDS, TUNE
from quantize.cli.parser import parse
from quantize.errors import InputError, PipelineError
from quantize.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from quantize.conclusion import TuningResult
    from quantize.diagnose.options import ReportOptions

__all__ = ["main"]

Verbosity = Literal["quiet", "normal", "verbose"]

_USAGE, _INTERNAL, _INTERRUPTED = 2, 3, 130
# What a shell reports for a program that a signal ended: 128 + its number.
_SIGNAL_BASE = 128
# A message is read on a screen; names and values in it are shortened before, and this is for what was missed.
_LONGEST_MESSAGE = 2000
# What a shell reports for a program that its reader left: 128 + SIGPIPE.
_READER_GONE = 141


class _Terminated(BaseException):
    """The process was asked to end; temporary files are removed on the way out, as after Ctrl-C."""


@contextlib.contextmanager
def _orderly_end() -> Iterator[None]:
    """Turns SIGTERM and SIGHUP into an exception; by default they would leave temporary files behind."""

    def end(number: int, _: object) -> None:
        raise _Terminated(number)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in wanted}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # `nohup` asks to survive SIGHUP
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line.

    Args:
        argv: arguments without the program's name; those of the process when None.

    Returns:
        The exit code: 0 done, 1 tolerance not met, 2 wrong input or usage, 3 failed, 130 interrupted, 143
        ended by SIGTERM.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    verbose = bool({"--verbose", "-v"} & set(arguments))
    try:
        _prepare_output()
        with _orderly_end():
            code = _run(arguments)
        sys.stdout.flush()
    except SystemExit as stop:  # argparse, after --help and --version
        return stop.code if isinstance(stop.code, int) else 0
    except (KeyboardInterrupt, _Terminated) as ended:
        by_signal = isinstance(ended, _Terminated)
        print("terminated" if by_signal else "interrupted", file=sys.stderr)
        return _SIGNAL_BASE + int(ended.args[0]) if by_signal else _INTERRUPTED
    except BrokenPipeError:
        # The interpreter would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    except PipelineError as error:
        return _report(_one_line(error), error.exit_code, verbose)
    except Exception as error:
        hint = "" if verbose else "; run again with --verbose for the traceback"
        summary = f"internal error, {type(error).__name__}: {_one_line(error)}{hint}"
        return _report(summary, _INTERNAL, verbose)
    return code


def _report(message: str, code: int, verbose: bool) -> int:
    if verbose:
        traceback.print_exc()
    print(f"error: {printable(message)}", file=sys.stderr)
    return code


def _one_line(error: BaseException) -> str:
    """Its message, with nothing in it that a terminal would obey; names of files may be part of it."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    safe = printable(text[:_LONGEST_MESSAGE])
    return safe if len(text) <= _LONGEST_MESSAGE else f"{safe}…"


def _prepare_output() -> None:
    """Lets names be printed that the terminal has no characters for, and libraries keep their warnings.

    What Pillow has to say of a damaged file is said by our own errors, with the file's name.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _run(arguments: list[str]) -> int:
    if not arguments or (len(arguments) == 1 and arguments[0] in COMMANDS):
        print(texts.SHORT_USAGE["".join(arguments)], file=sys.stderr)
        return _USAGE
    parsed = parse(arguments)
    if parsed.command in ADDED:
        return ADDED[parsed.command].run(parsed)
    if parsed.command == TUNE:
        command = ("python", "-m", "quantize", *arguments)
        return _demo(parsed, command) if parsed.demo else _tune(parsed, command)
    return _measure(parsed)


def _tune(arguments: Namespace, command: Sequence[str]) -> int:
    output_model = _required(arguments, "output_model", "a name ending in .onnx, or a folder")
    input_model = _input_model(arguments)
    config = configured(arguments)
    report = _report_options(arguments)
    from quantize.pipeline import run_tune
    from quantize.report.charts.fonts import use_own_fonts

    use_own_fonts()

    with human_output(arguments.json):
        result = run_tune(
            config,
            input_model=input_model,
            output_model=output_model,
            verbosity=_verbosity(arguments),
            keep_failed=arguments.keep_failed,
            start_from=arguments.start_from,
            profile=arguments.profile,
            command=command,
            report=report,
        )
    return _tuned(arguments, result)


def _report_options(arguments: Namespace) -> ReportOptions:
    from quantize.diagnose.options import ReportOptions

    if arguments.no_html:
        for name in ("labels", "measure_sensitivity"):
            if getattr(arguments, name):
                raise InputError(f"--{name} has no effect with --no_html; leave one of them out")
    if arguments.sensitivity is not None and arguments.measure_sensitivity:
        raise InputError("--sensitivity and --measure_sensitivity contradict each other; keep one")
    return ReportOptions(
        pages=not arguments.no_html,
        labels=arguments.labels,
        sensitivity=arguments.sensitivity,
        measure_sensitivity=arguments.measure_sensitivity,
    )


def _demo(arguments: Namespace, command: Sequence[str]) -> int:
    for name in ("input_model", "config", "dataset_location", "label_path", "start_from"):
        if getattr(arguments, name) is not None:
            raise InputError(f"--demo and --{name} contradict each other: the demo brings its own; keep one")
    overrides = demo_overrides(arguments)
    report = _report_options(arguments)
    from quantize.demo import run_demo
    from quantize.report.charts.fonts import use_own_fonts

    use_own_fonts()

    with human_output(arguments.json):
        result = run_demo(
            arguments.output_model,
            overrides,
            verbosity=_verbosity(arguments),
            keep_failed=arguments.keep_failed,
            profile=arguments.profile,
            command=command,
            report=report,
        )
    return _tuned(arguments, result)


def _tuned(arguments: Namespace, result: TuningResult) -> int:
    """Says in JSON what a run came to, if it was asked to; returns the exit code."""
    if arguments.json:
        print_json(
            {
                "passed": result.passed,
                "sentence": result.sentence,
                "models": {kind: str(path) for kind, path in result.models.items()},
                "report_path": str(result.report_path),
                "report": result.report,
            }
        )
    return result.exit_code


def _measure(arguments: Namespace) -> int:
    input_model = _input_model(arguments)
    config = configured(arguments)
    from quantize.measure import run_benchmark, run_evaluate

    speed = arguments.command == BENCHMARK and arguments.mode != "accuracy"
    measure = run_benchmark if speed else run_evaluate
    return measure(config, input_model=input_model, verbosity=_verbosity(arguments), as_json=arguments.json)


def _input_model(arguments: Namespace) -> Path:
    """The model, once it is known that a configuration was given too."""
    model = _required(arguments, "input_model", "the .onnx file to start from")
    _required(arguments, "config", "for example --config=mobilenetv2.yaml")
    try:
        mode = model.stat().st_mode
    except OSError as error:
        raise InputError(f"--input_model {model}: {_why_absent(error)}; check the path") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"--input_model {model}: is a folder; give the file in it")
    if not stat.S_ISREG(mode):
        raise InputError(f"--input_model {model}: is no file, but a pipe or a device; give the .onnx file")
    return model


def _why_absent(error: OSError) -> str:
    absent = isinstance(error, FileNotFoundError | NotADirectoryError)
    return "no such file" if absent else f"cannot be read: {error.strerror}"


def _required(arguments: Namespace, name: str, what: str) -> Path:
    value: Path | None = getattr(arguments, name)
    if value is None:
        or_demo = ", or --demo for the bundled example" if arguments.command == TUNE else ""
        raise InputError(f"--{name} is missing: {what}{or_demo}")
    return value


def _verbosity(arguments: Namespace) -> Verbosity:
    if arguments.quiet:
        return "quiet"
    return "verbose" if arguments.verbose else "normal"
