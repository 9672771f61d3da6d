#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Disks that do not answer, as a cable or controller has them: neither success nor error, for now or for good. Runs in a
# machine of scripts/vm-run; owns all its disks.
# vm-run: --cpus 1

# shellcheck source=lib.bash
. "${0%/*}/lib.bash"

M=/dev/mapper
SECTORS=8192 # of every disk here: 4 MiB
FIRST=2048   # of these the source gives at once; the rest when its gate is open

# three_disks: the source is $M/source, over ram0; the destinations $M/stuck, over ram1, and ram2. Full of other data.
three_disks() {
	ramdisks 3 4 && linear stuck /dev/ram1 0 $SECTORS && gated source /dev/ram0 $FIRST $SECTORS
}

holds_first() {
	cmp -n $((FIRST * 512)) /tmp/random0 <(dd if="$1" bs=64K iflag=direct,count_bytes count=$((FIRST * 512)) status=none)
}

holds_all() {
	cmp /tmp/random0 <(dd if="$1" bs=64K iflag=direct status=none)
}

# stuck_in_the_middle ARGUMENT...: kcopy has begun, has written what the gate let through, and now stuck does not answer.
stuck_in_the_middle() {
	begin kcopy "$@"
	until_true 20 holds_first /dev/ram1
	until_true 20 holds_first /dev/ram2
	hangs stuck
	hangs_no_more source-gate
}

# complete DISK...
complete() {
	local disk
	cp /tmp/random0 /tmp/expected
	for disk; do
		assert_holds "$disk" 0 $SECTORS
	done
}

scene
need dmsetup dm-mod
arrange three_disks

goes_on() {
	stuck_in_the_middle $M/source $M/stuck /dev/ram2
	until_true 20 holds_all /dev/ram2
	! ended || fail 'it did not wait'
	! holds_all /dev/ram1 || fail 'it does not hang'
	hangs_no_more stuck
	finish
	assert_status 0
	assert_not_said 'FAILED|INCOMPLETE'
	complete /dev/ram1 /dev/ram2
}
check 'while a destination hangs the others go on as far as the reserve allows, and with it, it is complete' goes_on

scene
need dmsetup dm-mod
arrange three_disks

small_reserve() {
	stuck_in_the_middle -p 16 $M/source $M/stuck /dev/ram2
	# Nothing can go on, so there is nothing to see.
	sleep 0.5
	! ended || fail 'it did not wait'
	hangs_no_more stuck
	finish
	assert_status 0
	assert_not_said 'FAILED|INCOMPLETE'
	complete /dev/ram1 /dev/ram2
}
check 'a destination that hangs and has all of the reserve is waited for' small_reserve

scene
need dmsetup dm-mod
arrange three_disks

source_hangs() {
	begin kcopy $M/source $M/stuck /dev/ram2
	until_true 20 holds_first /dev/ram2
	! ended || fail 'it did not wait'
	hangs_no_more source-gate
	finish
	assert_status 0
	complete /dev/ram1 /dev/ram2
}
check 'a source that hangs is waited for' source_hangs

scene
need dmsetup dm-mod
arrange three_disks

interrupted() {
	local wrote
	content /dev/ram1 0 $SECTORS /tmp/before
	stuck_in_the_middle -p 64 $M/source $M/stuck /dev/ram2
	kill -TERM "$(pidof kcopy)" # INT is ignored by what runs beside a script
	until_true 20 grep -q 'ending in order' /tmp/said
	hangs_no_more stuck
	finish
	assert_status 143
	[[ $output =~ 'stuck: interrupted: '([0-9]+)' of'.*' written and flushed' ]]
	wrote=${BASH_REMATCH[1]}
	((FIRST <= wrote && wrote < SECTORS)) || fail 'it was not in the middle'
	cp /tmp/before /tmp/expected
	dd if=/tmp/random0 of=/tmp/expected bs=512 count="$wrote" conv=notrunc status=none
	assert_holds /dev/ram1 0 $SECTORS
}
check 'a signal ends it when the destination goes on, and what it said is there' interrupted

scene
need dmsetup dm-mod
arrange three_disks

shrinks() {
	begin kcopy --retries=0 $M/source $M/stuck /dev/ram2
	until_true 20 holds_first /dev/ram1
	until_true 20 holds_first /dev/ram2
	hangs stuck
	dmsetup reload stuck --table "0 $((FIRST + 999)) linear /dev/ram1 0"
	hangs_no_more stuck
	hangs_no_more source-gate
	finish
	assert_status 2
	assert_said "stuck: FAILED: write of [0-9]+ sectors? at sector $((FIRST + 999)): .*; wrote $((FIRST + 999)) of $SECTORS"
	complete /dev/ram2
	head -c $(((FIRST + 999) * 512)) /tmp/random0 >/tmp/expected
	assert_holds /dev/ram1 0 $((FIRST + 999))
}
check 'a destination that becomes shorter while it is written has its bit' shrinks

# -- flushes -------------------------------------------------------------------------------------

# A flush goes to everything that a device-mapper device stands on, so it hangs with a part that nothing is written to.
scene
need dmsetup dm-mod 'null_blk nr_devices=0'
flushes_hang() {
	ramdisks 3 4 && null_disk nullb0 size=4 cache_size=1 && linear cached /dev/nullb0 0 $SECTORS &&
		dm flushes "0 $FIRST linear /dev/ram1 0" "$FIRST $FIRST linear /dev/mapper/cached 0"
}
arrange flushes_hang

# is_safe MAP: all of it
is_safe() {
	[[ $(grep -v '^#' "$1" | sed 1d) =~ ^0x0+\ +0x0*$(printf %X $((FIRST * 512)))\ +\+$ ]]
}

# flush_hangs ARGUMENT...: kcopy has begun, and is to flush what it writes when flushes do not answer any more.
flush_hangs() {
	local before
	gated source /dev/ram0 $((FIRST / 2)) $FIRST
	before=$(transfers $M/flushes write)
	begin kcopy --map=/tmp/map -p 64 "$@" $M/source $M/flushes:0 /dev/ram2
	until_true 20 more_transfers $M/flushes write "$before"
	hangs cached
	hangs_no_more source-gate
}

map_of_the_other() {
	flush_hangs
	until_true 20 is_safe /tmp/map.2
	! ended || fail 'it does not hang'
	! grep '+$' /tmp/map.1 || fail 'its flush did not hang'
	kill -KILL "$(pidof kcopy)"
	hangs_no_more cached
	finish
	is_safe /tmp/map.2
	! grep '+$' /tmp/map.1 || fail 'it claims something'
	run kcopy --map=/tmp/map $M/source $M/flushes:0 /dev/ram2
	assert_status 0
	assert_said "ram2: $FIRST sectors .*written and flushed, $FIRST of them before"
	is_safe /tmp/map.1
	content /dev/ram0 0 $FIRST /tmp/expected
	assert_holds /dev/ram1 0 $FIRST
	assert_holds /dev/ram2 0 $FIRST
}
check 'a destination whose flush hangs keeps no other map from being saved' map_of_the_other

flush_dropped() {
	rm -f /tmp/map.*
	dmsetup remove source
	dmsetup remove source-gate
	flush_hangs --stall-timeout=2
	until_true 20 ended
	hangs_no_more cached
	finish
	assert_status 2
	assert_said 'flushes: FAILED: flush'
	assert_said "ram2: $FIRST sectors .*written and flushed"
	is_safe /tmp/map.2
	! grep '+$' /tmp/map.1 || fail 'it claims something'
}
check '--stall-timeout: it is dropped, and its map claims nothing' flush_dropped

# -- for good ------------------------------------------------------------------------------------

# need_option NAME: checks are skipped while kcopy has none of that name.
need_option() {
	kcopy --help 2>&1 | grep -q -e "$1" || missing=${missing:-kcopy $1}
}

scene
need dmsetup dm-mod
need_option --stall-timeout
arrange three_disks

dropped() {
	stuck_in_the_middle --stall-timeout=2 $M/source $M/stuck /dev/ram2
	until_true 20 ended
	hangs_no_more stuck
	finish
	assert_status 2
	assert_said 'stuck: FAILED: '
	assert_said "ram2: $SECTORS sectors .*written and flushed"
	complete /dev/ram2
}
check '--stall-timeout: a destination that hangs is dropped, the others are complete, and kcopy ends meanwhile' dropped

scene
need dmsetup dm-mod
need_option --stall-timeout
arrange three_disks

# Its pages do not come back, and there must be some for the others.
dropped_with_pages() {
	stuck_in_the_middle -p 512 --stall-timeout=2 $M/source /dev/ram2 $M/stuck
	until_true 20 ended
	hangs_no_more stuck
	finish
	assert_status 4
	assert_said 'stuck: FAILED: '
	complete /dev/ram2
}
check '--stall-timeout: it is dropped and the others are complete when the reserve is less than the rest, too' \
	dropped_with_pages

scene
need dmsetup dm-mod
need_option --stall-timeout
arrange three_disks

not_dropped() {
	stuck_in_the_middle --stall-timeout=30 $M/source $M/stuck /dev/ram2
	until_true 20 grep -q 'stuck: has completed nothing for 1[0-9] s' /tmp/said
	! ended || fail 'it did not wait'
	hangs_no_more stuck
	finish
	assert_status 0
	assert_said 'stuck: goes on, after'
	complete /dev/ram1 /dev/ram2
}
check 'a destination that hangs is named after 10 s, and may go on' not_dropped

done_checking
