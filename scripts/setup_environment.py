"""Makes the project's `.venv`, or tells whether it is ready.

Usage: PYTHON setup_environment.py check|install EXTRA [BASE], where EXTRA is `run` or `dev` and BASE the
interpreter that the environment has to be made from (any, if it is not given).

The environment is made in place and its stamp is written last, so an interrupted one has no stamp and is made
again. A lock, which the system takes back from a killed process, lets one process at a time do it. Nothing is
ever done to a `.venv` that was not made here. Only the standard library is used, and pip's own settings
(`PIP_*`, its configuration files) are left alone.

What is installed has to have a hash that the lock file of EXTRA names, and has to be a finished build:
installing one runs none of its code. The project itself is installed from this folder, without asking the
registry anything.

Exit codes: 0 ready; 1 not ready (`check` only); 2 a folder that is not ours or cannot be written; 3 the
installation failed; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
OWNER = VENV / "made-by-quantize-pipeline"
STAMP = VENV / "quantize-pipeline.json"
LOG = VENV / "install.log"
LOCK = PROJECT / ".venv.lock"

# Name, version and hashes of everything that is installed; the second holds the first.
PINS = {"run": PROJECT / "requirements.lock", "dev": PROJECT / "requirements-dev.lock"}

# Long enough not to flood a log, short enough to show that a slow download is alive.
PROGRESS_INTERVAL_S = 5.0

NETWORK_SIGNS = (
    "failed to establish a new connection",
    "temporary failure in name resolution",
    "name or service not known",
    "connection refused",
    "network is unreachable",
    "read timed out",
    "proxyerror",
)


class SetupError(Exception):
    """Setting up failed; the message is one line with a cure."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def say(message: str) -> None:
    """Prints a line of progress; standard output belongs to the program that runs afterwards."""
    print(f"setup: {message}", file=sys.stderr, flush=True)


def interpreter() -> str:
    """Returns the interpreter that this process goes back to, through any virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def inputs() -> dict[str, str]:
    """Returns what an installation is made from: it is done again when one of these changes."""
    files = (PROJECT / "pyproject.toml", *PINS.values())
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return {"project": str(PROJECT), **digests}


def read_stamp() -> dict[str, str]:
    """Returns the stamp of the finished environment, empty if it is not there or not readable."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def is_usable(stamp: dict[str, str], base: str | None) -> bool:
    """Tells whether the interpreter in `.venv` still is the one that the stamp describes."""
    return (
        stamp.get("project") == str(PROJECT)
        and PYTHON.exists()  # follows the link, so it is false once the interpreter below is uninstalled
        and os.path.realpath(PYTHON) == stamp.get("python")
        and base in (None, stamp.get("base"))
    )


def is_ready(extra: str, base: str | None) -> bool:
    """Tells whether `.venv` holds everything that `extra` needs, as the files now say."""
    stamp = read_stamp()
    return (
        is_usable(stamp, base)
        and all(stamp.get(name) == value for name, value in inputs().items())
        and (extra == "run" or stamp.get("extra") == extra)
    )


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Holds the lock of this checkout, waiting for another process that sets it up."""
    with LOCK.open("w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is setting up .venv, waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def make_venv() -> None:
    """Makes an empty `.venv`, in place of an unfinished or outdated one of ours.

    Raises:
        SetupError: `.venv` was made by someone else, or could not be made.
    """
    if VENV.is_symlink() or (VENV.exists() and not OWNER.exists() and any(VENV.iterdir())):
        raise SetupError(
            f"{VENV} was not made by this script and does not have the project: remove it, or activate it "
            "and run `pip install -c constraints.txt -e .` there",
            exit_code=2,
        )
    VENV.mkdir(exist_ok=True)
    # Written before and kept through everything else, so that an interrupted attempt is known to be ours.
    OWNER.write_text("Made by scripts/setup_environment.py, which may replace it.\n", encoding="utf-8")
    remains = [path for path in VENV.iterdir() if path != OWNER]
    if remains:
        say("replacing the unfinished or outdated .venv")
    for path in remains:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    say(f"creating .venv with Python {'.'.join(map(str, sys.version_info[:3]))} ({interpreter()})")
    made = subprocess.run(
        [interpreter(), "-m", "venv", str(VENV)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        reason = (made.stderr or made.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise SetupError(
            f"could not create {VENV}: {reason[0]}; set PYTHON to another interpreter", exit_code=3
        )


def explain(log: str) -> str:
    """Returns why pip failed, in one line, from what it printed."""
    if any(sign in log.lower() for sign in NETWORK_SIGNS):
        return "no connection to the package registry: check the network, or pip's own settings (PIP_*)"
    if "DO NOT MATCH THE HASHES" in log:
        return (
            "a package is not the one that was pinned: its hash differs from the one in the lock file; "
            "do not use it, and ask whoever runs your registry"
        )
    errors = [line.strip() for line in log.splitlines() if line.startswith("ERROR:")]
    # The first one names the package; what follows is advice.
    return errors[0].removeprefix("ERROR:").strip() if errors else "pip said no reason"


def run_pip(*arguments: str) -> None:
    """Runs `pip install` in `.venv`, prints how far it is now and then, and keeps its output in the log.

    Raises:
        SetupError: pip failed.
    """
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off"]
    package_count, output = 0, []
    due_s = time.monotonic() + PROGRESS_INTERVAL_S
    with (
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None  # stdout=PIPE above
        for line in process.stdout:
            log.write(line)
            output.append(line)
            package_count += line.startswith(("Collecting ", "Processing "))
            installing = package_count > 1 and line.startswith("Installing collected")
            if installing or time.monotonic() >= due_s:
                say(f"{package_count} packages fetched" + (", installing them" if installing else ""))
                due_s = time.monotonic() + PROGRESS_INTERVAL_S
    if process.returncode != 0:
        reason = explain("".join(output))
        raise SetupError(f"installing failed: {reason} (details: {LOG})", exit_code=3)


def install_pins(extra: str) -> None:
    """Installs what the lock file of `extra` pins, and nothing else; raises as `run_pip`."""
    # The lock is complete: what else a package may ask for (extras, mostly) needs no resolving.
    run_pip("--require-hashes", "--only-binary=:all:", "--no-deps", "-r", str(PINS[extra]))


def install(extra: str, base: str | None) -> None:
    """Brings `.venv` to what the files of the project say.

    A usable environment is updated in place, which takes seconds; otherwise it is made anew.

    Raises:
        SetupError: it was not possible; `.venv` then has no stamp, and the next run starts over.
    """
    stamp = read_stamp()
    if is_usable(stamp, base):
        say("updating .venv")
        STAMP.unlink()
        base, extra = stamp["base"], "dev" if stamp.get("extra") == "dev" else extra
    else:
        make_venv()
        base = interpreter()
    say(f"installing the packages of {PINS[extra].name} (the first time this takes a minute or two)")
    install_pins(extra)
    # Everything it needs is there by now, the build backend too.
    run_pip("--no-index", "--no-deps", "--no-build-isolation", "-e", str(PROJECT))
    content = {**inputs(), "base": base, "python": os.path.realpath(PYTHON), "extra": extra}
    temporary = STAMP.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(STAMP)
    say("done")


def main(arguments: list[str]) -> int:
    """Carries out the command line that the module describes; returns the exit code."""
    action, extra = arguments[:2]
    base = arguments[2] if len(arguments) > 2 else None
    if action == "check":
        return 0 if is_ready(extra, base) else 1
    try:
        with locked():
            if not is_ready(extra, base):
                install(extra, base)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(
            f"error: cannot set up {VENV}: {error}; make the project's folder writable and free some space, "
            "or activate an environment that has the project",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted: .venv is unfinished and the next run starts it over", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
