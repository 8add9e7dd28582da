#!/bin/sh
# A version turns out bad: nobody gets it any more, rollouts that would bring it stand, whoever has it is named, and it is
# taken back where a rollout brought it (docs/recalls.md).
set -eu
what=${1:?usage: recall.sh PACKAGE=VERSION REASON}
reason=${2:?usage: recall.sh PACKAGE=VERSION REASON}

fettle recall add "$what" --reason "$reason" --undo
fettle recall show "$what"
# When the vendor has a better one, or was right after all: fettle recall lift "$what" --reason WHY
