#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Which disk is it, and which partitions does it have? --expect and --dry-run know disks by what they say of
# themselves, and after a copy the kernel's partitions are those that were copied. Runs in a machine of
# scripts/vm-run; owns all its disks.
# vm-run: --cpus 1 -d 2M,serial=KCOPY-0001 -d 2M,serial=KCOPY-0002

# shellcheck source=lib.bash
. "${0%/*}/lib.bash"

M=/dev/mapper

# -- identity ------------------------------------------------------------------------------------

# expected N:KEY=VALUE ARGUMENT...: kcopy with these arguments finds it as expected, and copies.
expected() {
	forget
	run kcopy --force --expect="$1" "${@:2}"
	assert_status 0
}

scene
need sd_mod 'scsi_debug dev_size_mb=8' virtio_blk
arrange ramdisks 2 2
sd=
arrange scsi_disk
disks+=(/dev/vda /dev/vdb)
serial=$(tail -c +5 "/sys/block/$sd/device/vpd_pg80" 2>/dev/null | tr -d '\0' | sed 's/ *$//')
wwn=$(cat "/sys/block/$sd/device/wwid" 2>/dev/null)
model=$(sed 's/ *$//' "/sys/block/$sd/device/model" 2>/dev/null)
arrange test -n "$serial" -a -n "$wwn" -a -n "$model"

check 'knows a disk by its serial number' expected 1:serial=KCOPY-0001 /dev/ram0:0+1024 /dev/vda
check 'knows a disk by its serial number, as sysfs has it' expected "1:serial=$serial" /dev/ram0:0+1024 "/dev/$sd"
check 'knows a disk by its WWN' expected "1:wwn=$wwn" /dev/ram0:0+1024 "/dev/$sd"
check 'knows a disk by its WWN as lsblk writes it' expected "1:wwn=0x${wwn#*.}" /dev/ram0:0+1024 "/dev/$sd"
check 'knows a disk by its model' expected "1:model=$model" /dev/ram0:0+1024 "/dev/$sd"
check 'knows a disk by its size' expected 1:size=8M /dev/ram0:0+1024 "/dev/$sd"
check 'knows the source, too' expected 0:serial=KCOPY-0002 /dev/vdb:0+1024 "/dev/$sd"

several() {
	forget
	run kcopy --force --expect=0:serial=KCOPY-0001 --expect=1:serial=KCOPY-0002 --expect="2:serial=$serial" \
		--expect="2:model=$model" /dev/vda:0+1024 /dev/vdb "/dev/$sd"
	assert_status 0
	content /dev/vda 0 1024 /tmp/expected
	assert_holds /dev/vdb 0 1024
	assert_holds "/dev/$sd" 0 1024
}
check 'knows several, by several' several
check 'refuses a disk with another serial number, and says which' \
	refuses 'vda: .*KCOPY-0002.*KCOPY-0001' --expect=1:serial=KCOPY-0002 /dev/ram0:0+1024 /dev/vda
check 'refuses a part of its serial number' \
	refuses 'vda: .*KCOPY-0001' --expect=1:serial=KCOPY-000 /dev/ram0:0+1024 /dev/vda
check 'refuses a disk with another WWN' refuses "$sd: .*wwn" --expect=1:wwn=0x5000c500a1b2c3d4 /dev/ram0:0+1024 "/dev/$sd"
check 'refuses a disk of another model' refuses "$sd: .*model" --expect=1:model=other /dev/ram0:0+1024 "/dev/$sd"
check 'refuses a disk of another size' refuses "$sd: .*size" --expect=1:size=9M /dev/ram0:0+1024 "/dev/$sd"
check 'refuses what cannot be found out: a model' refuses 'vda: .*model' --expect=1:model=x /dev/ram0:0+1024 /dev/vda
check 'refuses what cannot be found out: a serial number' \
	refuses 'ram1: .*serial' --expect=1:serial=x /dev/ram0:0+1024 /dev/ram1
check 'refuses all if the second destination is another' \
	refuses 'vdb: ' --expect=2:serial=KCOPY-0001 /dev/ram0:0+1024 /dev/vda /dev/vdb
check 'refuses all if the source is another' \
	refuses 'vda: .*KCOPY-0001' --expect=0:serial=KCOPY-0002 /dev/vda:0+1024 /dev/vdb

by_another_name() {
	ln -sf /dev/vda /tmp/some-disk
	refuses 'KCOPY-0001' --expect=1:serial=KCOPY-0002 /dev/ram0:0+1024 /tmp/some-disk
	expected 1:serial=KCOPY-0001 /dev/ram0:0+1024 /tmp/some-disk
}
check 'knows it by another path' by_another_name

plan() {
	remember
	run kcopy --dry-run "/dev/$sd:0+1024" /dev/vda /dev/ram1
	assert_status 0
	assert_said "\\b$sd\\b"
	assert_said "$serial"
	assert_said "$model"
	assert_said '\bvda\b'
	assert_said 'KCOPY-0001'
	assert_said '\bram1\b'
	assert_unchanged
}
check 'shows kernel names, serial numbers and models in the plan, and writes nothing' plan

# -- partitions ----------------------------------------------------------------------------------

# image FILE SFDISK-LINE...: 8 MiB with such a GPT.
image() {
	local file=$1
	shift
	rm -f "$file"
	truncate -s 8M "$file"
	printf '%s\n' 'label: gpt' "$@" | sfdisk -q "$file"
}

# partitions: number, start and size of those that the kernel has, one a line
partitions() {
	local part
	for part in "/sys/block/$sd/$sd"*; do
		[[ ! -e $part ]] || echo "$(<"$part/partition") $(<"$part/start") $(<"$part/size")"
	done | sort
}

scene
need sd_mod 'scsi_debug dev_size_mb=8' sfdisk ext4 mkfs.ext4
arrange ramdisks 2 2
arrange scsi_disk
arrange image /tmp/first 'start=2048, size=8192' 'start=12288, size=2048'
arrange image /tmp/second 'start=4096, size=8192'

# writes_image FILE PARTITIONS [OPTION...]
writes_image() {
	local file=$1 expected=$2
	shift 2
	forget
	run kcopy "$@" "$file" "/dev/$sd"
	assert_status 0
	fresh
	cmp "/dev/$sd" "$file" || fail "$sd does not hold it"
	[[ $(partitions) == "$expected" ]] || fail "the kernel has: $(partitions)"
}
check "a copied disk's partitions appear" writes_image /tmp/first $'1 2048 8192\n2 12288 2048'
check 'refuses a disk that holds a partition table' refuses "$sd: .*would overwrite.*gpt" /tmp/second "/dev/$sd"
check 'they are the new ones after another copy' writes_image /tmp/second '1 4096 8192' --force
check 'and again' writes_image /tmp/first $'1 2048 8192\n2 12288 2048' --force
arrange mkfs.ext4 -q -L treasure "/dev/${sd}1"
check 'says what is on the partitions of a disk' \
	refuses "would overwrite.*${sd}1.*ext4.*treasure" /tmp/second "/dev/$sd"
check 'refuses a partition that holds a file system' refuses "${sd}1: would overwrite.*ext4.*treasure" /dev/ram0:0+1024 "/dev/${sd}1"
check 'copies to an empty partition' copies /dev/ram0 0 2048 "/dev/${sd}2" 0
arrange mount -t ext4 -o ro "/dev/${sd}1" /mnt
check 'refuses a disk with a mounted partition' \
	refuses "$sd: .*in use.*${sd}1 is mounted on /mnt" --force /tmp/second "/dev/$sd"
check 'copies to another partition of it' copies /dev/ram1 0 2048 "/dev/${sd}2" 0

still_there() {
	[[ $(partitions) == $'1 2048 8192\n2 12288 2048' ]]
}
check 'and its partitions stay' still_there
arrange umount /mnt
arrange linear onpart "/dev/${sd}2" 512 1024
check 'sees a disk through device-mapper over a partition' refuses 'overlaps' "/dev/$sd:12800+1024" $M/onpart
check 'sees a partition through it' refuses 'overlaps' "/dev/${sd}2:1528+8" $M/onpart:1016
check 'copies what of the partition is not below it' copies "/dev/${sd}2" 0 512 $M/onpart 0
check 'copies what of the disk is not below it' copies "/dev/$sd" 13824 512 $M/onpart 512
check 'refuses the disk of such a partition' \
	refuses "$sd: .*in use.*${sd}2.*held by dm-[0-9]+ \\(onpart\\)" --force /tmp/second "/dev/$sd"

done_checking
