#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# --max-lag: destinations that are slower than the others. They hold their writes back until the test lets go of them. And
# that who is complete is flushed meanwhile.

load lib.bash

readonly MIB=1048576

# A destination $loop that stops at 4 of 24 MiB, more than the reserve has.
slow_one() {
	need_loop
	need_tool jq
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
		kcopy_start -v --json=report $flags source new "$loop" copy
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
		# What was read twice cannot be told from holes.
		jq -e '.source | .hole_sectors == null and .read_sectors > 49152' report
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

# -- who is complete is flushed ------------------------------------------------------------------

# counted_new NAME IMAGE LIMIT [FAILURES]: a file NAME over IMAGE; writes from byte LIMIT on wait until gate_open NAME. Each
# flush is a line of NAME.flushes, and waits while there is a file NAME-flush.gate; the first FAILURES of them fail.
counted_new() {
	local file=$scratch/$1 image=$scratch/$2
	# shellcheck disable=SC2016
	nbd_file "$file" eval \
		get_size="stat -c %s '$image'" \
		pread="dd if='$image' iflag=skip_bytes,count_bytes skip=\$4 count=\$3 bs=1M status=none" \
		pwrite="if [ \$(( \$4 + \$3 )) -gt $3 ]; then : >'$file.reached'; while [ -e '$file.gate' ]; do sleep 0.02; done; fi
			dd of='$image' oflag=seek_bytes seek=\$4 bs=1M iflag=fullblock conv=notrunc status=none" \
		can_write='exit 0' can_flush='exit 0' \
		flush="echo >>'$file.flushes'; while [ -e '$file-flush.gate' ]; do sleep 0.02; done
			[ \$(wc -l <'$file.flushes') -gt ${4:-0} ] || { echo EIO the cache is lost >&2; exit 1; }"
	: >"$file.gate"
	: >"$file.flushes"
}

# flushed NAME [TIMES]
flushed() {
	(($(wc -l <"$scratch/$1.flushes") == ${2:-1}))
}

# is_claimed MAP BYTES: it claims all.
is_claimed() {
	grep -q "^0x00000000  $(printf '0x%08X' "$2")  +" "$1"
}

# Two destinations of 4 MiB, less than the reserve: a slow one that stops at 1 MiB, and a fast one whose flushes are counted.
slow_and_counted() {
	need_nbd
	need_tool jq
	random_file source $((4 * MIB))
	filled_file image $((4 * MIB))
	filled_file other $((4 * MIB))
	counted_new slow image $MIB
	counted_new fast other $((4 * MIB)) "${1:-0}"
}

@test "who is complete is flushed at once and once, and its map is saved" {
	local flags
	slow_and_counted
	for flags in '' --map=map '--on-error=ignore --map=map' --on-error=stop --stall-timeout=1000; do
		: >fast.flushes
		: >slow.flushes
		# shellcheck disable=SC2086
		kcopy_start -v --json=report $flags source slow fast new
		gate_wait slow
		poll "$KCOPY_TIMEOUT" said 'fast: all flushed after [0-9]'
		poll "$KCOPY_TIMEOUT" said 'new: all flushed after [0-9]'
		! said 'slow: all ' || fail 'it cannot be complete'
		flushed fast
		flushed slow 0
		if [[ $flags == *map* ]]; then
			is_claimed map.2 $((4 * MIB))
			is_claimed map.3 $((4 * MIB))
			! is_claimed map.1 $((4 * MIB)) || fail 'it cannot be complete'
		fi
		assert_same source 0 other 0 $((4 * MIB))
		gate_open slow
		kcopy_wait
		assert_status 0
		assert_said 'fast: 8192 sectors .*written and flushed'
		jq -e '.destinations | .[1].flushed_seconds <= .[0].written_seconds' report
		flushed fast
		flushed slow
		assert_same source 0 image 0 $((4 * MIB))
		assert_same source 0 new 0 $((4 * MIB))
		rm -f map.* new
		fill_bytes image 0 $((4 * MIB))
		fill_bytes other 0 $((4 * MIB))
		gate_close slow
	done
}

@test "killed while one is far behind: who was complete is, and the same command writes to the others only" {
	slow_and_counted
	kcopy_start -v --map=map source slow fast
	gate_wait slow
	poll "$KCOPY_TIMEOUT" is_claimed map.2 $((4 * MIB))
	kill -KILL "$pid"
	gate_open slow
	kcopy_wait
	run kcopy --map=map source slow fast
	assert_status 0
	assert_said 'fast: 8192 sectors .*8192 of them before'
	assert_same source 0 image 0 $((4 * MIB))
	assert_same source 0 other 0 $((4 * MIB))
}

@test "zeros: who is complete is flushed at once, too" {
	slow_and_counted
	kcopy_start -v --zero --sparse=never --force slow fast
	gate_wait slow
	poll "$KCOPY_TIMEOUT" said 'fast: all flushed after [0-9]'
	flushed fast
	gate_open slow
	kcopy_wait
	assert_status 0
	flushed fast
	flushed slow
	assert_zeros image 0 $((4 * MIB))
	assert_zeros other 0 $((4 * MIB))
}

# Of what the device lost another flush would know nothing.
@test "an early flush that fails is a failure, and is not tried again" {
	local policy
	slow_and_counted 1
	for policy in drop stop ignore; do
		: >fast.flushes
		: >slow.flushes
		kcopy_start -v --map=map --on-error=$policy source slow fast
		gate_wait slow
		poll "$KCOPY_TIMEOUT" flushed fast
		gate_open slow
		kcopy_wait
		assert_status 4
		flushed fast
		assert_said 'fast: FAILED: flush: Input/output error'
		assert_not_said 'fast: all flushed'
		! grep -q '+$' map.2 || fail 'its map claims something'
		if [[ $policy != stop ]]; then
			assert_said 'slow: 8192 sectors .*written and flushed'
			assert_same source 0 image 0 $((4 * MIB))
		fi
		rm map.*
		fill_bytes image 0 $((4 * MIB))
		fill_bytes other 0 $((4 * MIB))
		gate_close slow
	done
}

@test "INT while who is complete is flushed: that is waited for, and its map claims it" {
	slow_and_counted
	: >fast-flush.gate
	kcopy_start -v --map=map source slow fast
	gate_wait slow
	poll "$KCOPY_TIMEOUT" flushed fast
	kill -INT "$pid"
	poll "$KCOPY_TIMEOUT" said 'ending in order'
	gate_open slow
	poll "$KCOPY_TIMEOUT" flushed slow
	gate_open fast-flush
	kcopy_wait
	assert_status 130
	assert_said 'fast: 8192 sectors .*written and flushed'
	is_claimed map.2 $((4 * MIB))
	assert_same source 0 other 0 $((4 * MIB))
}

# What its map says has one of them complete from the start.
@test "destinations on one device are flushed when all of them are complete, together" {
	need_nbd
	random_file source $((2 * MIB))
	filled_file image $((8 * MIB))
	counted_new both image $((5 * MIB))
	gate_open both
	run kcopy --map=map source both both:$((4 * MIB / 512)) copy
	assert_status 0
	rm map.2
	gate_close both
	: >both.flushes
	kcopy_start -v --map=map source both both:$((4 * MIB / 512)) copy
	gate_wait both
	poll "$KCOPY_TIMEOUT" said 'copy: all flushed after'
	flushed both 0
	! said 'both.*: all flushed' || fail 'too early'
	gate_open both
	kcopy_wait
	assert_status 0
	assert_said 'both: all flushed after'
	flushed both
	assert_same source 0 image 0 $((2 * MIB))
	assert_bytes image $((2 * MIB)) $((2 * MIB))
	assert_same source 0 image $((4 * MIB)) $((2 * MIB))
}
