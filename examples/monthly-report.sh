#!/bin/sh
# Last month for those who ask: a report that needs no server, and evidence that an auditor checks without one
# (docs/reports.md, docs/evidence.md). For a timer; a viewer's token is enough.
set -eu
dir=${1:?usage: monthly-report.sh DIR}
first=$(date -u +%Y-%m-01)
from=$(date -u -d "$first -1 month" +%F)
to=$(date -u -d "$first -1 day" +%F)

fettle report --from "$from" --to "$to" --html "$dir/patching-$from.html"
fettle evidence export "$dir/evidence-$from.tar.gz" --from "$from" --to "$to"
