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
	kcopy_start --pages=512 --stall-timeout=3 source copy "$loop" new
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

@test "a destination whose flush hangs is dropped with its map, and the others' maps do not wait for that" {
	gate_open slow
	rm -f slow-flush.reached
	: >slow-flush.gate
	kcopy_start --stall-timeout=4 --map=map source "$loop" copy
	gate_wait slow-flush
	poll "$KCOPY_TIMEOUT" grep -q '[+]$' map.2
	! said dropped || fail 'too late to tell'
	poll "$KCOPY_TIMEOUT" said "copy: 16384 sectors .*written and flushed"
	gate_open slow-flush
	kcopy_wait
	assert_status 2
	assert_said "$loop: FAILED: flush: Connection timed out; wrote"
	[[ -z $(grep '[+]$' map.1) ]]
	[[ $(grep -c '[+]$' map.2) -eq 1 ]]
}

# gate_source: a loop device $hanging with the contents of the source; reads from 4 MiB on wait until gate_open read.
gate_source() {
	nbd_file "$scratch/hanging" eval get_size="stat -c %s '$scratch/source'" \
		pread="while [ -e '$scratch/read.gate' ] && [ \$4 -ge $((4 * MIB)) ]; do sleep 0.02; done
			dd if='$scratch/source' iflag=skip_bytes,count_bytes skip=\$4 count=\$3 bs=1M status=none"
	hanging=$(loop_new "$scratch/hanging" --read-only --direct-io=on)
	: >read.gate
}

@test "a source that hangs is named, and not dropped" {
	local hanging
	gate_source
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

# -- the process can be ended --------------------------------------------------------------------

# With --stall-timeout, $child is the process that copies; $pid is its parent, which the user sees.
find_child() {
	local stat
	child=
	for stat in /proc/[0-9]*/stat; do
		[[ $(sed 's/.*) . //' "$stat" 2>/dev/null) != "$pid "* ]] || child=$(basename "${stat%/stat}")
	done
	[[ -n $child ]]
}

# kill_twice: TERM until one ends it at once. How long two of them are the same is its affair.
kill_twice() {
	ended_by_another_term() {
		kill -TERM "$pid" 2>/dev/null
		process_gone "$pid"
	}
	kill -TERM "$pid"
	poll "$KCOPY_TIMEOUT" said 'ending in order'
	poll "$KCOPY_TIMEOUT" ended_by_another_term
	kcopy_wait
}

@test "it ends while the dropped destination still hangs, with its result, and names who has to wait for whom" {
	kcopy_start --pages=512 --stall-timeout=3 source copy "$loop" new
	gate_wait slow
	find_child
	kcopy_wait
	[[ -e slow.gate ]]
	assert_status 4
	assert_said "warning: $loop: has completed nothing for [1-9][0-9]* s: dropped"
	assert_said "$loop: FAILED: write of [0-9]+ sectors at sector [0-9]+: Connection timed out"
	assert_said "warning: process $child has to wait for $loop before it can end"
	assert_said "copy: 16384 sectors .*written and flushed"
	gate_open slow
	poll "$KCOPY_TIMEOUT" process_gone "$child"
	assert_same source 0 copy 0 $((8 * MIB))
	assert_same source 0 new 0 $((8 * MIB))
	assert_late
}

@test "where nothing hangs --stall-timeout changes nothing: no process stays, and the status is the copy's" {
	local bad
	gate_open slow
	bad=$(bad_write_new "$scratch/full" $((8 * MIB)) $MIB $MIB)
	run kcopy --stall-timeout=5 source "$loop" "$bad" copy
	assert_status 4
	assert_not_said 'process'
	assert_said "$bad: FAILED: write"
	assert_same source 0 image 0 $((8 * MIB))
	assert_same source 0 copy 0 $((8 * MIB))
	run kcopy --stall-timeout=5 source missing/file
	assert_status 128
	run kcopy --stall-timeout=5 source "$loop"
	assert_status 0
}

@test "signals are passed on: INT, TERM and HUP end the copy in order" {
	local signal
	for signal in INT TERM HUP; do
		rm -f slow.reached
		: >slow.gate
		filled_file copy $((8 * MIB))
		kcopy_start --pages=512 --stall-timeout=600 source "$loop" copy
		gate_wait slow
		find_child
		kill -$signal "$pid"
		poll "$KCOPY_TIMEOUT" said 'ending in order'
		gate_open slow
		kcopy_wait
		assert_status $((128 + $(kill -l $signal)))
		assert_said "$loop: interrupted: [0-9]+ of 16384 sectors .*written and flushed"
		assert_not_said 'process'
		assert_prefix source "$loop" 16383
		assert_prefix source copy 16383
		[[ ! -e /proc/$child ]]
	done
}

@test "a signal from the terminal reaches both processes and is one" {
	need_tool setsid
	env --default-signal setsid "$KCOPY" --pages=512 --stall-timeout=600 source "$loop" copy </dev/null >out 2>err 3>&- 4>&- &
	pid=$!
	started+=("$pid")
	gate_wait slow
	find_child
	kill -INT -- "-$pid"
	poll "$KCOPY_TIMEOUT" said 'ending in order'
	poll "$KCOPY_TIMEOUT" signal_taken "$child" 2
	gate_open slow
	kcopy_wait
	assert_status 130
	assert_said "$loop: interrupted: [0-9]+ of 16384 sectors .*written and flushed"
}

@test "a signal ends it in order though a destination hangs, when that has been dropped" {
	kcopy_start --pages=512 --stall-timeout=9 source "$loop" copy
	gate_wait slow
	find_child
	kill -TERM "$pid"
	kcopy_wait
	[[ -e slow.gate ]]
	assert_status 143
	assert_said "$loop: FAILED: .*: Connection timed out"
	assert_said "copy: interrupted: [0-9]+ of 16384 sectors .*written and flushed"
	assert_said "process $child has to wait for $loop"
	assert_prefix source copy 16383
	gate_open slow
	poll "$KCOPY_TIMEOUT" process_gone "$child"
	assert_late
}

@test "a second signal ends it at once though a source or a destination hangs" {
	local hanging
	kcopy_start --pages=512 --stall-timeout=600 source "$loop" copy
	gate_wait slow
	find_child
	kill_twice
	[[ -e slow.gate ]]
	assert_status 143
	assert_not_said 'flushed'
	gate_open slow
	poll "$KCOPY_TIMEOUT" process_gone "$child"
	assert_late

	# And it has said already whom it waits for.
	gate_source
	kcopy_start --stall-timeout=1 "$hanging" copy
	poll "$KCOPY_TIMEOUT" said "warning: $hanging: the source has not answered"
	find_child
	kill_twice
	[[ -e read.gate ]]
	assert_status 143
	assert_said "process $child may have to wait for $hanging before it can end"
	gate_open read
	poll "$KCOPY_TIMEOUT" process_gone "$child"
}

@test "who kills it kills the process that copies, too" {
	kcopy_start --pages=512 --stall-timeout=600 source "$loop" copy
	gate_wait slow
	find_child
	kill -KILL "$pid"
	kcopy_wait
	assert_status 137
	gate_open slow
	poll "$KCOPY_TIMEOUT" process_gone "$child"
}

@test "if the process that copies is killed it says so, and ends likewise" {
	kcopy_start --pages=512 --stall-timeout=600 source "$loop" copy
	gate_wait slow
	find_child
	kill -KILL "$child"
	gate_open slow
	kcopy_wait
	assert_status 137
	assert_said "process $child, which was copying, was ended by: Killed"
}

@test "a time that is no whole number of seconds is refused" {
	local time
	for time in 0 86401 1.5 -1 x ''; do
		refuses 'stall-timeout=.*: not a number of seconds; .*1 to 86400' --stall-timeout="$time" source copy
	done
}
