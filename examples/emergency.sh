#!/bin/sh
# A vulnerability that cannot wait for the next cycle: who has it, declared, planned at once for exactly those hosts.
# Canary, budgets and gates stay; soak is cut and windows are opened as the policies say (docs/cycles.md).
set -eu
cve=${1:?usage: emergency.sh CVE-… REASON}
reason=${2:?usage: emergency.sh CVE-… REASON}

fettle feed sync || echo "some feed could not be fetched: what is known so far counts"
fettle cve "$cve" || echo "no host is known to have $cve yet; declared all the same"
fettle emergency declare "$cve" --reason "$reason"
fettle emergency list
# A plan of it needs somebody else's approval where the policy says so: whoever declares cannot approve.
