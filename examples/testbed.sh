#!/bin/sh
# Ring 0: what a plan changes is tried on twins of its hosts before any of them is touched.
# Needs a worker (docs/testbed.md); POLICY is the name of a policy in force.
set -eu
policy=${1:?usage: testbed.sh POLICY}

number=$(fettle -o json plan make "$policy" | sed -n 's/^  "number": \([0-9]*\),$/\1/p')
# Builds a twin of each cohort, patches it, takes it back; fails where one did not take the change.
fettle testbed run "$number" --wait
fettle plan show "$number"
fettle rollout start "$number"
