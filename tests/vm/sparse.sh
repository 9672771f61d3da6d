#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Zeros on disks that can do with them what they say they can: whatever it is, what is read back is zeros, and nothing of
# what stood there. Runs in a machine of scripts/vm-run; owns all its disks.
# vm-run: --cpus 1

# shellcheck source=lib.bash
. "${0%/*}/lib.bash"

SECTORS=32768 # of every disk here: 16 MiB
RANDOM=${KCOPY_TEST_SEED:=$((RANDOM % 32768))}
echo "# KCOPY_TEST_SEED=$KCOPY_TEST_SEED"

# source_new FILE: 15 MiB and 3 sectors, with data in some of each MiB and in all of some.
source_new() {
	local mib
	truncate -s $((15 * 1048576 + 1536)) "$1" || return
	for mib in 1 2 5 6 7 11; do
		dd if=/dev/urandom of="$1" bs=512 seek=$((mib * 2048 + RANDOM % 1024)) count=$((8 + RANDOM % 2040)) conv=notrunc status=none
	done
}

# over_old DEVICE SECTOR: the disk is full of other data; then the source is copied to it.
over_old() {
	fill "$1"
	content "$1" 0 "$2" /tmp/before
	content "$1" $(($2 + 30723)) $((SECTORS - $2 - 30723)) /tmp/behind
	copies /tmp/source 0 30723 "$1" "$2" -v
	cp /tmp/before /tmp/expected
	assert_holds "$1" 0 "$2"
	cp /tmp/behind /tmp/expected
	assert_holds "$1" $(($2 + 30723)) $((SECTORS - $2 - 30723))
}

# zeroes DEVICE [OPTION...]: the disk is full of other data; then all but its ends becomes zeros.
zeroes() {
	fill "$1"
	run kcopy "${@:2}" -v --zero "$1:3+$((SECTORS - 8))"
	assert_status 0
	head -c $(((SECTORS - 8) * 512)) /dev/zero >/tmp/expected
	assert_holds "$1" 3 $((SECTORS - 8))
}

# provisioned: sectors of scsi_debug's disk that take space
provisioned() {
	local range sum=0
	for range in $(tr , ' ' </sys/bus/pseudo/drivers/scsi_debug/map); do
		((sum += ${range#*-} - ${range%-*} + 1))
	done
	echo $sum
}

# gives_back: what was zero in the source takes no space, in runs of 256 KiB and more.
gives_back() {
	over_old "/dev/$sd" 16
	(($(provisioned) < SECTORS * 3 / 4)) || fail "$(provisioned) sectors take space"
	assert_said 'destination 1: [1-9][0-9]* sectors .* zeroed without sending zeros'
	zeroes "/dev/$sd"
	(($(provisioned) < 64)) || fail "$(provisioned) sectors take space"
	zeroes "/dev/$sd" --sparse=never
	(($(provisioned) >= SECTORS - 8)) || fail "only $(provisioned) sectors take space"
	assert_said 'destination 1: 0 sectors .* zeroed'
}

# anyhow DEVICE: whether it can zero or not.
anyhow() {
	over_old "$1" 16
	over_old "$1" 1
	zeroes "$1"
	zeroes "$1" --sparse=never
}

arrange source_new /tmp/source

# All of them discard. After that, one reads zeros, one 0xff, one what it held before; by themselves the last two
# guarantee nothing, so discarding is no way to zero them.
scene
need sd_mod 'scsi_debug dev_size_mb=16 delay=0 lbpws=1 lbpws10=1 lbprz=1'
arrange scsi_disk
check 'a disk whose unmapped blocks are zeros gets its space back' gives_back

scene
need sd_mod 'scsi_debug dev_size_mb=16 delay=0 lbpu=1 lbprz=2'
arrange scsi_disk
check 'a disk whose unmapped blocks are ones reads as zeros' anyhow "/dev/$sd"

scene
need sd_mod 'scsi_debug dev_size_mb=16 delay=0 lbpu=1 lbpws=1 lbprz=0'
arrange scsi_disk
check 'a disk whose unmapped blocks are what they were reads as zeros' anyhow "/dev/$sd"

scene
need sd_mod 'scsi_debug dev_size_mb=16 delay=0 sector_size=4096 lbpws=1 lbprz=1'
arrange scsi_disk
check 'a disk of 4 KiB blocks' copies /tmp/source 0 30720 "/dev/$sd" 8 -v

scene
need sd_mod 'scsi_debug dev_size_mb=16 delay=0'
arrange scsi_disk
check 'a disk that only says when it is asked what it cannot do' anyhow "/dev/$sd"

scene
need 'null_blk nr_devices=0'
arrange null_disk nullb0 size=16 discard=1
check 'a disk that discards and cannot zero' anyhow /dev/nullb0

scene
arrange ramdisks 1 16
check 'a ramdisk' anyhow /dev/ram0

scene
need dmsetup
arrange ramdisks 1 32
arrange linear first /dev/ram0 8 $SECTORS
check 'a device-mapper device' anyhow /dev/mapper/first

scene
need dmsetup sd_mod 'scsi_debug dev_size_mb=32 delay=0 lbpws=1 lbpws10=1 lbprz=1'
arrange scsi_disk
arrange linear first "/dev/$sd" 8 $SECTORS
check 'a device-mapper device over a disk that can' anyhow /dev/mapper/first

scene
need losetup loop
arrange truncate -s $((SECTORS * 512)) /tmp/image
arrange attach /tmp/image
check 'a loop device' anyhow "$loop"

done_checking
