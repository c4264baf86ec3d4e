"""The script for fish, 3 or newer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from quantize.cli.completion.words import PROGRAMS, Table, Word

__all__ = ["script"]

_TEMPLATE = """# Completion for fish of quantize, python -m quantize, run_tuning.sh and run_benchmark.sh.

# Prints the command so far, such as 'export ort'; fails where this is another program.
function __quantize_where
    set -l tokens (commandline -opc)
    set -l where ''
    switch (basename -- $tokens[1])
{programs}
        case 'python*'
            test (count $tokens) -ge 3; and test "$tokens[2] $tokens[3]" = '-m quantize'; or return 1
            set -e tokens[2..3]
    end
    set -e tokens[1]
    for token in $tokens
        set -l next (string trim -- "$where $token")
        if contains -- $next {paths}
            set where $next
        end
    end
    echo $where
end

# Whether $argv[1] is the command so far.
function __quantize_at
    set -l where (__quantize_where); or return 1
    test "$where" = "$argv[1]"
end

for program in quantize python python3 {names}
{lines}
end
"""


def script(table: Table) -> str:
    """What fish evaluates."""
    programs = "\n".join(
        f"        case {name}\n            set where {command}" for name, command in PROGRAMS.items()
    )
    lines = "\n".join(
        f"    complete -c $program -n {_quoted(f'__quantize_at {_quoted(path)}')} {rest}"
        for path, found in table.items()
        for rest in _arguments(found)
    )
    paths = " ".join(_quoted(path) for path in table if path)
    return _TEMPLATE.format(programs=programs, paths=paths, names=" ".join(PROGRAMS), lines=lines)


def _arguments(found: Sequence[Word]) -> Iterator[str]:
    """What `complete` is told of each word."""
    for one in found:
        what = f"-d {_quoted(one.what)}" if one.what else ""
        if not one.is_flag:
            yield f"-f -a {one.word} {what}"
            continue
        name = f"-l {one.word[2:]}" if one.word.startswith("--") else f"-s {one.word[1:]}"
        value = f"-x -a {_quoted(' '.join(one.values))} " if one.values else "-r " * one.takes_value
        yield f"{name} {value}{what}".rstrip()


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
