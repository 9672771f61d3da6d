#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# Ended by a signal half-way: a destination holds its writes back until the test lets go of them, so half-way
# is a place and not a time.

load lib.bash

readonly MIB=1048576

# A slow destination $loop that stops at 4 of 8 MiB, and one that does not.
setup_test() {
	need_loop
	need_nbd
	random_file source $((8 * MIB))
	filled_file image $((8 * MIB))
	filled_file copy $((8 * MIB))
	gate_new slow image $((4 * MIB))
}

# interrupt SIGNAL: and then lets the destination go on.
interrupt() {
	kill -"$1" "$pid"
	poll "$KCOPY_TIMEOUT" signal_taken "$pid" "$(kill -l "$1")"
	gate_open slow
}

@test "INT, TERM and HUP: finishes what is under way, says how far each destination got, and dies of the signal" {
	local signal place
	for signal in INT TERM HUP; do
		rm -f new slow.reached
		: >slow.gate
		random_file source $((8 * MIB))
		filled_file image $((8 * MIB))
		filled_file copy $((8 * MIB))
		kcopy_start --pages=512 source "$loop" copy new
		gate_wait slow
		interrupt $signal
		kcopy_wait
		assert_status $((128 + $(kill -l $signal)))
		for place in "$loop" copy new; do
			assert_said "$place: interrupted: [0-9]+ of 16384 sectors .*written and flushed"
			assert_prefix source "$place" 16383
		done
		(($(holds "$loop") >= 4096))
		# It did not go on to the end.
		assert_bytes image $((7 * MIB)) $MIB
		assert_bytes copy $((7 * MIB)) $MIB
	done
}

@test "really dies of the signal, for a parent that looks closely" {
	need_tool perl
	# Perl's variables, not the shell's.
	# shellcheck disable=SC2016
	run guarded env --default-signal perl -e '
		my $pid = fork // die;
		if (!$pid) {
			open STDERR, ">", "err";
			exec @ARGV or die;
		}
		select undef, undef, undef, 0.02 until -e "slow.reached";
		kill TERM => $pid;
		select undef, undef, undef, 0.02 until -s "err";
		unlink "slow.gate";
		waitpid $pid, 0;
		printf "signal %d, exit %d\n", $? & 127, $? >> 8;
	' "$KCOPY" --pages=512 source "$loop" copy
	assert_status 0
	assert_said '^signal 15, exit 0$'
}

@test "a quiet copy that is interrupted still says how far it got" {
	kcopy_start --quiet --pages=512 source "$loop"
	gate_wait slow
	interrupt TERM
	kcopy_wait
	assert_status 143
	assert_said "$loop: interrupted: [0-9]+ of 16384 sectors"
	assert_prefix source "$loop" 16383
}

@test "signals that were ignored when it was started stay ignored" {
	local signal
	for signal in HUP INT TERM; do
		rm -f slow.reached
		: >slow.gate
		random_file source $((8 * MIB))
		env --default-signal --ignore-signal=$signal "$KCOPY" --pages=512 source "$loop" copy </dev/null 2>err 3>&- 4>&- &
		pid=$!
		started+=("$pid")
		gate_wait slow
		kill -$signal "$pid"
		gate_open slow
		kcopy_wait
		assert_status 0
		assert_same source 0 image 0 $((8 * MIB))
		assert_same source 0 copy 0 $((8 * MIB))
	done
}

@test "a signal during the flush does not lose it" {
	gate_open slow
	: >slow-flush.gate
	rm -f slow-flush.reached # by the kernel, when the loop device was set up
	kcopy_start source "$loop"
	gate_wait slow-flush
	kill -TERM "$pid"
	poll "$KCOPY_TIMEOUT" signal_taken "$pid" 15
	gate_open slow-flush
	kcopy_wait
	assert_status 143
	assert_said "$loop: .*16384 .*sectors .*written and flushed"
	assert_same source 0 image 0 $((8 * MIB))
}

@test "a destination that has failed is still told when a signal ends the copy" {
	local bad
	bad=$(bad_write_new "$scratch/full" $((8 * MIB)) $MIB $MIB)
	kcopy_start --pages=512 source "$bad" "$loop"
	gate_wait slow
	interrupt INT
	kcopy_wait
	assert_status 130
	assert_said "$bad: FAILED: write"
	assert_said "$loop: interrupted: "
	assert_prefix source "$bad" 2048
	assert_prefix source "$loop" 16383
}

@test "the same signal twice at once is one, and once more a while later ends it on the spot" {
	kcopy_start --pages=512 source "$loop"
	gate_wait slow
	kill -TERM "$pid"
	poll "$KCOPY_TIMEOUT" signal_taken "$pid" 15
	kill -TERM "$pid"
	poll "$KCOPY_TIMEOUT" signal_taken "$pid" 15
	gate_open slow
	kcopy_wait
	assert_status 143
	assert_said "$loop: interrupted: .*written and flushed"

	: >slow.gate
	rm -f slow.reached
	kcopy_start --pages=512 source "$loop"
	gate_wait slow
	# Until one kills: how long it is patient is its affair.
	ended_by_another_term() {
		kill -TERM "$pid" 2>/dev/null
		process_gone "$pid" # its first thread, at least: another may wait for the device
	}
	poll "$KCOPY_TIMEOUT" ended_by_another_term
	gate_open slow
	kcopy_wait
	assert_status 143
	assert_not_said 'flushed'
}

@test "nobody reading standard error does not keep a signal from ending it" {
	need_tool mkfifo
	mkfifo pipe
	# Full before it starts: open for reading, too, so that it is there, and never read.
	exec 7<>pipe
	dd if=/dev/zero of=/proc/self/fd/7 bs=4096 oflag=nonblock status=none 2>/dev/null || true
	env --default-signal "$KCOPY" --pages=512 source "$loop" </dev/null >out 2>&7 3>&- 4>&- &
	pid=$!
	started+=("$pid")
	gate_wait slow
	kill -TERM "$pid"
	poll "$KCOPY_TIMEOUT" signal_taken "$pid" 15
	gate_open slow
	: >err
	kcopy_wait
	exec 7>&-
	assert_status 143
	assert_same source 0 "$loop" 0 $((4 * MIB))
}
