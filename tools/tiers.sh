#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes targets, whichever fails: two at a time, begun in the order given.  What one says goes out when
# it ends; in the end how long each took, and how those ended that failed.
set -uo pipefail
# A process group for each target, so that Ctrl-C can be passed on.
set -m
at_once=2
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
trap 'for job in $(jobs -p); do kill -INT -- "-$job"; done; wait; exit 130' INT TERM

tier() {
	local begun=$SECONDS verdict=passed
	"${MAKE:-make}" --keep-going --no-print-directory "$1" > "$logs/$1.log" 2>&1 || verdict=FAILED
	printf '%-20s %s in %d s\n' "$1" "$verdict" $((SECONDS - begun)) > "$logs/$1.verdict"
	# One at a time.
	flock "$logs" cat "$logs/$1.log" "$logs/$1.verdict"
}

for target; do
	while (($(jobs -rp | wc -l) >= at_once)); do
		wait -n
	done
	echo "make $target ..."
	tier "$target" &
done
wait
for target; do
	cat "$logs/$target.verdict"
done
# Once more, for who sees no more than the end.
failed=0
for target; do
	if ! grep -q passed "$logs/$target.verdict"; then
		failed=1
		printf '%s:\n' "$target"
		tail -n 40 "$logs/$target.log"
	fi
done
exit "$failed"
