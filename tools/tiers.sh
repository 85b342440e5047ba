#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes targets, whichever fails, and says in the end how long each took.  An argument is a lane: its
# targets are made one after the other, beside those of the other lanes.
set -uo pipefail
# A process group for each lane, so that Ctrl-C can be passed on.
set -m
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
trap 'for job in $(jobs -p); do kill -INT -- "-$job"; done; wait; exit 130' INT TERM

lane() {
	local target begun verdict
	for target; do
		begun=$SECONDS verdict=passed
		"${MAKE:-make}" --keep-going --no-print-directory "$target" || verdict=FAILED
		printf '%-20s %s in %d s\n' "$target" "$verdict" $((SECONDS - begun)) |
			tee "$logs/$target.verdict" >&3
	done
}

# What the first lane says goes out at once, what others say in the end; verdicts as they come.
exec 3>&1
# shellcheck disable=SC2086 -- a word is a target
lane $1 &
for ((other = 2; other <= $#; other++)); do
	# shellcheck disable=SC2086
	lane ${!other} > "$logs/lane-$other" 2>&1 &
done
wait
for ((other = 2; other <= $#; other++)); do
	cat "$logs/lane-$other"
done
failed=0
for target in $*; do
	cat "$logs/$target.verdict" || failed=1
	grep -q passed "$logs/$target.verdict" || failed=1
done
exit "$failed"
