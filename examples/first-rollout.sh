#!/bin/sh
# From a policy file to patched hosts: checked, compared, applied, planned, shown, and started when you say so.
set -eu
file=${1:?usage: first-rollout.sh POLICY.toml}

fettle policy check "$file"
fettle policy diff "$file"
fettle policy apply "$file"

policy=$(sed -n 's/^name *= *"\(.*\)".*/\1/p' "$file" | head -n 1)
plan=$(fettle -o json plan make "$policy")
number=$(echo "$plan" | sed -n 's/^  "number": \([0-9]*\),$/\1/p')
digest=$(echo "$plan" | sed -n 's/^  "digest": "\(.*\)",$/\1/p')
fettle plan show "$number"

printf 'Start plan %s? [y/N] ' "$number"
read -r answer
test "$answer" = y || exit 0

# The digest: what starts is what was shown, or nothing.
rollout=$(fettle -o json rollout start "$number" --digest "$digest" | sed -n 's/^  "id": "\(.*\)",$/\1/p')
fettle rollout watch "$rollout"
