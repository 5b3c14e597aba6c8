#!/usr/bin/env bash
# Make .venv with claw-runner and its development tools in it. Does nothing when it is as pyproject.toml wants it.
# PYTHON names the interpreter to use; pip's own settings (PIP_*, pip.conf) hold.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

main() {
  local wanted
  command -v git >/dev/null || apt_install git git
  # The path too: a copied folder has a .venv that belongs to the original.
  wanted="$PWD $(sha256sum pyproject.toml | cut -d' ' -f1)"
  [ "$(cat .venv/.setup 2>/dev/null)" != "$wanted" ] || ! .venv/bin/python -c '' 2>/dev/null || return 0
  local python
  python=$(find_python) || install_python
  python=${python:-$(find_python)}
  make_venv "$python"
  say "installing claw-runner and what it needs into .venv"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' </dev/null
  printf '%s\n' "$wanted" >.venv/.setup
}

# The first Python that is new enough.
find_python() {
  local python
  for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$python"
      return 0
    fi
  done
  return 1
}

install_python() {
  [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is not Python 3.11 or newer"
  # Debian 12 has it as python3, Ubuntu 22.04 besides its own older one.
  apt_install "Python 3.11" python3.11 python3.11-venv
}

make_venv() {
  local version
  version=$("$1" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  # Debian and Ubuntu keep ensurepip, which venv needs, in a package of its own.
  "$1" -c 'import ensurepip' 2>/dev/null || apt_install "venv for $1" "$version-venv" python3-venv
  "$1" -m venv --clear .venv
}

main
