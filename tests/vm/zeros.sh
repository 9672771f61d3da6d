#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Zeroing in a real kernel: disks that have a command for it and disks that have none, sectors that cannot be zeroed, and
# what is said of them. Runs in a machine of scripts/vm-run; owns all its disks.
# vm-run: --cpus 1

# shellcheck source=lib.bash
. "${0%/*}/lib.bash"

M=/dev/mapper
SECTORS=8192 # of every disk here: 4 MiB
RANDOM=${KCOPY_TEST_SEED:=$((RANDOM % 32768))}
echo "# KCOPY_TEST_SEED=$KCOPY_TEST_SEED"

# expect_zeros SECTORS FILE: /tmp/expected is so many zeros, and then what FILE has.
expect_zeros() {
	cp "$2" /tmp/expected
	dd if=/dev/zero of=/tmp/expected bs=512 count="$1" conv=notrunc status=none
}

# zeroes_past DEST BELOW ERROR [ARGUMENT...]: with --on-error=ignore all becomes zeros but what is bad, on this and on
# another disk. BELOW is read back.
zeroes_past() {
	fill /dev/ram3
	content "$2" 0 $SECTORS /tmp/before
	null_bad_if "$2" +
	expect_zeros $SECTORS /tmp/before
	leave_out /tmp/before
	run kcopy --zero --force --on-error=ignore "${@:4}" /dev/ram3 "$1"
	null_bad_if "$2" -
	assert_status 4
	assert_said "FAILED: zeroing of ${bad[0]#*+} sectors? at sector ${bad[0]%+*}: $3"
	[[ ${#bad[@]} -eq 1 ]] || assert_said "more errors \\($(how_many) sectors in all\\)"
	assert_said "wrote ${bad[0]%+*} of $SECTORS sectors"
	assert_said "ram3: $SECTORS sectors .*written and flushed"
	assert_holds "$2" 0 $SECTORS
	expect_zeros $SECTORS /tmp/before
	assert_holds /dev/ram3 0 $SECTORS
}

# zeroes_up_to POLICY DEST BELOW ERROR: all before the first bad sector; nothing that is bad is touched.
zeroes_up_to() {
	null_bad_if "$3" +
	run kcopy --zero --force --retries=1 --on-error="$1" "$2"
	null_bad_if "$3" -
	assert_status 2
	assert_said "FAILED: zeroing of 1 sector at sector ${bad[0]%+*}: $4; wrote ${bad[0]%+*} of $SECTORS sectors"
	head -c $((${bad[0]%+*} * 512)) /dev/zero >/tmp/expected
	assert_holds "$3" 0 "${bad[0]%+*}"
}

# null_bad_if DISK +|-: its bad sectors, if they are null_blk's own
null_bad_if() {
	[[ $1 != /dev/nullb0 ]] || null_bad "$2"
}

# all_zeros DISK
all_zeros() {
	head -c $((SECTORS * 512)) /dev/zero >/tmp/expected
	assert_holds "$1" 0 $SECTORS
}

# -- errors of device-mapper ---------------------------------------------------------------------

scene
need dmsetup dm-mod
arrange ramdisks 4 4

middle() {
	bad=("$1")
	failing "middle$1" /dev/ram1 && fill /dev/ram1
}
arrange middle 5001+3
check 'zeroing: an error in the middle: with ignore exactly that is left out' \
	zeroes_past $M/middle5001+3 /dev/ram1 'Input/output error'
arrange fill /dev/ram1
check 'zeroing: and without retries' zeroes_past $M/middle5001+3 /dev/ram1 'Input/output error' --retries=0
arrange fill /dev/ram1
check 'zeroing: with drop all before it is zeros' zeroes_up_to drop $M/middle5001+3 /dev/ram1 'Input/output error'
arrange fill /dev/ram1
check 'zeroing: with stop, too' zeroes_up_to stop $M/middle5001+3 /dev/ram1 'Input/output error'
arrange dmsetup remove middle5001+3
arrange middle 8191+1
check 'zeroing: an error in the last sector is none of all others' \
	zeroes_past $M/middle8191+1 /dev/ram1 'Input/output error' --retries=0
arrange dmsetup remove middle8191+1
arrange middle 0+16
check 'zeroing: an error at the start, and of that one' zeroes_past $M/middle0+16 /dev/ram1 'Input/output error' --retries=0
arrange dmsetup remove middle0+16

segments() {
	scatter 24 40
	failing segments /dev/ram1 && fill /dev/ram1
}
arrange segments
check 'zeroing: segments of errors: exactly the unwritable sectors are left out' \
	zeroes_past $M/segments /dev/ram1 'Input/output error' --retries=0

# -- errors of a disk ----------------------------------------------------------------------------

scene
need 'null_blk nr_devices=0'
arrange ramdisks 4 4
scattered() {
	scatter 24 12
	null_disk nullb0 size=4 blocksize=512 && fill /dev/nullb0
}
arrange scattered
check 'zeroing: scattered errors: exactly the unwritable sectors are left out' \
	zeroes_past /dev/nullb0 /dev/nullb0 'Input/output error' --retries=0
arrange fill /dev/nullb0
check 'zeroing: scattered errors: with drop all before the first is zeros' \
	zeroes_up_to drop /dev/nullb0 /dev/nullb0 'Input/output error'

larger_blocks() {
	rmdir /sys/kernel/config/nullb/nullb0
	null_disk nullb0 size=4 blocksize=4096
	fill /dev/nullb0
	content /dev/nullb0 0 $SECTORS /tmp/before
	bad=(4001+1)
	null_bad +
	run kcopy --zero --on-error=ignore --retries=0 /dev/nullb0
	null_bad -
	assert_status 2
	assert_said 'FAILED: zeroing of 8 sectors at sector 4000'
	bad=(4000+8)
	expect_zeros $SECTORS /tmp/before
	leave_out /tmp/before
	assert_holds /dev/nullb0 0 $SECTORS
}
check 'zeroing: a sector in a block of 4096 bytes is the whole block' larger_blocks

# -- errors that go away -------------------------------------------------------------------------

scene
need dmsetup dm-mod dm-flakey
arrange ramdisks 4 4

# becomes TARGET...: another table of $M/flaky, while it is in use
becomes() {
	dmsetup suspend --nolockfs flaky && dmsetup reload flaky --table "0 $SECTORS $*" && dmsetup resume flaky
}
arrange linear flaky /dev/ram1 0 $SECTORS

goes_away() {
	local before
	becomes flakey /dev/ram1 0 0 1000 1 error_writes
	before=$(transfers $M/flaky write)
	begin kcopy --zero --force --retries=30 $M/flaky /dev/ram2
	until_true 20 more_transfers $M/flaky write $((before + 3))
	becomes linear /dev/ram1 0
	finish
	assert_status 0
	assert_not_said 'error'
	all_zeros /dev/ram1
	all_zeros /dev/ram2
}
check 'zeroing: errors that go away while it is tried again are none' goes_away

lasts() {
	fill /dev/ram1
	content /dev/ram1 0 $SECTORS /tmp/before
	becomes flakey /dev/ram1 0 0 1000 1 error_writes
	run kcopy --zero --force --retries=1 --on-error=ignore $M/flaky /dev/ram2
	becomes linear /dev/ram1 0
	assert_status 2
	assert_said 'flaky: FAILED: zeroing of 8192 sectors at sector 0: Input/output error; wrote 0 of 8192 sectors'
	cp /tmp/before /tmp/expected
	assert_holds /dev/ram1 0 $SECTORS
	all_zeros /dev/ram2
}
check 'zeroing: a disk that cannot be written to at all is told as one area' lasts

# -- disks with a command for it -----------------------------------------------------------------

# By WRITE SAME, or by UNMAP on a disk that says that it reads as zeros then, or by data.
by_command() {
	scsi_disk && fill "/dev/$sd"
	[[ $(cat "/sys/block/$sd/queue/write_zeroes_max_bytes") -gt 0 ]] || fail 'it has no command'
	content "/dev/$sd" 0 $SECTORS /tmp/before
	run kcopy --zero "/dev/$sd:1001+5003"
	assert_status 0
	bad=(0+1001 6004+2188)
	expect_zeros $SECTORS /tmp/before
	leave_out /tmp/before
	assert_holds "/dev/$sd" 0 $SECTORS
	run kcopy --zero "/dev/$sd"
	assert_status 0
	all_zeros "/dev/$sd"
}
for how in '' 'lbpws=1' 'lbpu=1 lbpws10=1'; do
	scene
	need sd_mod "scsi_debug dev_size_mb=4 delay=0 $how"
	check "zeroing: by the disk's own command${how:+, $how}" by_command
done

scene
need sd_mod 'scsi_debug dev_size_mb=64 delay=0'
pulled_while_zeroed() {
	scsi_disk
	scsi_set ndelay 200000000
	begin kcopy --zero --retries=1000 "/dev/$sd"
	until_true 20 more_transfers "/dev/$sd" write 0
	pull
	finish
	assert_status 2
	assert_said "$sd: FAILED: zeroing of [0-9]+ sectors at sector [0-9]+: No such device"
}
check 'zeroing: a disk that is pulled out is dropped at once' pulled_while_zeroed

done_checking
