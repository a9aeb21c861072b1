#!/usr/bin/env bash
# deploy.sh finds a Python, makes .venv, and starts what it is about, client/; "./deploy.sh help" tells more.
# Only bash (3.2 will do) and Python 3.11 or newer must be here.  YO_DAWG_TRACE=1 prints each command.
set -euo pipefail
[[ -z ${YO_DAWG_TRACE-} ]] || set -x

abort() {
  printf 'deploy.sh: %s\n' "$*" >&2
  exit 1
}

# Print the folder that this file really is in: it may have been started through a link.
checkout() {
  local file=$1 target
  while [[ -L $file ]]; do
    target=$(readlink -- "$file")
    [[ $target == /* ]] || target=$(dirname -- "$file")/$target
    file=$target
  done
  CDPATH='' cd -- "$(dirname -- "$file")" && pwd -P
}

readonly recent='import sys; sys.exit(sys.version_info < (3, 11))'

# Print the first usual name of Python that passes a test.  A name on PATH proves nothing: it may be
# an old version, or a version manager's shim for one that is not there.
python_that_can() {
  local name
  for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
    if "$name" -c "$1" </dev/null >/dev/null 2>&1; then
      printf '%s\n' "$name"
      return 0
    fi
  done
  return 1
}

# Make .venv if it is missing or broken.  Without pip, which takes its time: client.setup knows where to find one.
ensure_venv() {
  "$venv/bin/python" -c "$recent" </dev/null >/dev/null 2>&1 && return
  python_that_can "$recent" >/dev/null || abort "no Python 3.11 or newer runs here (tried python3 and" \
    "python3.11 to python3.14). Install one, e.g. from https://www.python.org/downloads/."
  local base
  base=$(python_that_can "import ensurepip, venv; $recent") || abort "no Python 3.11 or newer here can make" \
    "a virtualenv: its modules venv and ensurepip are missing. On Debian and Ubuntu: apt install python3-venv."
  printf -- '-----> make .venv with %s\n' "$("$base" -c 'import platform; print("Python", platform.python_version())')" >&2
  "$base" -m venv --clear --without-pip "$venv" >&2 || abort "could not make $venv."
}

# Print the command among the arguments: the first that is neither an option nor an option's value.
command_of() {
  while (($#)); do
    case $1 in
      -c | --config) shift ;;
      -*) ;;
      *) printf '%s\n' "$1" && return ;;
    esac
    shift || return 0
  done
}

main() {
  here=$(checkout "${BASH_SOURCE[0]}")
  venv=$here/.venv
  local needed=(requirements.txt)
  case $(command_of "$@") in
    local) needed+=(local/requirements.txt) ;;
    test) needed+=(local/requirements.txt tests/requirements.txt) ;;
  esac
  ensure_venv
  # -P: nothing in the folder that this was started from may pass for a module.
  export PYTHONPATH=$here
  "$venv/bin/python" -P -m client.setup "${needed[@]}" </dev/null
  exec "$venv/bin/python" -P -m client "$@"
}

main "$@"
