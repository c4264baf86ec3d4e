"""The script for zsh, 5 or newer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from quantize.cli.completion.words import PROGRAMS, Table, Word

__all__ = ["script"]

_TEMPLATE = """#compdef quantize {names}
# Completion for zsh of quantize, python -m quantize, run_tuning.sh and run_benchmark.sh.

# $1: the command so far, such as 'export ort'. Sets commands, valued (flags that take a value) and switches;
# each entry is 'word:what it is for'.
_quantize_words() {{
  commands=() valued=() switches=()
  case $1 in
{words}
  esac
}}

# $1: the command so far and a flag. Sets accepted.
_quantize_values() {{
  accepted=()
  case $1 in
{values}
  esac
}}

# $1: the command that the program stands for; $2: where the words behind it begin.
_quantize_from() {{
  local where=$1 flag='' word
  local -a commands valued switches accepted
  integer at
  _quantize_words "$where"
  for (( at = $2; at < CURRENT; at++ )); do
    word=${{words[at]}}
    if (( ${{commands[(I)$word:*]}} )); then
      where="${{where:+$where }}$word"
      _quantize_words "$where"
    fi
  done
  if [[ $PREFIX == --*=* ]]; then
    flag=${{PREFIX%%=*}}
    compset -P 1 '*='
  elif (( ${{valued[(I)${{words[CURRENT-1]}}:*]}} )); then
    flag=${{words[CURRENT-1]}}
  fi
  if [[ -n $flag ]]; then
    _quantize_values "$where $flag"
    if (( $#accepted )); then compadd -a accepted; else _files; fi
  elif [[ $PREFIX == -* ]] || (( $#commands )); then
    _describe 'command' commands -- valued -S = -- switches
  else
    _files
  fi
}}

_quantize() {{
  case ${{words[1]:t}} in
{programs}
    *) _quantize_from '' 2 ;;
  esac
}}

# What completed Python before goes on doing so.
_quantize_python() {{
  if [[ ${{words[2]}} == -m && ${{words[3]}} == quantize ]] && (( CURRENT > 3 )); then
    _quantize_from '' 4
  elif [[ -n $_quantize_python_before ]]; then
    eval "$_quantize_python_before"
  else
    _files
  fi
}}

if [[ ${{zsh_eval_context[-1]}} == loadautofunc ]]; then
  _quantize "$@"
else
  if ! (( $+functions[compdef] )); then
    autoload -Uz compinit
    compinit
  fi
  if [[ ${{_comps[python]}} != _quantize_python ]]; then
    typeset -g _quantize_python_before=${{_comps[python]}}
    compdef _quantize_python python python3
  fi
  compdef _quantize quantize {names}
fi
"""


def script(table: Table) -> str:
    """What zsh evaluates, or autoloads as `_quantize`."""
    words = "\n".join(f"    {_quoted(path)}) {_arrays(found)} ;;" for path, found in table.items())
    values = "\n".join(
        f"    {_quoted(f'{path} {one.word}')}) accepted=({' '.join(one.values)}) ;;"
        for path, found in table.items()
        for one in found
        if one.values
    )
    programs = "\n".join(f"    {name}) _quantize_from {command} 2 ;;" for name, command in PROGRAMS.items())
    return _TEMPLATE.format(words=words, values=values, programs=programs, names=" ".join(PROGRAMS))


def _arrays(found: Sequence[Word]) -> str:
    kinds = {
        "commands": [one for one in found if not one.is_flag],
        "valued": [one for one in found if one.is_flag and one.takes_value],
        "switches": [one for one in found if one.is_flag and not one.takes_value],
    }
    return "; ".join(f"{name}=({_entries(members)})" for name, members in kinds.items() if members) or ":"


def _entries(members: Iterable[Word]) -> str:
    return " ".join(_quoted(f"{one.word}:{one.what}") for one in members)


def _quoted(text: str) -> str:
    escaped = text.replace("'", "'\\''")
    return f"'{escaped}'"
