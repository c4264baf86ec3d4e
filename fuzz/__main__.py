"""Runs a target under atheris: `python -m fuzz TARGET [options and folders of libFuzzer]`.

New inputs that reach new code go into the first folder that is named; without one they are not kept. The
corpus of the target is always read. A finding ends the run with another exit code than 0, and leaves the
input as `crash-…`, `timeout-…` or `oom-…` (`-artifact_prefix=FOLDER/` says where).
"""

from __future__ import annotations

import sys
from pathlib import Path

from fuzz.harness import CORPUS, LIMIT_MB, LIMIT_S, attempt, scratch
from fuzz.targets import NAMES, WATCHED, load


def main(arguments: list[str]) -> int:
    """Never returns once the fuzzer has started: it ends the process itself."""
    if not arguments or arguments[0] not in NAMES:
        print(f"usage: python -m fuzz {'|'.join(NAMES)} [libFuzzer's options] [folders]", file=sys.stderr)
        return 2
    try:
        import atheris
    except ImportError:
        print(
            "error: atheris is not installed; there are builds for x86-64 Linux",
            file=sys.stderr,
        )
        return 3
    with atheris.instrument_imports(include=list(WATCHED[arguments[0]])):
        target = load(arguments[0])
    options = [
        f"-max_len={target.max_bytes}",
        f"-timeout={LIMIT_S}",
        f"-rss_limit_mb={LIMIT_MB}",
        "-print_final_stats=1",
        *arguments[1:],
        str(CORPUS / target.name),
    ]
    folders = [Path(word) for word in options if not word.startswith("-")]
    if len(folders) == 1:
        # libFuzzer adds to the first folder, and the corpus only grows by hand.
        unkept = scratch() / "grown"
        unkept.mkdir()
        options.insert(len(options) - 1, str(unkept))
    mutator = {}
    if target.mutate is not None:
        mutate = target.mutate
        mutator["custom_mutator"] = lambda data, most, seed: mutate(data, most, seed, atheris.Mutate)
    atheris.Setup([sys.argv[0], *options], lambda data: attempt(target, data), **mutator)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
