#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# --max-lag: destinations that are slower than the others. They hold their writes back until the test lets go of them.

load lib.bash

readonly MIB=1048576

# A destination $loop that stops at 4 of 24 MiB, more than the reserve has.
slow_one() {
	need_loop
	need_nbd
	random_file source $((24 * MIB))
	filled_file image $((24 * MIB))
	gate_new slow image $((4 * MIB))
}

# said PATTERN: it has said so by now.
said() {
	grep -qiE -e "$1" err
}

gate_close() {
	rm -f "$scratch/$1.reached"
	: >"$scratch/$1.gate"
}

@test "the others are complete while one does nothing, and then it is, too" {
	local flags
	slow_one
	for flags in --max-lag=4M '--max-lag=2MiB --pages=2048'; do
		# shellcheck disable=SC2086
		kcopy_start -v $flags source new "$loop" copy
		gate_wait slow
		poll "$KCOPY_TIMEOUT" said 'new: all written after [0-9]'
		poll "$KCOPY_TIMEOUT" said 'copy: all written after [0-9]'
		poll "$KCOPY_TIMEOUT" said "$loop: slower than the others"
		! said "$loop: all written" || fail 'it cannot be complete'
		gate_open slow
		kcopy_wait
		assert_status 0
		assert_same source 0 image 0 $((24 * MIB))
		assert_same source 0 new 0 $((24 * MIB))
		assert_same source 0 copy 0 $((24 * MIB))
		assert_said "$loop: 49152 sectors .*written and flushed"
		rm copy new
		filled_file image $((24 * MIB))
		fresh "$loop"
		gate_close slow
	done
}

@test "INT while one is far behind: its map has what it holds, and the same command copies the rest" {
	slow_one
	filled_file copy $((24 * MIB))
	kcopy_start -v --max-lag=2M --map=map source "$loop" copy
	gate_wait slow
	poll "$KCOPY_TIMEOUT" said 'copy: all written'
	kill -INT "$pid"
	poll "$KCOPY_TIMEOUT" signal_taken "$pid" 2
	gate_open slow
	kcopy_wait
	assert_status 130
	assert_said "$loop: interrupted: [0-9]+ of 49152 sectors"
	assert_said 'copy: 49152 sectors .*written and flushed'
	run kcopy --map=map source "$loop" copy
	assert_status 0
	assert_same source 0 image 0 $((24 * MIB))
	assert_same source 0 copy 0 $((24 * MIB))
}

@test "a read error behind what one has got to is the end for it, too" {
	need_loop
	need_nbd
	local bad dest
	random_file image $((24 * MIB))
	bad=$(bad_read_new "$scratch/bad" "$scratch/image" $((20 * MIB + 512)),1024)
	filled_file held $((24 * MIB))
	gate_new slow held $((4 * MIB))
	filled_file copy $((24 * MIB))
	kcopy_start -v --retries=0 --max-lag=2M "$bad" "$loop" copy
	gate_wait slow
	poll "$KCOPY_TIMEOUT" said "$loop: slower than the others"
	gate_open slow
	kcopy_wait
	assert_status 1
	assert_said "$bad: READ ERROR: 1 sector could not be read; the copy ends at the first, and nothing behind it was written"
	(($(grep -c 'read of' <<<"$output") == 1))
	for dest in held copy; do
		assert_same image 0 $dest 0 $((20 * MIB + 512))
		assert_bytes $dest $((20 * MIB + 512)) $((4 * MIB - 512))
	done
	assert_said 'copy: INCOMPLETE: 40961 of 49152 sectors'
}

@test "off, and with ignore: all at the pace of the slowest" {
	local flags
	slow_one
	for flags in --max-lag=off --max-lag=0 '--max-lag=2M --on-error=ignore' '--max-lag=2M --pages=1024'; do
		# shellcheck disable=SC2086
		kcopy_start -v $flags source copy "$loop"
		gate_wait slow
		gate_open slow
		kcopy_wait
		assert_status 0
		assert_not_said 'slower than the others'
		assert_same source 0 image 0 $((24 * MIB))
		gate_close slow
	done
}

@test "refuses what is no lag" {
	random_file source $MIB
	local value
	for value in x -1 4MX 1.5M auto4 99999999999999999999 ''; do
		refuses "--max-lag=$value: not a size; write auto, off, or a size such as 4M" --max-lag="$value" source copy
	done
}

# The source has no head to move, wherever the tests run.
@test "by itself where the source is idle, though the slow one does nothing at all" {
	slow_one
	memory_dir
	cp source "$memory/source"
	kcopy_start -v "$memory/source" copy "$loop"
	gate_wait slow
	poll "$KCOPY_TIMEOUT" said 'copy: all written after [0-9]'
	poll "$KCOPY_TIMEOUT" said "$loop: slower than the others"
	gate_open slow
	kcopy_wait
	assert_status 0
	assert_same source 0 image 0 $((24 * MIB))
	assert_same source 0 copy 0 $((24 * MIB))
}
