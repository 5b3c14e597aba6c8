#!/usr/bin/env bash
# What the tests use besides the engines: programs, and apt's lists, from which the images of the tests are fetched.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

missing() { ! command -v "$1" >/dev/null; }

if missing git || missing rg || missing openssl || missing unshare || missing pgrep || missing ssh; then
  apt_install "what the tests use" git ripgrep openssl util-linux procps openssh-client
fi
if ! missing apt-get; then
  { available busybox-static && available musl; } || apt_get update
fi
