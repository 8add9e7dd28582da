#!/bin/sh
# Two pools behind a balancer: the idle one is patched and proved, gets the requests in steps, and gives them back at
# once when a gate is red. The policy is like examples/policies/web-blue-green.toml (docs/strategies.md).
set -eu
policy=${1:?usage: blue-green.sh POLICY}

plan=$(fettle -o json plan make "$policy")
number=$(echo "$plan" | sed -n 's/^  "number": \([0-9]*\),$/\1/p')
digest=$(echo "$plan" | sed -n 's/^  "digest": "\(.*\)",$/\1/p')
fettle plan show "$number"

rollout=$(fettle -o json rollout start "$number" --digest "$digest" | sed -n 's/^  "id": "\(.*\)",$/\1/p')
fettle rollout watch "$rollout"

# Not happy though every gate was green? The pool that served before still has its old versions until its own wave:
#   fettle rollout pause "$rollout" --reason "latency in the shop"
#   fettle rollout undo "$rollout" --wave 1 --reason "latency in the shop"
