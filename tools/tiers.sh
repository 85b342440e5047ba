#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes targets, whichever fails, and says in the end how long each took.  An argument is a target,
# or several to be made side by side; one argument follows the other.
set -uo pipefail
# A process group for each, so that Ctrl-C can be passed on.
set -m
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
trap 'for job in $(jobs -p); do kill -INT -- "-$job"; done; wait; exit 130' INT TERM

# What a target says goes to the first of a group at once, to the others in the end.
run() {
	local begun=$SECONDS verdict=passed
	"${MAKE:-make}" --keep-going --no-print-directory "$1" || verdict=FAILED
	printf '%-16s %s in %d s\n' "$1" "$verdict" $((SECONDS - begun)) > "$logs/$1.verdict"
}

for group; do
	first=
	for target in $group; do
		if [ -z "$first" ]; then
			first=$target
			run "$target" &
		else
			run "$target" > "$logs/$target" 2>&1 &
		fi
	done
	wait
	for target in $group; do
		[ "$target" = "$first" ] || cat "$logs/$target"
	done
done
failed=0
for target in $*; do
	cat "$logs/$target.verdict" || failed=1
	grep -q passed "$logs/$target.verdict" || failed=1
done
exit "$failed"
