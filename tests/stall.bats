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
