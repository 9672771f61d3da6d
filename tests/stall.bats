#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# Devices that do not answer. They hold their requests back until the test lets go of them.

load lib.bash

readonly MIB=1048576

# A destination $loop that stops at 4 of 8 MiB, and two that do not.
setup_test() {
	need_loop
	need_nbd
	random_file source $((8 * MIB))
	filled_file image $((8 * MIB))
	filled_file copy $((8 * MIB))
	gate_new slow image $((4 * MIB))
}

# said PATTERN: it has said so by now.
said() {
	grep -qiE -e "$1" err
}

# The only test that waits for the 10 seconds.
@test "a destination that completes nothing for 10 s is named while the copy runs, once, and when it goes on" {
	kcopy_start --pages=512 source "$loop" copy
	gate_wait slow
	poll "$KCOPY_TIMEOUT" said "$loop: has completed nothing for 1[0-9] s"
	gate_open slow
	kcopy_wait
	assert_status 0
	assert_said "$loop: goes on, after 1[0-9] s"
	(($(grep -c 'completed nothing' <<<"$output") == 1))
	assert_not_said 'source: the source has'
	assert_not_said 'copy: has'
	assert_same source 0 image 0 $((8 * MIB))
	assert_same source 0 copy 0 $((8 * MIB))
}

# assert_late: what the device did when it answered again is the source's; all else is as it was.
assert_late() {
	cmp -l source image | awk '$3 != 125 { exit 1 }' || fail 'the image has bytes that are not the source'"'"'s'
}

@test "a destination that hangs is dropped, the others are complete" {
	kcopy_start --pages=512 --stall-timeout=1 source copy "$loop" new
	gate_wait slow
	poll "$KCOPY_TIMEOUT" said "new: 16384 sectors .*written and flushed"
	said "copy: 16384 sectors .*written and flushed"
	said "warning: $loop: has completed nothing for [1-9][0-9]* s: dropped"
	gate_open slow
	kcopy_wait
	assert_status 4
	assert_said "$loop: FAILED: write of [0-9]+ sectors at sector [0-9]+: Connection timed out"
	assert_same source 0 copy 0 $((8 * MIB))
	assert_same source 0 new 0 $((8 * MIB))
	assert_late
}

@test "a destination whose flush hangs is dropped" {
	gate_open slow
	: >slow-flush.gate
	rm -f slow-flush.reached # by the kernel, when the loop device was set up
	kcopy_start --stall-timeout=1 source "$loop" copy
	gate_wait slow-flush
	poll "$KCOPY_TIMEOUT" said "copy: 16384 sectors .*written and flushed"
	said "warning: $loop: has been flushing for [1-9][0-9]* s: dropped"
	gate_open slow-flush
	kcopy_wait
	assert_status 2
	assert_said "$loop: FAILED: flush: Connection timed out"
	assert_same source 0 copy 0 $((8 * MIB))
	assert_same source 0 image 0 $((8 * MIB))
}

@test "a source that hangs is named, and not dropped" {
	local hanging
	nbd_file "$scratch/hanging" eval get_size="stat -c %s '$scratch/source'" \
		pread="while [ -e '$scratch/read.gate' ] && [ \$4 -ge $((4 * MIB)) ]; do sleep 0.02; done
			dd if='$scratch/source' iflag=skip_bytes,count_bytes skip=\$4 count=\$3 bs=1M status=none"
	hanging=$(loop_new "$scratch/hanging" --read-only --direct-io=on)
	: >read.gate
	kcopy_start --stall-timeout=1 "$hanging" copy
	poll "$KCOPY_TIMEOUT" said "warning: $hanging: the source has not answered for [1-9][0-9]* s"
	gate_open read
	kcopy_wait
	assert_status 0
	assert_said "$hanging: goes on, after"
	assert_not_said 'dropped'
	assert_same source 0 copy 0 $((8 * MIB))
}

@test "with a reserve that a hanging destination has all of, the others fail, and nothing hangs" {
	kcopy_start --pages=1 --stall-timeout=1 source "$loop" copy
	gate_wait slow
	poll "$KCOPY_TIMEOUT" said 'copy: FAILED: '
	gate_open slow
	kcopy_wait
	assert_status 6
	assert_said "$loop: FAILED: write .*: Connection timed out"
	assert_said 'copy: FAILED: write .*: No buffer space available'
	assert_prefix source copy 16383
	assert_late
}

@test "a time that is no whole number of seconds is refused" {
	local time
	for time in 0 86401 1.5 -1 x ''; do
		refuses 'stall-timeout=.*: not a number of seconds; .*1 to 86400' --stall-timeout="$time" source copy
	done
}
