# Functions of the scripts; sourced by them, from the repository's folder.
# shellcheck shell=bash

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "$0: $*"
  exit 1
}

can_be_root() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }

# as_root COMMAND...: proxies and apt's own configuration come along.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    sudo -n --preserve-env=http_proxy,https_proxy,no_proxy,APT_CONFIG "$@"
  fi
}

installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }
available() { apt-cache show "$1" >/dev/null 2>&1; }

# apt_install WHAT-FOR PACKAGE...: install those that this release has; some are named or bundled differently elsewhere.
apt_install() {
  local purpose=$1 wanted=() known=() package
  shift
  for package; do installed "$package" || wanted+=("$package"); done
  [ "${#wanted[@]}" -gt 0 ] || return 0
  command -v apt-get >/dev/null || fail "$purpose is missing and this is neither Debian nor Ubuntu: install ${wanted[*]}"
  can_be_root || fail "$purpose is missing; as root: apt-get install ${wanted[*]}"
  available "${wanted[0]}" || apt_get update
  for package in "${wanted[@]}"; do available "$package" && known+=("$package"); done
  [ "${#known[@]}" -gt 0 ] || fail "$purpose is missing and apt knows none of: ${wanted[*]}"
  say "installing $purpose: ${known[*]}"
  # Package lists may be older than the mirror, or know names and no packages.
  apt_get install "${known[@]}" 2>/dev/null || { apt_get update && apt_get install "${known[@]}"; }
}

# apt-get without questions; quiet unless it fails.
apt_get() {
  local log
  log=$(mktemp)
  if as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300 \
    "$1" --no-install-recommends "${@:2}" </dev/null >"$log" 2>&1; then
    rm -f "$log"
  else
    tail -n 20 "$log" >&2
    rm -f "$log"
    return 1
  fi
}
