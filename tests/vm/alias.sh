#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Disks under other names: what stands on device-mapper, md and LVM is seen through for overlap, and what is in use is
# refused with its user's name. Runs in a machine of scripts/vm-run; owns all its disks.
# vm-run: --cpus 1

# shellcheck source=lib.bash
. "${0%/*}/lib.bash"

M=/dev/mapper

# ram0 ... ram3, of 2 MiB: 4096 sectors.
four_disks() {
	arrange ramdisks 4 2
}

# -- linear --------------------------------------------------------------------------------------

scene
need dmsetup dm-mod
four_disks
arrange linear low /dev/ram0 0 2048

check 'refuses a device-mapper device over its source' refuses 'destination 1 overlaps the source' \
	/dev/ram0:0+1024 $M/low
check 'refuses it where they have a few sectors in common' refuses 'overlaps' /dev/ram0:1016+1024 $M/low
check 'refuses it with another range in between' refuses 'overlaps' /dev/ram0:2040+8 $M/low:2040
check 'copies from one half of a disk to the other through a device-mapper device' \
	copies /dev/ram0 1024 1024 $M/low 0
check 'copies from the disk what its device-mapper device does not map' copies /dev/ram0 2048 2048 $M/low 0
check 'copies from a device-mapper device to another disk' copies $M/low 0 2048 /dev/ram1 2048
check 'copies to a device-mapper device from another disk' copies /dev/ram2 100 1024 $M/low 8
check 'refuses a disk that device-mapper holds, and says which device does' \
	refuses 'ram0: .*in use.*held by dm-[0-9]+ \(low\)' /dev/ram1:0+8 /dev/ram0
check 'refuses it where the device does not map it, too' \
	refuses 'ram0: .*in use.*held by dm-[0-9]+ \(low\)' /dev/ram1:0+8 /dev/ram0:2048
check '--force does not help' refuses 'held by dm-[0-9]+ \(low\)' --force /dev/ram1:0+8 /dev/ram0

to_the_disk_below() {
	refuses 'held by dm-[0-9]+ \(low\)' $M/low:0+1024 /dev/ram0:1000
	assert_said 'destination 1 overlaps the source'
}
check 'tells of overlap and of use in one go' to_the_disk_below

arrange linear low2 /dev/ram0 1024 2048
check 'refuses two destinations that have sectors in common' \
	refuses 'destination 2 overlaps destination 1' /dev/ram1:0+1024 $M/low:1024 $M/low2:0

two_that_do_not() {
	content /dev/ram1 0 1024 /tmp/expected
	run kcopy /dev/ram1:0+1024 $M/low $M/low2
	assert_status 0
	assert_holds $M/low 0 1024
	assert_holds $M/low2 0 1024
	assert_holds /dev/ram0 1024 1024
}
check 'writes two destinations on one disk that have none in common' two_that_do_not

# What the page cache of another name remembers, and has still to write. It is open, so that nothing is written sooner.
old_cache() {
	cat /dev/ram0 >/dev/null
	exec 8<>/dev/ram0
	printf 'what was to be written before' >&8
	content /dev/ram1 0 1024 /tmp/expected
	run kcopy /dev/ram1:0+1024 $M/low
	assert_status 0
	head -c $((1024 * 512)) /dev/ram0 | cmp - /tmp/expected
	exec 8>&-
	assert_holds /dev/ram0 0 1024
	assert_holds $M/low 0 1024
}
check 'leaves nothing old in the cache of the disk below' old_cache

# -- several on one disk -------------------------------------------------------------------------

scene
need dmsetup dm-mod
four_disks
arrange linear one /dev/ram0 0 1024
arrange linear two /dev/ram0 1024 1024
arrange linear between /dev/ram0 1016 1024
arrange dm both '0 512 linear /dev/ram0 2048' '512 512 linear /dev/ram1 0'

check 'copies between two volumes on one disk' copies $M/one 0 1024 $M/two 0
check 'refuses volumes that overlap' refuses 'overlaps' $M/one $M/between
check 'refuses them the other way round' refuses 'overlaps' $M/between:1016+8 $M/two:1008
check 'copies within them what does not overlap' copies $M/between 0 8 $M/two 0
check 'copies within one volume' copies $M/one 0 512 $M/one 512
check 'refuses overlap within one volume' refuses 'overlaps' $M/one:0+512 $M/one:511
check "copies to a volume's first segment from the disk of its second" copies /dev/ram1 0 512 $M/both 0
check "refuses a volume's second segment over its source" refuses 'overlaps' /dev/ram1:0+512 $M/both:512
arrange linear upper $M/both 256 512
check 'sees through a volume on a volume' refuses 'overlaps' /dev/ram0:2304+256 $M/upper
check 'sees through it, in its second segment' refuses 'overlaps' /dev/ram1:0+8 $M/upper:256
check 'and where it has none of the disk' copies /dev/ram1 0 256 $M/upper 0
check 'refuses a volume that another one stands on' \
	refuses 'both: .*in use.*held by dm-[0-9]+ \(upper\)' /dev/ram2:0+8 $M/both

# -- other targets -------------------------------------------------------------------------------

scene
need dmsetup dm-mod dm-crypt
four_disks
key=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
arrange dm secret "0 2048 crypt aes-xts-plain64 $key$key 0 /dev/ram0 256"
check 'refuses an encrypted volume over its source' refuses 'overlaps' /dev/ram0:256+2048 $M/secret
check 'refuses an encrypted volume where it stands on its source' refuses 'overlaps' /dev/ram0:2296+8 $M/secret:2040
check 'copies to it what is beside it on its disk' copies /dev/ram0 2304 1024 $M/secret 0
check 'copies to it from another disk' copies /dev/ram1 0 2048 $M/secret 0

no_key() {
	refuses 'held by dm-[0-9]+ \(secret\)' -v $M/secret:0+8 /dev/ram0
	assert_not_said "${key:0:16}"
}
check 'names an encrypted volume, and never its key' no_key

scene
need dmsetup dm-mod
four_disks
arrange dm stripes '0 2048 striped 2 128 /dev/ram0 0 /dev/ram1 512'
arrange dm stripes2 '0 2048 striped 2 128 /dev/ram0 0 /dev/ram1 512'
arrange dm stripes3 '0 2048 striped 2 128 /dev/ram0 2048 /dev/ram1 2048'
check 'refuses stripes over their source' refuses 'overlaps' /dev/ram0:0+1024 $M/stripes
check 'refuses stripes over their second disk' refuses 'overlaps' /dev/ram1:512+1024 $M/stripes
check 'refuses stripes over other stripes of the same sectors' refuses 'overlaps' $M/stripes2 $M/stripes
check 'refuses stripes that are destinations, both' refuses 'overlaps' /dev/ram2:0+2048 $M/stripes $M/stripes2
check 'copies from stripes to others on the same disks' copies $M/stripes 0 2048 $M/stripes3 0
check 'copies to stripes from another disk' copies /dev/ram2 0 2048 $M/stripes 0

scene
need dmsetup dm-mod dm-mirror
four_disks
arrange dm twins '0 2048 mirror core 1 256 2 /dev/ram0 0 /dev/ram1 0 1 handle_errors'
check 'refuses a mirror over its source' refuses 'overlaps' /dev/ram0:0+1024 $M/twins
check 'refuses a mirror over its second leg' refuses 'overlaps' /dev/ram1:0+1024 $M/twins

both_legs() {
	copies /dev/ram2 0 2048 $M/twins 0
	assert_holds /dev/ram0 0 2048
	assert_holds /dev/ram1 0 2048
}
check 'copies to a mirror, and both legs have it' both_legs

scene
need dmsetup dm-mod dm-snapshot
four_disks
arrange linear base /dev/ram0 0 2048
arrange dd if=/dev/zero of=/dev/ram1 bs=64K count=1 # it takes what is there for its own
arrange dm snap "0 2048 snapshot $M/base /dev/ram1 P 16"
arrange dm origin "0 2048 snapshot-origin $M/base"
check "refuses a snapshot's origin over its source" refuses 'overlaps' /dev/ram0:0+1024 $M/origin
check "refuses a snapshot over its origin's disk" refuses 'overlaps' /dev/ram0:0+1024 $M/snap
check 'refuses a snapshot over the disk that takes what changed' refuses 'overlaps' /dev/ram1:0+1024 $M/snap
check 'copies from a snapshot' copies $M/snap 0 2048 /dev/ram2 0
check 'copies to a snapshot, and the origin stays' copies /dev/ram3 0 1024 $M/snap 0

the_snapshot_stays() {
	content $M/snap 0 2048 /tmp/snap
	copies /dev/ram2 0 2048 $M/origin 0
	mv /tmp/snap /tmp/expected
	assert_holds $M/snap 0 2048
}
check 'copies to an origin, and the snapshot stays' the_snapshot_stays

scene
need dmsetup dm-mod dm-thin-pool
four_disks
arrange dd if=/dev/zero of=/dev/ram0 bs=64K count=1 # it takes what is there for its own
arrange dm pool '0 4096 thin-pool /dev/ram0 /dev/ram1 128 0'
arrange dmsetup message pool 0 'create_thin 1'
arrange dmsetup message pool 0 'create_thin 2'
arrange dm thin1 "0 2048 thin $M/pool 1"
arrange dm thin2 "0 2048 thin $M/pool 2"
arrange fill $M/thin1
check 'copies from one volume of a pool to another' copies $M/thin1 0 2048 $M/thin2 0
check 'refuses a volume of a pool over the disk that has its data' refuses 'overlaps' /dev/ram1:0+2048 $M/thin1
check 'refuses a volume of a pool over the disk that says where they are' refuses 'overlaps' /dev/ram0:0+2048 $M/thin1
check 'copies to a volume of a pool from another disk' copies /dev/ram2 0 2048 $M/thin1 0

# -- loop devices between ------------------------------------------------------------------------

scene
need dmsetup dm-mod loop losetup
four_disks
arrange cp /dev/ram3 /tmp/image
disks+=(/tmp/image)
loop=
arrange attach /tmp/image -o 131072
arrange linear onfile "$loop" 0 2048
check 'sees a file through device-mapper over a loop device' refuses 'overlaps' /tmp/image:256+1024 $M/onfile
check 'copies what of the file is not below it' copies /tmp/image 0 256 $M/onfile 0
check 'copies what of the file is behind it' copies /tmp/image 2304 256 $M/onfile 512
check 'refuses a file that backs a loop device' refuses "image: .*in use.*$loop" /dev/ram0:0+8 /tmp/image
check 'refuses a loop device that device-mapper holds' \
	refuses 'in use.*held by dm-[0-9]+ \(onfile\)' /dev/ram0:0+8 "$loop"

arrange linear low /dev/ram0 0 2048
arrange attach $M/low
check 'sees a disk through a loop device over device-mapper' refuses 'overlaps' /dev/ram0:0+1024 "$loop"
check 'copies what of the disk is not below it' copies /dev/ram0 2048 1024 "$loop" 0

# A loop device claims nothing of what it stands on.
scene
need dmsetup dm-mod loop losetup ext4 mkfs.ext4
four_disks
arrange mkfs.ext4 -q /dev/ram0
arrange mount -t ext4 -o ro /dev/ram0 /mnt
arrange attach /dev/ram0
check 'refuses a loop device over a mounted disk' \
	refuses 'in use: it is /dev/ram0, too, which is mounted on /mnt;' --force /dev/ram1:0+8 "$loop"
arrange attach "$loop" -o 4096
check 'refuses a loop device over a loop device over a mounted disk' \
	refuses 'in use: .*mounted on /mnt' --force /dev/ram1:0+8 "$loop"
arrange umount /mnt
check 'copies to it once the disk is not mounted any more' copies /dev/ram1 0 8 "$loop" 0 --force

scene
need dmsetup dm-mod loop losetup
four_disks
arrange linear low /dev/ram0 0 2048
arrange attach /dev/ram0
check 'refuses a loop device over a disk that device-mapper holds' \
	refuses 'in use: .*held by' --force /dev/ram1:0+8 "$loop"
check 'refuses it where device-mapper does not map the disk, too' \
	refuses 'in use: .*held by' --force /dev/ram1:0+8 "$loop:2048"
arrange dmsetup remove low
check 'copies to it once device-mapper does not hold the disk' copies /dev/ram1 0 8 "$loop" 0

# A table's partitions may overlap, though the kernel lets nobody add such a one.
scene
need loop losetup ext4 mkfs.ext4
four_disks
overlapping() {
	{
		head -c 446 /dev/zero
		printf '%b' '\0\0\0\0\x83\0\0\0\0\x08\0\0\0\x08\0\0' # 2048+2048
		printf '%b' '\0\0\0\0\x83\0\0\0\0\x0c\0\0\0\x04\0\0' # 3072+1024
		printf '%b' '\0\0\0\0\x83\0\0\0\0\x02\0\0\0\x02\0\0' # 512+512
		head -c 16 /dev/zero
		printf '\x55\xaa'
	} >/dev/ram0
	attach /dev/ram0 -P
	waitfor "${loop}p1" && waitfor "${loop}p2" && waitfor "${loop}p3" && mkfs.ext4 -q "${loop}p1"
}
arrange overlapping
arrange mount -t ext4 -o ro "${loop}p1" /mnt
check 'refuses a partition that has sectors in common with a mounted one' \
	refuses "p2: is in use: it is ${loop}p1, too, which is mounted on /mnt;" --force /dev/ram1:0+8 "${loop}p2"
check 'copies to one that has none' copies /dev/ram1 0 8 "${loop}p3" 0
arrange umount /mnt
check 'copies to it once the other one is not mounted any more' copies /dev/ram1 0 8 "${loop}p2" 8 --force

# -- tables --------------------------------------------------------------------------------------

# The image of a disk whose blocks are larger than those of the disk that it is on.
scene
need loop losetup sfdisk
four_disks
large_table() {
	attach /dev/ram0 --sector-size 4096
	printf '%s\n' 'label: gpt' 'start=64, size=64' 'start=256, size=128' | sfdisk -q --no-tell-kernel "$loop"
	losetup -d "$loop"
}
arrange large_table
check 'refuses a table of 4096-byte blocks on a disk of 512' \
	refuses 'ram0: would overwrite its partition table \(gpt, 2 partitions\)' /dev/ram1:0+8 /dev/ram0:8
check 'refuses its second copy' \
	refuses 'ram0: would overwrite its partition table \(gpt, 2 partitions\)' /dev/ram1:0+8 /dev/ram0:4088
check 'refuses a partition of it' \
	refuses 'ram0: would overwrite partition 2 \(.*512 KiB\)' /dev/ram1:0+8 /dev/ram0:2056
check 'copies to where it has none' copies /dev/ram1 0 512 /dev/ram0 1024

# -- mounted, swap -------------------------------------------------------------------------------

scene
need dmsetup dm-mod ext4 mkfs.ext4 swapon mkswap
four_disks
arrange linear low /dev/ram0 0 4096
arrange mkfs.ext4 -q $M/low
check 'refuses a device-mapper device that holds a file system' refuses 'would overwrite.*ext4' /dev/ram1:0+2048 $M/low
arrange mkdir -p '/mnt/a place'
arrange mount -t ext4 -o ro $M/low '/mnt/a place' # so that nothing but kcopy could change it
check 'refuses a mounted device-mapper device' refuses 'low: .*in use.*mounted on /mnt/a place' /dev/ram1:0+2048 $M/low
check '--force does not help, mounted' refuses 'mounted on /mnt/a place' --force /dev/ram1:0+2048 $M/low
check 'says of a disk below a mounted device what holds it, and where it is mounted' \
	refuses 'ram0: .*in use.*held by dm-[0-9]+ \(low\).*mounted on /mnt/a place' /dev/ram1 /dev/ram0

from_mounted() {
	mount -o remount,rw $M/low
	run kcopy $M/low /dev/ram2
	assert_status 0
	assert_said 'low: .*mounted on /mnt/a place'
	assert_said 'fsfreeze'
	run kcopy --force /dev/ram0 /dev/ram3
	assert_status 0 && assert_said 'mounted on /mnt/a place'
}
check 'warns of a source that is mounted read-write, or is below what is' from_mounted
arrange umount '/mnt/a place'

mounted_elsewhere() {
	rm -f /tmp/is-mounted
	unshare -m sh -c 'mount -t ext4 -o ro /dev/mapper/low /mnt && touch /tmp/is-mounted && exec sleep 60' &
	waitfor /tmp/is-mounted
	refuses 'low: .*in use.*mounted where we cannot see it' --force /dev/ram1:0+2048 $M/low
	kill $!
	wait $! || true
}
check 'refuses what is mounted in another namespace only' mounted_elsewhere
check 'copies with --force once it is not mounted any more' copies /dev/ram1 0 2048 $M/low 0 --force
arrange mkswap $M/low
check 'refuses a device-mapper device that holds swap' refuses 'would overwrite.*swap' /dev/ram1:0+2048 $M/low
arrange swapon $M/low
check 'refuses active swap on a device-mapper device' refuses 'low: .*in use.*swap' --force /dev/ram1:0+2048 $M/low

# -- md ------------------------------------------------------------------------------------------

scene
need mdadm md-mod raid1
four_disks
arrange mdadm --create /dev/md0 --run --assume-clean --metadata=1.0 --level=1 --raid-devices=2 /dev/ram0 /dev/ram1
arrange eval 'echo 0 >/sys/block/md0/md/safe_mode_delay' # it writes that all is well a moment after a write
check 'refuses a RAID over its source' refuses 'overlaps' /dev/ram0:0+1024 /dev/md0
check 'refuses a RAID over its second member' refuses 'overlaps' /dev/ram1:0+1024 /dev/md0
check 'refuses a member of a RAID and says whose it is' refuses 'ram0: .*in use.*held by md0' /dev/ram2:0+8 /dev/ram0
check 'copies to a RAID from another disk' copies /dev/ram2 0 2048 /dev/md0 0
check 'copies within a RAID' copies /dev/md0 0 1024 /dev/md0 1024
arrange linear onmd /dev/md0 0 2048
check 'sees a disk through device-mapper over a RAID' refuses 'overlaps' /dev/ram1:0+1024 $M/onmd
arrange dmsetup remove onmd
arrange mdadm --stop /dev/md0
check 'refuses what was a member of a RAID' refuses 'would overwrite.*linux_raid_member' /dev/ram2 /dev/ram0
check 'copies over it with --force' copies /dev/ram2 0 4096 /dev/ram0 0 --force

scene
need mdadm md-mod raid0
four_disks
arrange mdadm --build /dev/md0 --run --level=0 --chunk=64 --raid-devices=2 /dev/ram0 /dev/ram1
check 'refuses a striped RAID over its source' refuses 'overlaps' /dev/ram0:0+1024 /dev/md0
check 'refuses a striped RAID over its second member' refuses 'overlaps' /dev/ram1:0+1024 /dev/md0
check 'copies to a striped RAID from another disk' copies /dev/ram2 0 4096 /dev/md0 0

# -- LVM -----------------------------------------------------------------------------------------

export LVM_SUPPRESS_FD_WARNINGS=1

# The programs of LVM, where there is no udev.
lvm_() {
	lvm "$1" --config 'devices { obtain_device_list_from_udev=0 use_devicesfile=0 scan="/dev" filter=["a|/dev/ram|","r|.*|"] }
		activation { udev_sync=0 udev_rules=0 monitoring=0 } backup { backup=0 archive=0 } global { event_activation=0 }' \
		-qq "${@:2}"
}

scene
need lvm dmsetup dm-mod dm-snapshot
four_disks
arrange lvm_ pvcreate -ff -y --metadatasize 64k --dataalignment 64k /dev/ram0 /dev/ram1
arrange lvm_ vgcreate -s 128k group /dev/ram0 /dev/ram1
arrange lvm_ lvcreate -Zn -Wn -an -l 4 -n first group /dev/ram0
arrange lvm_ lvcreate -Zn -Wn -an -l 4 -n second group /dev/ram0
arrange lvm_ vgchange -ay group
arrange waitfor $M/group-first
arrange fill $M/group-first
check 'copies from one logical volume to another of its group' copies $M/group-first 0 1024 $M/group-second 0
check 'refuses a logical volume over itself' refuses 'overlaps' $M/group-first $M/group-first
check 'refuses a logical volume on its source' refuses 'overlaps' /dev/ram0:512+1024 $M/group-first
check 'copies to a logical volume from the other disk of its group' copies /dev/ram1 2048 1024 $M/group-second 0
check 'refuses a physical volume in use' refuses 'ram0: .*in use.*held by dm-[0-9]+ \(group-' /dev/ram2 /dev/ram0
arrange fill $M/group-first
arrange lvm_ lvcreate -s -l 4 -n frozen group/first
check 'refuses a volume with a snapshot over its disk' refuses 'overlaps' /dev/ram0:512+1024 $M/group-first
check 'copies from the snapshot to a volume beside it' copies $M/group-frozen 0 1024 $M/group-second 0
arrange lvm_ vgchange -an group
check 'refuses a physical volume that is not in use' refuses 'would overwrite.*LVM2_member' /dev/ram2 /dev/ram0
check 'copies over it with --force, in full' copies /dev/ram2 0 4096 /dev/ram0 0 --force

done_checking
