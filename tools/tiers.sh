#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes targets one after the other, whichever fails, and says in the end how long each took.
set -uo pipefail
failed=0
table=
for target; do
    begun=$SECONDS
    verdict=passed
    "${MAKE:-make}" --keep-going --no-print-directory "$target" || verdict=FAILED
    [ "$verdict" = passed ] || failed=1
    table+=$(printf '%-16s %s in %d s' "$target" "$verdict" $((SECONDS - begun)))$'\n'
done
printf '%s' "$table"
exit "$failed"
