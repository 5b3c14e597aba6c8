#!/usr/bin/env bash
# The demo: put tasks/demo/ into a git repository of its own and let the agent fix its bug.
set -euo pipefail
cd "$(dirname "$0")/.."

repo=.cache/demo-repo
if [ ! -d "$repo/.git" ]; then
  rm -rf "$repo" && mkdir -p "$repo" && cp -R tasks/demo/. "$repo"
  git -C "$repo" init -q -b main
  git -C "$repo" add -A
  git -C "$repo" -c user.name=demo -c user.email=demo@localhost -c core.hooksPath=/dev/null commit -q -m "slugs 0.3.0"
fi

model=()
if [ -z "${ANTHROPIC_API_KEY:-}" ]; then
  echo "ANTHROPIC_API_KEY is not set: a scripted model answers, over the real Messages API on loopback."
  model=(--model scripted:tasks/demo.replies.yaml)
fi
exec .venv/bin/claw-runner run tasks/demo.yaml --policy policies/ci.yaml "${model[@]}" "$@"
