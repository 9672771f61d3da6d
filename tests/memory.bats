#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154
#
# The reserve is all the memory that data takes: resident memory is the reserve and 8 MiB at most, whatever is
# copied.

load lib.bash

# assert_resident KIB PAGES: at most PAGES of 4 KiB, and 8 MiB.
assert_resident() {
	(($1 <= $2 * 4 + 8192)) || fail "$1 KiB are resident, with a reserve of $(($2 * 4)) KiB"
}

resident_of() {
	run guarded /usr/bin/time -q -f 'resident %M' "$KCOPY" "$@"
	assert_status 0
	[[ $output =~ resident\ ([0-9]+) ]]
	resident=${BASH_REMATCH[1]}
}

# has_blocks FILE BYTES: so much of it is allocated; or kcopy has gone.
has_blocks() {
	(($(stat -c %b -- "$1") * 512 >= $2)) || process_gone "$pid"
}

@test "64 MiB take the reserve and 8 MiB at most, whatever the reserve" {
	need_plain_build
	need_tool /usr/bin/time
	random_file source $((64 << 20))
	local pages
	resident_of source copy
	assert_resident "$resident" 4096
	for pages in 1 512 8192; do
		resident_of --pages=$pages source copy
		assert_resident "$resident" $pages
	done
	assert_same source 0 copy 0 $((64 << 20))
}

@test "so do 32 destinations" {
	need_plain_build
	need_tool /usr/bin/time
	local i names=()
	for ((i = 0; i < 32; i++)); do
		names+=("copy$i")
	done
	random_file source $((2 << 20))
	resident_of --pages=4096 source "${names[@]}"
	assert_resident "$resident" 4096
}

@test "so does a sparse source of 1 TiB" {
	need_plain_build
	need_tool /usr/bin/time
	truncate -s 1T source || skip_because 'no file of 1 TiB here'
	resident_of source copy
	assert_resident "$resident" 4096
	assert_size copy $((1 << 40))
}

@test "so does one that is read throughout" {
	need_plain_build
	truncate -s 1T source copy || skip_because 'no file of 1 TiB here'
	kcopy_start --sparse=never source copy
	poll "$KCOPY_TIMEOUT" has_blocks copy $((128 << 20))
	local resident
	resident=$(awk '/^VmHWM:/ { print $2 }' "/proc/$pid/status")
	kill -INT "$pid"
	kcopy_wait
	assert_status 130
	assert_resident "$resident" 4096
	assert_size copy $((1 << 40))
}
