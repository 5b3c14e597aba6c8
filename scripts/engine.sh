#!/usr/bin/env bash
# Make sure that a container engine can be used: engine.sh [podman] [docker]; without a name, any that answers will do.
# Installs what is missing (Debian, Ubuntu), and starts nothing: the runner starts podman's service, .ci/run dockerd.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

main() {
  if [ "$#" = 0 ]; then
    answers || { install_podman && answers; } || { .venv/bin/claw-runner doctor >&2; fail "no container engine"; }
    return
  fi
  local engine
  for engine; do "install_$engine"; done
}

answers() { .venv/bin/claw-runner image list >/dev/null 2>&1; }

install_podman() {
  # runc, because crun does not start on hybrid control groups.
  command -v podman >/dev/null \
    || apt_install podman podman runc uidmap slirp4netns fuse-overlayfs netavark aardvark-dns catatonit
  user_namespaces /etc/subuid
  user_namespaces /etc/subgid
}

install_docker() { command -v dockerd >/dev/null || apt_install docker docker.io iptables; }

# Ids of which podman gives each job a range of its own (subuid(5), --userns=auto), above all that are taken.
user_namespaces() {
  grep -qs '^containers:' "$1" && return
  local first
  first=$(awk -F: -v first=300000 '{ if ($2 + $3 > first) first = $2 + $3 } END { print first }' "$1" 2>/dev/null || echo 300000)
  echo "containers:$first:6553600" | as_root tee -a "$1" >/dev/null
}

main "$@"
