#!/usr/bin/env bash
# Build the images that are missing: images.sh ENGINE [NAME...]; ENGINE is auto, podman, docker, or all that answer.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

main() {
  local engine=$1
  shift
  if [ "$engine" != all ]; then
    build "$engine" "$@"
    return
  fi
  for engine in podman docker; do
    if .venv/bin/claw-runner image list --engine "$engine" >/dev/null 2>&1; then build "$engine" "$@"; fi
  done
}

build() {
  .venv/bin/claw-runner image build --engine "$@" >/dev/null && return
  # Where no registry answers, the base is made from packages.
  command -v mmdebstrap >/dev/null && return 1
  apt_install mmdebstrap mmdebstrap
  .venv/bin/claw-runner image build --engine "$@" >/dev/null
}

main "$@"
