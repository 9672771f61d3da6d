#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The corners in which kcopyd was asked what it does, and what kcopy does there. 'kernel:' says what the real one of
# Linux 6.1 answered (read_err and write_err, bit i for dests[i]); where that is a fault, kcopy does not share it. Runs in
# a machine of scripts/vm-run; owns all its disks.
# vm-run: --cpus 1 -d 4M -d 4M

# shellcheck source=lib.bash
. "${0%/*}/lib.bash"

M=/dev/mapper
SECTORS=8192 # of every disk here: 4 MiB

# with_errors NAME DEVICE SECTOR COUNT: device-mapper, over DEVICE, with an area of errors.
with_errors() {
	dm "$1" "0 $3 linear $2 0" "$3 $4 error" "$(($3 + $4)) $((SECTORS - $3 - $4)) linear $2 $(($3 + $4))"
}

# expect FILE SECTOR FILE SECTOR COUNT: in the first, which stands for a disk, what the second one has.
expect() {
	dd if="$3" of="$1" bs=512 seek="$2" skip="$4" count="$5" conv=notrunc status=none
}

scene
need dmsetup dm-mod virtio_blk
arrange ramdisks 5 4
arrange with_errors source /dev/ram0 3172 1
arrange with_errors bad /dev/ram2 2100 8
arrange dm dead "0 $SECTORS error"
arrange expect /tmp/zeros 0 /dev/zero 0 $SECTORS

# -- what cannot be -----------------------------------------------------------------------------

# kernel: source 0: (0, 0x0). A destination of 0: (0, 0x0), nothing written. A shorter one: (0, 0x0), 8 sectors or 2
# chunks written. A longer one: (0, 0x0), stale memory behind the data. The first one shorter: NULL is dereferenced.
counts() {
	refuses '' /dev/ram0:0+0 /dev/ram1
	refuses '' /dev/ram0:0+1024 /dev/ram1 /dev/ram3:0+0
	refuses '' /dev/ram0:0+1024 /dev/ram1:0+1024 /dev/ram3:0+8
	refuses '' /dev/ram0:0+2048 /dev/ram1:0+2048 /dev/ram3:0+8
	refuses '' /dev/ram0:0+8 /dev/ram1:0+1024
	refuses '' /dev/ram0:0+1024 /dev/ram1:0+8
}
check 'refuses counts of 0 and counts that differ' counts

# kernel: 0 destinations use memory that nobody has set; more than 8 go past the end of an array.
how_many() {
	local i dests=()
	refuses '' /dev/ram0
	for ((i = 0; i < 33; i++)); do
		dests+=("/dev/ram1:$((i * 16))+8")
	done
	refuses '' /dev/ram0:0+8 "${dests[@]}"
	forget
	run kcopy /dev/ram0:0+8 "${dests[@]:0:32}"
	assert_status 0
	content /dev/ram0 0 8 /tmp/expected
	for ((i = 0; i < 32; i++)); do
		assert_holds /dev/ram1 $((i * 16)) 8
	done
}
check 'refuses no destination and 33 of them, and writes 32' how_many

# kernel: (1, 0x0) and (0, 0x1), when it comes to the end.
past_the_end() {
	refuses '' /dev/ram0:8184+16 /dev/ram1
	refuses '' /dev/ram0:0+16 /dev/ram1:8184
	refuses '' /dev/ram0 /dev/ram1:1
}
check 'refuses a region that goes past the end, and writes nothing up to there' past_the_end

# kernel: (0, 0x0); as memmove() if it is one chunk, garbled if there are more.
overlap() {
	refuses 'overlap' /dev/ram4:0+1024 /dev/ram4:8
	refuses 'overlap' /dev/ram4:8+1024 /dev/ram4:0
	refuses 'overlap' /dev/ram4:0+8176 /dev/ram4:8
	refuses 'overlap' /dev/ram0:0+1024 /dev/ram4:0 /dev/ram4:8
}
check 'refuses what overlaps' overlap

# -- errors --------------------------------------------------------------------------------------

# kernel: (0, 0x81).
first_and_eighth() {
	forget
	run kcopy --force /dev/ram0:0+8 $M/dead:0 /dev/ram1:0 /dev/ram1:16 /dev/ram1:32 /dev/ram3:0 /dev/ram3:16 /dev/ram4:0 $M/dead:8
	assert_status $((2 + 64))
	content /dev/ram0 0 8 /tmp/expected
	assert_holds /dev/ram1 0 8
	assert_holds /dev/ram1 16 8
	assert_holds /dev/ram1 32 8
	assert_holds /dev/ram3 0 8
	assert_holds /dev/ram3 16 8
	assert_holds /dev/ram4 0 8
}
check 'bit N is destination N' first_and_eighth

# kernel: (1, 0x2) with IGNORE_ERROR.
read_and_write() {
	run kcopy --force --on-error=ignore --retries=0 $M/source:3172+8 /dev/ram1:0 $M/dead
	assert_status $((1 + 4))
	content /dev/ram0 3172 8 /tmp/expected
	expect /tmp/expected 0 /dev/zero 0 1
	assert_holds /dev/ram1 0 8
}
check 'a read error and a write error are told at once' read_and_write

# kernel: (1, 0x0), and nothing at all is written of the chunk.
read_error() {
	local policy
	content /dev/ram0 3072 100 /tmp/expected
	for policy in drop stop; do
		fill /dev/ram1
		run kcopy --on-error=$policy --retries=0 $M/source:3072+1024 /dev/ram1:3072
		assert_status 1
		assert_said 'source: read of 1 sector at sector 3172: '
		assert_said 'INCOMPLETE: 100 of 1024 sectors .* written and flushed'
		assert_holds /dev/ram1 3072 100
	done
}
check 'all that lies before the first unreadable sector is written' read_error

# kernel: (1, 0x0); of the chunks behind the bad one some were copied, each time others.
read_error_far() {
	fill /dev/ram1
	content /dev/ram1 0 $SECTORS /tmp/expected
	expect /tmp/expected 0 /tmp/random0 0 3172
	run kcopy --retries=0 $M/source /dev/ram1
	assert_status 1
	assert_said "INCOMPLETE: 3172 of $SECTORS sectors"
	assert_holds /dev/ram1 0 $SECTORS
}
check 'and nothing behind it is' read_error_far

# kernel: (1, 0x0); sector 1023 is zeros, too, or all from 100 on, or it is what the memory held before.
ignored_read_error() {
	local pages
	dmsetup remove source
	with_errors source /dev/ram0 100 1
	for pages in 4096 15 1; do
		fill /dev/ram1
		cp /tmp/random0 /tmp/expected
		expect /tmp/expected 100 /dev/zero 0 1
		run kcopy -p $pages --on-error=ignore --retries=0 $M/source /dev/ram1
		assert_status 1
		assert_holds /dev/ram1 0 $SECTORS
	done
	dmsetup remove source
	with_errors source /dev/ram0 3172 1
}
check 'with ignore exactly the unreadable sector is zeros, and never old memory' ignored_read_error

# kernel: (0, 0x2); all end early, and the healthy ones with a clear bit, like this.
write_error_stop() {
	local disk told
	fill /dev/ram1
	fill /dev/ram3
	run kcopy -p 128 --on-error=stop --retries=0 /dev/ram0 /dev/ram1 $M/bad /dev/ram3
	assert_status 4
	assert_said "bad: FAILED: write of [0-9]+ sectors? at sector 2100: .*; wrote 2100 of $SECTORS"
	for disk in ram1 ram3; do
		assert_said "$disk: INCOMPLETE: [0-9]+ of $SECTORS sectors .* written and flushed"
		[[ $output =~ $disk': INCOMPLETE: '([0-9]+)' of' ]]
		told=${BASH_REMATCH[1]}
		((told < SECTORS)) || fail 'it did not stop'
		content /tmp/random0 0 "$told" /tmp/expected
		assert_holds /dev/$disk 0 "$told"
	done
	content /tmp/random0 0 2100 /tmp/expected
	assert_holds /dev/ram2 0 2100
}
check 'without a flag a write error ends all, and of the healthy destinations is told what they hold' write_error_stop

# kernel: has no such flag.
write_error_drop() {
	run kcopy --retries=0 /dev/ram0 /dev/ram1 $M/bad /dev/ram3
	assert_status 4
	cp /tmp/random0 /tmp/expected
	assert_holds /dev/ram1 0 $SECTORS
	assert_holds /dev/ram3 0 $SECTORS
}
check 'with drop a write error is that destination'\''s alone' write_error_drop

# kernel: (0, 0x2); all is written but (a part of) the bad chunk.
write_error_ignore() {
	fill /dev/ram2
	content /dev/ram2 2100 8 /tmp/before
	run kcopy --on-error=ignore --retries=0 /dev/ram0 /dev/ram1 $M/bad /dev/ram3
	assert_status 4
	cp /tmp/random0 /tmp/expected
	assert_holds /dev/ram1 0 $SECTORS
	assert_holds /dev/ram3 0 $SECTORS
	expect /tmp/expected 2100 /tmp/before 0 8
	assert_holds /dev/ram2 0 $SECTORS
}
check 'with ignore exactly the unwritable sectors are left out' write_error_ignore

# kernel: zero: (0, 0x1), and both end early.
zero_error() {
	fill /dev/ram2
	content /dev/ram2 2100 8 /tmp/before
	run kcopy --zero --force --on-error=ignore --retries=0 $M/bad /dev/ram3
	assert_status 2
	cp /tmp/zeros /tmp/expected
	assert_holds /dev/ram3 0 $SECTORS
	expect /tmp/expected 2100 /tmp/before 0 8
	assert_holds /dev/ram2 0 $SECTORS
	fill /dev/ram2
	fill /dev/ram3
	run kcopy --zero --force --retries=0 $M/bad /dev/ram3
	assert_status 2
	cp /tmp/zeros /tmp/expected
	assert_holds /dev/ram3 0 $SECTORS
	content /tmp/zeros 0 2100 /tmp/expected
	assert_holds /dev/ram2 0 2100
}
check 'zeros that cannot be written: with drop that destination has its bit, with ignore only these are left out' zero_error

# -- the rest ------------------------------------------------------------------------------------

# kernel: hangs, or takes memory that is not the reserve.
reserve() {
	local pages
	for pages in 1 2 3 127; do
		fill /dev/ram1
		copies /dev/ram0 1 8191 /dev/ram1 1 -p $pages
	done
}
check 'copies with a reserve that is smaller than a chunk' reserve

# flushed ARGUMENT...: kcopy with these sends a flush to both disks.
flushed() {
	local vda vdb
	vda=$(transfers /dev/vda flush) vdb=$(transfers /dev/vdb flush)
	run kcopy --retries=0 "$@"
	more_transfers /dev/vda flush "$vda" || fail 'no flush for vda'
	more_transfers /dev/vdb flush "$vdb" || fail 'no flush for vdb'
}

# kernel: never sends one.
flush() {
	flushed /dev/ram0 /dev/vda /dev/vdb
	assert_status 0
	flushed --zero /dev/vda /dev/vdb
	assert_status 0
}
check 'a flush reaches every disk' flush

flush_failed() {
	flushed $M/source /dev/vda /dev/vdb
	assert_status 1
	flushed --on-error=ignore $M/source /dev/vda /dev/vdb
	assert_status 1
	flushed /dev/ram0 /dev/vda $M/bad /dev/vdb
	assert_status 4
	flushed --on-error=stop /dev/ram0 /dev/vda $M/bad /dev/vdb
	assert_status 4
}
check 'and does after errors, too' flush_failed

arrange linear upper /dev/vda 0 $SECTORS
flush_below() {
	flushed /dev/ram0 $M/upper /dev/vdb
	assert_status 0
}
check 'and does through device-mapper' flush_below

done_checking
