"""Runs a command, and turns every way it can end into an exit code and at most one line."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import stat
import sys
import traceback
import warnings
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from calibration.claims import remove_living
from calibration.errors import LIMITS, limit_behind
from quantize.cli import texts
from quantize.cli.allocation import keep_freed_memory
from quantize.cli.commands import ADDED
from quantize.cli.commands.common import human_output, print_json
from quantize.cli.configure import configured, demo_overrides
from quantize.cli.ending import SIGNAL_BASE, Ended, Ending, quick_to_die, watch, words
from quantize.cli.flags import BENCHMARK, COMMANDS, TUNE
from quantize.cli.parser import parse
from quantize.cli.streams import discard_output, open_standard_streams
from quantize.errors import InputError, PipelineError
from quantize.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from quantize.conclusion import TuningResult
    from quantize.diagnose.options import ReportOptions

__all__ = ["main", "program"]

Verbosity = Literal["quiet", "normal", "verbose"]

_USAGE, _INTERNAL = 2, 3
# A message is read on a screen; names and values in it are shortened before, and this is for what was missed.
_LONGEST_MESSAGE = 2000
# What a shell reports for a program that its reader left: 128 + SIGPIPE.
_READER_GONE = 141
# A path that may not be used, or cannot be one. Looking whether it is there is enough to be told so.
_NO_WAY = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)


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
        with Ending() as ending:
            code = _code_of(arguments, ending, verbose)
            if ending.number is not None:  # somebody caught what was raised
                raise Ended(ending.number)
            return code
    except (KeyboardInterrupt, Ended) as ended:
        number = int(ended.args[0]) if isinstance(ended, Ended) else int(signal.SIGINT)
        _say(words(number))
        return SIGNAL_BASE + number


def program() -> NoReturn:
    """The command line as a process of its own: always ends soon after it was asked to."""
    quick_to_die()
    open_standard_streams()
    watch()
    keep_freed_memory()
    # Work is shared out by us. OpenBLAS's own threads only spin for more: a second of CPU time a run.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    code = main()
    if code > SIGNAL_BASE:
        # Temporary files are gone; threads that still compute would only be waited for.
        discard_output()
        remove_living()
        os._exit(code)
    # The interpreter would look twice through everything that lives for what it could free, just before the
    # system takes it all back: 0.35 s after a run.
    gc.disable()
    gc.freeze()
    sys.exit(code)


def _code_of(arguments: list[str], ending: Ending, verbose: bool) -> int:
    """Runs the command; what goes wrong is said in one line, unless the user has ended it meanwhile."""
    try:
        code = _ran(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        discard_output()
        return _READER_GONE
    except BaseException as error:
        if ending.number is not None:  # what a library makes of being interrupted, not always an Exception
            raise Ended(ending.number) from error
        if not isinstance(error, Exception):
            raise
        return _report(*_told(error, verbose), verbose)


def _ran(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except SystemExit as stop:  # argparse, after --help and --version
        return stop.code if isinstance(stop.code, int) else 0


def _told(error: Exception, verbose: bool) -> tuple[str, int]:
    """What is said of an error, and the exit code."""
    limit = limit_behind(error)
    if limit is not None:
        return _limit_told(error, limit)
    if isinstance(error, PipelineError):
        return _one_line(error), error.exit_code
    if isinstance(error, MemoryError):
        return "out of memory; lower --threads or --batch_size, or free some memory", _INTERNAL
    if isinstance(error, OSError) and error.errno in _NO_WAY and error.filename is not None:
        name = os.fsdecode(error.filename)
        return f"{name}: {error.strerror}; check the path, and who may use it", InputError.exit_code
    hint = "" if verbose else "; run again with --verbose for the traceback"
    return f"internal error, {type(error).__name__}: {_one_line(error)}{hint}", _INTERNAL


def _limit_told(error: Exception, limit: OSError) -> tuple[str, int]:
    """As `_told`, of an error that comes from a limit of the system, whatever it was taken for."""
    discard_output()
    cure = LIMITS[limit.errno or 0]
    if isinstance(error, PipelineError) and cure in str(error):
        return _one_line(error), error.exit_code
    if limit.filename is None and isinstance(error, PipelineError):
        return f"{_one_line(error)}; {cure}", _INTERNAL
    place = "" if limit.filename is None else f"{os.fsdecode(limit.filename)}: "
    return f"{place}{limit.strerror}; {cure} and run again", _INTERNAL


def _report(message: str, code: int, verbose: bool) -> int:
    if verbose:
        _say(traceback.format_exc().rstrip())
    _say(f"error: {printable(message)}")
    return code


def _say(text: str) -> None:
    """On standard error, if there is one and somebody reads it."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


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
    try:
        os.getcwd()
    except FileNotFoundError:
        raise InputError("the folder that you are in is gone; change into another one") from None
    # Charts are files; notebooks leave a backend of theirs here, which matplotlib may not find.
    os.environ["MPLBACKEND"] = "agg"
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
