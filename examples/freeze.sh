#!/bin/sh
# Nothing is changed on any host from one day to another: every policy in force gets a blackout, which no change path
# avoids, and rollouts under way are paused. Hosts at work end what they have begun.
set -eu
from=${1:?usage: freeze.sh FROM TO REASON, days as in 2026-12-18}
to=${2:?usage: freeze.sh FROM TO REASON}
reason=${3:?usage: freeze.sh FROM TO REASON}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

for policy in $(fettle -o json policy list | sed -n 's/^ *"name": "\(.*\)",$/\1/p'); do
    fettle policy show "$policy" > "$dir/$policy.toml"
    printf '\n[[blackout]]\nfrom = %s\nto = %s\nreason = "%s"\n' "$from" "$to" "$reason" >> "$dir/$policy.toml"
    # All are checked before the first is applied.
    fettle policy check "$dir/$policy.toml"
done
for file in "$dir"/*.toml; do
    test -e "$file" || { echo "no policy is in force: nothing to freeze"; break; }
    fettle policy apply "$file"
done
running=$(fettle -o json rollout list | awk -F'"' '/^ *"id":/ { id = $4 } /"phase": "running"/ { print id }')
for rollout in $running; do
    fettle rollout pause "$rollout" --reason "freeze: $reason"
done
# It ends by itself after the last day; paused rollouts go on with: fettle rollout resume ID
