"""Completion for bash, generated from the parsers, so that it knows what they know."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from quantize.cli.values import OneOf

__all__ = ["completion_script"]

# The scripts are commands without their first word.
_SCRIPTS = {"run_tuning.sh": "tune", "run_benchmark.sh": "benchmark"}

# Words go into the script as they are: none of ours needs quotes, and none may.
_PLAIN = re.compile(r"[A-Za-z0-9_.:=-]+")

_TEMPLATE = """# Completion for bash of quantize, python -m quantize, run_tuning.sh and run_benchmark.sh.
# shellcheck shell=bash disable=SC2207  # the candidates are plain words, and bash 3.2 has no mapfile
_quantize_words() {{
  case $1 in
{words}
  esac
}}

_quantize_values() {{
  case $1 in
{values}
  esac
}}

# $1: the command so far, such as "export ort"; the rest: the words after it, the last of them unfinished.
_quantize_complete() {{
  local path=$1 word current previous='' flag=''
  shift
  while (( $# > 1 )); do
    word=$1
    case " $(_quantize_words "$path") " in
      *" $word "*) case $word in -*) ;; *) path="${{path:+$path }}$word" ;; esac ;;
    esac
    previous=$word
    shift
  done
  current=${{1-}}
  COMPREPLY=()
  case $current in
    =) flag=$previous current='' ;;
    --*=*) flag=${{current%%=*}} current=${{current#*=}} ;;
    *) [[ $previous == = ]] && flag=${{_quantize_before-}} || flag=$previous ;;
  esac
  local candidates
  candidates=$(_quantize_values "$path $flag")
  if [[ -n $candidates ]]; then
    COMPREPLY=($(compgen -W "$candidates" -- "$current"))
  elif [[ $current == -* || -z $path || -n $(_quantize_commands "$path") && $flag != -* ]]; then
    COMPREPLY=($(compgen -W "$(_quantize_words "$path")" -- "$current"))
  fi
}}

# The commands below one: where there are some, one of them comes next.
_quantize_commands() {{
  local word
  for word in $(_quantize_words "$1"); do
    case $word in -*) ;; *) printf '%s ' "$word" ;; esac
  done
}}

# Bash splits --flag=value into three words; the flag is the one before the sign.
_quantize() {{
  local _quantize_before=''
  (( COMP_CWORD > 2 )) && _quantize_before=${{COMP_WORDS[COMP_CWORD-2]}}
  _quantize_complete "$1" "${{@:2}}"
}}
_quantize_program() {{ _quantize '' "${{COMP_WORDS[@]:1:COMP_CWORD}}"; }}
{scripts}
_quantize_python() {{
  COMPREPLY=()
  [[ ${{COMP_WORDS[1]-}} == -m && ${{COMP_WORDS[2]-}} == quantize ]] || return 0
  (( COMP_CWORD > 2 )) && _quantize '' "${{COMP_WORDS[@]:3:COMP_CWORD-2}}"
}}
complete -o default -F _quantize_program quantize
{registered}
# What others have set up for Python stays.
for _quantize_name in python python3; do
  complete -p "$_quantize_name" >/dev/null 2>&1 || complete -o default -F _quantize_python "$_quantize_name"
done
unset _quantize_name
"""


@dataclass(frozen=True)
class _Words:
    """What may follow a command: commands below it, its flags, and the words that flags accept."""

    words: Sequence[str]
    values: Mapping[str, Sequence[str]]


def completion_script(program: argparse.ArgumentParser) -> str:
    """The script that bash (3.2 or newer) evaluates, for the parser of the whole program."""
    table = dict(_walk(program, ""))
    words = "\n".join(
        f"    {_quoted(path)}) printf '%s ' {' '.join(found.words)} ;;" for path, found in table.items()
    )
    values = "\n".join(
        f"    {_quoted(f'{path} {flag}')}) printf '%s ' {' '.join(accepted)} ;;"
        for path, found in table.items()
        for flag, accepted in found.values.items()
    )
    scripts = "\n".join(
        f'_quantize_{command}() {{ _quantize {command} "${{COMP_WORDS[@]:1:COMP_CWORD}}"; }}'
        for command in _SCRIPTS.values()
    )
    registered = "\n".join(
        f"complete -o default -F _quantize_{command} {script}" for script, command in _SCRIPTS.items()
    )
    return _TEMPLATE.format(words=words, values=values, scripts=scripts, registered=registered)


def _walk(parser: argparse.ArgumentParser, path: str) -> Iterator[tuple[str, _Words]]:
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    flags = [name for action in shown for name in action.option_strings]
    below: dict[str, argparse.ArgumentParser] = {}
    values: dict[str, Sequence[str]] = {}
    for action in shown:
        if isinstance(action, argparse._SubParsersAction):
            below = dict(action.choices)
        elif isinstance(action.type, OneOf):
            values |= dict.fromkeys(action.option_strings, action.type.accepted)
    for word in (*below, *flags, *(word for accepted in values.values() for word in accepted)):
        if not _PLAIN.fullmatch(word):
            raise AssertionError(f"{word!r} cannot stand in a shell script")
    yield path, _Words([*below, *flags], values)
    for name, inner in below.items():
        yield from _walk(inner, f"{path} {name}".strip())


def _quoted(text: str) -> str:
    return f"'{text}'"
