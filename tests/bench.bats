#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154
#
# scripts/bench works: not how fast anything is.

load lib.bash

bench=$BATS_TEST_DIRNAME/../scripts/bench

# path_without TOOL...: in bin, all that $PATH has, but not these. What is there twice is linked once.
path_without() {
	local tool
	mkdir bin
	IFS=: read -ra dirs <<<"$PATH"
	for dir in "${dirs[@]}"; do
		find "$dir/" -maxdepth 1 -perm /111 ! -type d -print0 2>/dev/null
	done | xargs -0 ln -s --target-directory=bin 2>/dev/null || true
	for tool; do
		rm -f "bin/$tool"
	done
}

@test "bench measures a row, as JSON with every value, and tells which tools are missing" {
	need_loop
	need_tool jq
	path_without fio nbdcopy
	run --separate-stderr guarded env PATH="$PWD/bin" TMPDIR="$PWD" "$bench" --quick --only=start --rounds=1 --size=8 --json
	assert_status 0
	jq -e '.rows | length == 2 and all(.row == "start" and .kcopy > 0) and all(.kcopy_all | length == 10)' <<<"$output"
	jq -e '.rows[1] | (.peer | startswith("dd ")) and (.peer_all | length == 10) and .target == 2 and .reached != null' <<<"$output"
	jq -e '.missing | index("fio") and index("nbdcopy")' <<<"$output"
	[[ $stderr == *'Not installed'*' fio'* ]]
	[ -z "$(loops_below "$PWD")" ]
}

@test "bench measures on disks of memory that keep to the clock, and leaves none of them" {
	need_plain_build
	need_loop
	need_tool jq cc pkg-config sfdisk
	pkg-config --exists fuse3 || skip_because 'needs libfuse3-dev'
	[[ -c /dev/fuse ]] || skip_because 'needs FUSE'
	run --separate-stderr guarded env TMPDIR="$PWD" "$bench" --quick --only=deep,spindle --rounds=1 --size=4 --json
	assert_status 0
	jq -e '.rows | all(has("skipped") | not) and all(.kcopy > 0)' <<<"$output"
	jq -e '[.rows[] | select(.row == "deep") | .peer] | contains(["kcopy --pages=1024", "kcopy --pages=16384"])' <<<"$output"
	jq -e '[.rows[] | select(.row == "spindle") | .what] | unique | length == 2' <<<"$output"
	[ -z "$(loops_below "$PWD")" ]
	run ! grep -F " $PWD/" /proc/mounts
	run ! pgrep -f "$PWD/.*/slow_disk"
}

@test "bench refuses a row that there is not, and a number that is none" {
	run "$bench" --only=start,nonsense
	assert_status 1
	assert_said "no row 'nonsense'"
	run "$bench" --rounds=0
	assert_status 1
	assert_said '--rounds takes a number'
}
