#!/bin/sh
# In a pipeline: goes on only while nothing of this severity (or worse) that has a fix is open in the fleet, and nothing that
# is known to be exploited. Where nobody can say (no host is judged, data are too old) it ends with code 10: that is no pass.
# Needs a viewer's token: `fettle operator add pipeline --role viewer --expires 90d`.
set -eu
severity=${1:?usage: exposure-gate.sh low|medium|high|critical [ALLOWED]}

fettle exposure --kev
fettle exposure --severity "$severity" --allow "${2:-0}"
