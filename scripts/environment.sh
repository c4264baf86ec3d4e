# shellcheck shell=bash
# Finds or makes the Python environment for the run_*.sh scripts, which source this file.
#
#   prepare_environment run|dev   sets $python to an interpreter that has the project, or exits with one line
#   run_module MODULE ARG...      replaces the shell by `python -m MODULE ARG...` of this checkout
#
# The order: $PYTHON where it is set; an active environment that has the project; .venv; a new .venv.
# Written for bash 3.2 (macOS) and newer.

project=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
owner=$project/.venv/made-by-quantize-pipeline
supported='3.10, 3.11 or 3.12'
python=

die() {
  printf 'error: %s\n' "$1" >&2
  exit 2
}

is_supported() {
  case $1 in 3.10 | 3.11 | 3.12) true ;; *) false ;; esac
}

# Runs the interpreter $1, for use with the extra $2, and sets version, kind and base (see probe.py).
# It has to be run: a pyenv shim, for one, exists for versions that it then refuses to start.
probe() {
  version='' kind='' base=''
  local line
  line=$("$1" "$project/scripts/probe.py" "$project" "$2" 2>/dev/null </dev/null) || return 1
  read -r version kind base <<<"$line"
  [[ -n $base ]]
}

# Whether $1 belongs to the .venv that these scripts made, whose stamp also says whether it is up to date.
# (Not compared as files: the interpreters of several environments are links to one and the same.)
is_ours() {
  [[ $(cd -- "$(dirname -- "$1")" && pwd -P) == "$project/.venv/bin" && -e $owner ]]
}

# The interpreter that the user names: used as it is if it has the project, else .venv is made from it.
use_named_python() {
  local named=$1 extra=$2 path
  path=$(type -P -- "$named") || die "PYTHON=$named does not exist or is not executable: give the path of Python $supported"
  probe "$path" "$extra" || die "PYTHON=$named does not run: give the path of Python $supported"
  is_supported "$version" || die "PYTHON=$named is Python $version: give the path of Python $supported"
  if [[ $kind == project ]] && ! is_ours "$path"; then
    python=$path
  elif [[ $kind == bare ]]; then
    die "PYTHON=$named cannot make a virtual environment: install its venv module (Debian: python$version-venv)"
  fi
}

# An environment that already has the project: the active one, else whatever python3 is.
find_active_python() {
  local extra=$1 path seen=
  for path in "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}" "${CONDA_PREFIX:+$CONDA_PREFIX/bin/python}" \
    "$(type -P python3 || true)"; do
    [[ -n $path && -x $path && $path != "$seen" ]] || continue
    seen=$path
    if ! is_ours "$path" && probe "$path" "$extra" && [[ $kind == project ]] && is_supported "$version"; then
      python=$path
      return 0
    fi
  done
}

# Sets base to an interpreter that a virtual environment can be made from.
find_base_python() {
  local name path tried=
  local versions=${PYENV_ROOT:-${HOME:-}/.pyenv}/versions
  while IFS= read -r path; do
    [[ -x $path ]] || continue
    if ! probe "$path" run; then
      tried+="; $path does not run"
    elif ! is_supported "$version"; then
      tried+="; $path is $version"
    elif [[ $kind == bare ]]; then
      tried+="; $path lacks the venv module"
    else
      return 0
    fi
  done < <(
    for name in python3.11 python3.12 python3.10 python3 python; do type -ap "$name" || true; done
    for name in 3.11 3.12 3.10; do printf '%s\n' "$versions/$name".*/bin/python; done
  )
  die "no Python $supported found (tried python3.11, python3.12, python3.10, python3, python$tried): install one, or set PYTHON to its path"
}

prepare_environment() {
  local extra=$1 base='' version='' kind='' wanted=
  if [[ -n ${PYTHON:-} ]]; then
    use_named_python "$PYTHON" "$extra"
    wanted=$base
  else
    find_active_python "$extra"
  fi
  [[ -z $python ]] || return 0

  local own=$project/.venv/bin/python setup=$project/scripts/setup_environment.py
  if [[ -x $own ]]; then
    if "$own" -E -S "$setup" check "$extra" ${wanted:+"$wanted"} 2>/dev/null; then
      python=$own
      return 0
    fi
    # One that the user made and installed the project into.
    if [[ -z $wanted && ! -e $owner ]] && probe "$own" "$extra" && [[ $kind == project ]]; then
      python=$own
      return 0
    fi
  fi
  [[ -n $wanted ]] || find_base_python
  "$base" -E "$setup" install "$extra" ${wanted:+"$wanted"} || exit $?
  python=$own
}

# Like `python -m`, but with the project's folder in front of the import path instead of the working directory,
# which may hold a folder `quantize` of its own. Ctrl-C before the program listens ends it without a traceback.
run_module() {
  exec "$python" -c 'import runpy, signal, sys
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.path[:] = [sys.argv.pop(1), *filter(None, sys.path)]
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)' "$project" "$@"
}
