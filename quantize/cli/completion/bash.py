"""The script for bash, 3.2 or newer."""

from __future__ import annotations

from quantize.cli.completion.words import PROGRAMS, Table

__all__ = ["script"]

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


def script(table: Table) -> str:
    """What bash evaluates."""
    words = "\n".join(
        f"    {_quoted(path)}) printf '%s ' {' '.join(one.word for one in found)} ;;"
        for path, found in table.items()
    )
    values = "\n".join(
        f"    {_quoted(f'{path} {one.word}')}) printf '%s ' {' '.join(one.values)} ;;"
        for path, found in table.items()
        for one in found
        if one.values
    )
    scripts = "\n".join(
        f'_quantize_{command}() {{ _quantize {command} "${{COMP_WORDS[@]:1:COMP_CWORD}}"; }}'
        for command in PROGRAMS.values()
    )
    registered = "\n".join(
        f"complete -o default -F _quantize_{command} {name}" for name, command in PROGRAMS.items()
    )
    return _TEMPLATE.format(words=words, values=values, scripts=scripts, registered=registered)


def _quoted(text: str) -> str:
    return f"'{text}'"
