#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# Pre-flight: what would be lost, who uses a destination or writes to the source, and which names are one thing. Every
# refusal is compared to the letter, and what it left alone to the byte.

load lib.bash

# The UUIDs of what the tests make end in one digit each; so do the names of their loop devices differ.
uuid=2b1f9a04-77c3-4d5e-8a90-01020304050

setup_test() {
	random_file source 65536
}

force="--force to do it anyway"

# -- what a region holds -------------------------------------------------------------------------

# file_system NAME BYTES [ARGUMENT...]: an image of an ext4 on which nothing happens by itself.
file_system() {
	truncate -s "$2" "$1"
	mkfs.ext4 -q -F -O ^has_journal -E lazy_itable_init=0 "${@:3}" "$1"
}

# image_mounted NAME PLACE: a loop device over a new file NAME, mounted read-only; $loop. What kcopy calls it is $what.
image_mounted() {
	file_system "$1" 1M -U "${uuid}7"
	what="ext4 file system, 1 MiB, UUID ${uuid}7"
	loop=$(loop_new "$scratch/$1")
	mkdir -p "$2"
	mount -o ro "$loop" "$2"
}

# image_of TYPE: a file of that name and of 2 MiB, written by TYPE's own tool, or, where that does not run without its
# kernel part, as that would. What kcopy calls it is $what.
image_of() {
	local id=$uuid loop
	truncate -s 2M "$1"
	case $1 in
	ext4)
		mkfs.ext4 -q -F -L backup -U "${id}1" "$1"
		what="ext4 file system \"backup\", 2 MiB, UUID ${id}1"
		;;
	xfs)
		# So small it makes one only for its own tests.
		truncate -s 16M "$1"
		TEST_DIR=1 TEST_DEV=1 QA_CHECK_FS=1 mkfs.xfs -q -L 'x f s' -m uuid="${id}2" "$1"
		truncate -s 2M "$1"
		what="xfs file system \"x f s\", 2 MiB, UUID ${id}2"
		;;
	btrfs)
		truncate -s 24M "$1"
		mkfs.btrfs -q -M -L pool -U "${id}3" "$1" >/dev/null
		truncate -s 2M "$1"
		what="btrfs file system \"pool\", 2 MiB, UUID ${id}3"
		;;
	vfat)
		mkfs.vfat -n STICK -i 0A0B0C0D "$1" >/dev/null
		what='vfat file system "STICK", 2 MiB, UUID 0A0B-0C0D'
		;;
	swap)
		chmod 600 "$1"
		mkswap -q -L exchange -U "${id}4" "$1" 2>/dev/null
		what="swap \"exchange\", 2 MiB, UUID ${id}4"
		;;
	crypto_LUKS)
		cryptsetup luksFormat -q --type luks1 --uuid "${id}5" --pbkdf-force-iterations 1000 "$1" - <<<secret 2>/dev/null
		what="crypto_LUKS encrypted volume, 2 MiB, UUID ${id}5"
		;;
	LVM2_member)
		loop=$(loop_new "$scratch/$1")
		LVM_SUPPRESS_FD_WARNINGS=1 pvcreate -q -q -y --norestorefile -u 5kcopy-0000-1111-2222-3333-4444-555555 \
			--devices "$loop" "$loop"
		losetup -d "$loop"
		what='LVM2_member, 2 MiB, UUID 5kcopy-0000-1111-2222-3333-4444-555555'
		;;
	linux_raid_member)
		raid_superblock | dd of="$1" bs=4096 seek=1 conv=notrunc status=none
		what="linux_raid_member \"host:7\", 2 MiB, UUID ${id}6"
		;;
	esac
}

# raid_superblock: md's, of version 1.2, as mdadm writes it; a mirror's first half.
raid_superblock() {
	perl -e '
		my $uuid = pack "H32", shift =~ tr/-//dr;
		my $block = pack "V4 a16 a32 Q< V2 Q< V2 x32 Q<4 V2 a16 x4 x4 Q<3 x4 V x32",
			0xa92b4efc, 1, 0, 0, $uuid, "host:7", 0, 1, 0, 4096, 0, 2, 2048, 4096, 8, 0, 0, 0, $uuid,
			0, 1, 0, 0;
		my $sum = 0;
		$sum += $_ for unpack "V*", $block;
		substr($block, 216, 4) = pack "V", ($sum & 0xffffffff) + ($sum >> 32);
		print $block, "\0" x (4096 - length $block);' "${uuid}6"
}

@test "names what a file holds: type, label, size and UUID; --force overwrites it" {
	need_tool mkfs.ext4 mkfs.xfs mkfs.btrfs mkfs.vfat mkswap cryptsetup
	local types=(ext4 xfs btrfs vfat swap crypto_LUKS) type refused=() told=()
	for type in "${types[@]}"; do
		image_of "$type"
		refused+=("$type: would overwrite its $what; $force")
		told+=("$type: overwriting its $what")
	done
	refuses_saying "${refused[@]}" -- source "${types[@]}" new
	run kcopy --force source "${types[@]}" new
	assert_status 0
	for type in "${types[@]}"; do
		assert_said "^kcopy: $type: 128 sectors"
		assert_same source 0 "$type" 0 65536
		assert_size "$type" 2097152
	done
	assert_lines "${told[@]}" "${types[@]/%/: 128 sectors (64 KiB) written and flushed}" \
		'new: 128 sectors (64 KiB) written and flushed'
}

@test "names what a device holds, RAID and LVM members too; --force overwrites it" {
	need_loop
	need_tool mkfs.ext4 mkfs.xfs mkfs.btrfs mkfs.vfat mkswap cryptsetup pvcreate perl
	local type loops=() refused=() told=()
	for type in ext4 xfs btrfs vfat swap crypto_LUKS LVM2_member linux_raid_member; do
		image_of "$type"
		loop=$(loop_new "$scratch/$type")
		loops+=("$loop")
		refused+=("$loop: would overwrite its $what; $force")
		told+=("$loop: overwriting its $what")
	done
	filled_file good 1048576
	refuses_saying "${refused[@]}" -- source new "${loops[@]}" good
	run kcopy --force --zero "${loops[@]}"
	assert_status 0
	assert_lines "${told[@]}" "${loops[@]/%/: 4096 sectors (2 MiB) written and flushed}"
	for loop in "${loops[@]}"; do
		assert_zeros "$loop" 0 2097152
	done
}

# zfs_label FILE OFFSET MAGIC BYTES: uberblocks in a label of 256 KiB there, every BYTES one.
zfs_label() {
	local slot
	for ((slot = $2 + 131072; slot < $2 + 262144; slot += $4)); do
		# shellcheck disable=SC2059
		printf "$3" | dd of="$1" bs=512 oflag=seek_bytes seek=$slot conv=notrunc status=none
	done
}

@test "a ZFS member is known by any of its labels, in either byte order, also with large blocks and in a partition" {
	need_loop
	local label little='\014\261\272\000\000\000\000\000' big='\000\000\000\000\000\272\261\014'
	# Two labels at the start, two before the last multiple of a label's length; libblkid believes in none below 64 MiB.
	for label in 0 256 67072 67328; do
		rm -f image
		truncate -s 67684K image
		zfs_label image $((label * 1024)) "$little" 16384
		refuses 'image: would overwrite its zfs_member' --zero image:0+8
		rm -f image
		truncate -s 67684K image
		zfs_label image $((label * 1024)) "$big" 32768
		refuses 'image: would overwrite its zfs_member' --zero image:0+8
	done
	truncate -s 68M disk
	loop=$(partitions_new "$scratch/disk" 'start=2048, size=133120')
	zfs_label disk $((1048576 + 262144)) "$little" 8192
	fresh "$loop"
	refuses "$loop: would overwrite ${loop}p1 .zfs_member" --zero "$loop:2048+8"
	# Fewer uberblocks than libblkid believes in.
	rm image
	truncate -s 67684K image
	zfs_label image 0 "$little" 65536
	run kcopy --zero image:0+8
	assert_status 0
}

@test "what has a wrong checksum is lost as well" {
	need_loop
	need_tool pvcreate
	image_of LVM2_member
	printf x | dd of=LVM2_member bs=1 seek=1000 conv=notrunc status=none
	refuses_saying "LVM2_member: would overwrite its ${what/member/member, damaged}; $force" -- source LVM2_member
}

@test "a label cannot break out of its line, whatever is in it" {
	need_tool mkfs.ext4
	truncate -s 1M image
	mkfs.ext4 -q -F -O ^has_journal -U "${uuid}1" -L $'a"b\nc\xff\e[1m\\' image
	local label="a\"b\\nc\\xff\\x1b[1m\\\\"
	refuses_saying "image: would overwrite its ext4 file system \"$label\", 1 MiB, UUID ${uuid}1; $force" -- source image
	[ "${#lines[@]}" = 2 ]
}

# disk_new NAME: an image of 3 MiB with a GPT: 1 is empty, 2 is an ext4, 3 is empty and ends well before the second
# table.
disk_new() {
	filled_file "$1" 3145728
	printf '%s\n' 'label: gpt' 'first-lba: 34' 'start=512, size=1024' 'start=2048, size=2048' 'start=4608, size=512' |
		sfdisk -q --no-tell-kernel "$1"
	file_system part 1M -L root -U "${uuid}1"
	dd if=part of="$1" bs=1M seek=1 conv=notrunc status=none
	rm part
}

# zeros FILE SECTOR+COUNT...: writes them with another tool.
zeros() {
	local file=$1 range
	shift
	for range; do
		dd if=/dev/zero of="$file" seek="${range%+*}" count="${range#*+}" conv=notrunc status=none
	done
}

# try_regions DISK NAME: of the disk or image DISK, whose partitions' names begin with NAME; the file is image.
try_regions() {
	local disk=$1 free=(34+478 512+1024 1536+512 4608+512 5120+900)
	local table="$disk: would overwrite its partition table (gpt, 3 partitions); $force"
	local one="$disk: would overwrite ${2}1 (nothing known in it, 512 KiB); $force"
	local two="$disk: would overwrite ${2}2 (ext4 \"root\", 1 MiB, UUID ${uuid}1); $force"
	local three="$disk: would overwrite ${2}3 (nothing known in it, 256 KiB); $force"
	# All of it; both tables; ends and parts of partitions; all of one that is full, and of one with a sector more.
	refuses_saying "$table" "$one" "$two" "$three" -- --zero "$disk"
	refuses_saying "$table" "$table" "$table" "$table" "$table" -- \
		--zero "$disk:0+1" "$disk:1+1" "$disk:33+1" "$disk:6111+1" "$disk:6143+1"
	refuses_saying "$one" "$one" "$one" "$two" "$two" "$two" "$three" -- --zero \
		"$disk:511+2" "$disk:1000+8" "$disk:1535+1" "$disk:2048+1" "$disk:3000+8" "$disk:4095+1" "$disk:4608+511"
	refuses_saying "$two" "$three" -- --zero "$disk:512+1024" "$disk:2048+2048" "$disk:4608+513" new:0+8
	# What nobody has, and empty partitions that are meant.
	cp image expected
	zeros expected "${free[@]}"
	run kcopy --zero "${free[@]/#/$disk:}"
	assert_status 0
	assert_not_said 'overwrit'
	assert_same image 0 expected 0 3145728
	zeros expected 400+3000 6143+1
	run kcopy --force --zero "$disk:400+3000" "$disk:6143+1"
	assert_status 0
	assert_said "$disk: overwriting ${2}2 \(ext4"
	assert_said "$disk: overwriting its partition table"
	assert_same image 0 expected 0 3145728
}

@test "a region of an image loses what it touches: tables, partitions and parts; gaps and empty partitions are free" {
	need_tool sfdisk mkfs.ext4
	disk_new image
	try_regions image 'partition '
}

@test "a region of a disk loses what it touches: tables, partitions and parts; gaps and empty partitions are free" {
	need_loop
	need_tool sfdisk partx mkfs.ext4
	disk_new image
	loop=$(loop_new "$scratch/image" --partscan)
	partitions_add "$loop"
	try_regions "$loop" "${loop}p"
}

@test "a partition of its own name loses what is in it, whichever part is written" {
	need_loop
	need_tool sfdisk partx mkfs.ext4
	disk_new image
	loop=$(loop_new "$scratch/image" --partscan)
	partitions_add "$loop"
	refuses_saying "${loop}p2: would overwrite its ext4 file system \"root\", 1 MiB, UUID ${uuid}1; $force" -- \
		--zero "${loop}p1:100+8" "${loop}p2:2000+8" "${loop}p3"
	run kcopy --zero "${loop}p1:100+8" "${loop}p3"
	assert_status 0
	run kcopy --force --zero "${loop}p2:2000+8"
	assert_status 0
	assert_zeros image $((4048 * 512)) 4096
}

@test "logical partitions are partitions, and what links them is lost with any of the rest" {
	need_loop
	need_tool sfdisk partx mkfs.ext4
	local disk name image
	filled_file image 4194304
	printf '%s\n' 'label: dos' 'start=512, size=1024' 'start=2048, size=5120, type=5' 'start=2560, size=1024' \
		'start=4608, size=2048' | sfdisk -q --no-tell-kernel image
	file_system part 1M -L root -U "${uuid}1"
	dd if=part of=image seek=4608 conv=notrunc status=none
	rm part
	cp image other
	loop=$(loop_new "$scratch/other" --partscan)
	partitions_add "$loop"
	for disk in image "$loop"; do
		name='partition '
		image=image
		[[ $disk == image ]] || { name=${loop}p image=other; }
		local table="$disk: would overwrite its partition table (dos, 4 partitions); $force"
		local one="$disk: would overwrite ${name}1 (nothing known in it, 512 KiB); $force"
		local extended="$disk: would overwrite ${name}2 (an extended partition, 2.5 MiB); $force"
		local five="$disk: would overwrite ${name}5 (nothing known in it, 512 KiB); $force"
		local six="$disk: would overwrite ${name}6 (ext4 \"root\", 1 MiB, UUID ${uuid}1); $force"
		refuses_saying "$table" "$one" "$extended" "$five" "$six" -- --zero "$disk"
		# The table, a link, a sector between, the link behind 5, the first sector of 5, a part of 6.
		refuses_saying "$table" "$extended" "$extended" "$extended" "$five" "$six" -- --zero \
			"$disk:0+1" "$disk:2048+1" "$disk:2300+1" "$disk:3584+1" "$disk:2560+1" "$disk:5000+8"
		refuses_saying "$extended" "$five" "$six" -- --zero "$disk:2559+1025" "$disk:4608+2048"
		cp "$image" expected
		zeros expected 1+511 2560+1024 7168+1024
		run kcopy --zero "$disk:1+511" "$disk:2560+1024" "$disk:7168+1024"
		assert_status 0
		assert_same "$image" 0 expected 0 4194304
	done
}

@test "an empty partition table is one, and so is one that is left at the end of the disk" {
	need_tool sfdisk
	local label
	for label in gpt dos; do
		filled_file image 1048576
		echo "label: $label" | sfdisk -q --no-tell-kernel image
		refuses_saying "image: would overwrite its partition table ($label, 0 partitions); $force" -- source image
	done
	disk_new image
	zeros image 0+34
	refuses_saying "image: would overwrite partition 2 (ext4 \"root\", 1 MiB, UUID ${uuid}1); $force" \
		"image: would overwrite its partition table (gpt, 3 partitions); $force" -- --zero image:2048+8 image:6143+1
}

@test "of a disk that is a file system and has a table, all is named" {
	need_tool sfdisk mkfs.ext4
	file_system image 1M -L both -U "${uuid}1"
	printf '%s\n' 'label: dos' 'start=1024, size=512' | sfdisk -q --no-tell-kernel --wipe never image
	local whole="image: would overwrite its ext4 file system \"both\", 1 MiB, UUID ${uuid}1; $force"
	refuses_saying "$whole" "image: would overwrite its partition table (dos, 1 partition); $force" -- source image
	refuses_saying "$whole" "image: would overwrite partition 1 (nothing known in it, 256 KiB); $force" -- \
		source image:1024
}

# How large it is cannot be told: the region's size it is not.
@test "what begins where the region begins is found without a table" {
	need_tool mkfs.ext4
	local found="image: would overwrite the ext4 file system \"raw\", UUID ${uuid}1 at sector 2048; $force"
	file_system part 1M -L raw -U "${uuid}1"
	filled_file image 4194304
	dd if=part of=image bs=1M seek=1 conv=notrunc status=none
	refuses_saying "$found" -- part image:2048
	refuses_saying "$found" -- source image:2048
	run kcopy source image:1920 image:4096
	assert_status 0
	assert_same part 0 image 1048576 1048576
}

# A signature at the region's start is lost, however little of what it stands for is.
@test "what begins where a short region begins is found, too" {
	need_tool mkfs.xfs mkfs.ext4 mkswap cryptsetup mkfs.vfat mkfs.btrfs
	local type sectors
	for type in ext4 vfat xfs crypto_LUKS swap btrfs; do
		image_of "$type"
		: >image
		truncate -s 4M image
		dd if="$type" of=image bs=1M seek=1 conv=notrunc status=none
		sectors=8
		[[ $type != btrfs ]] || sectors=136
		refuses "^kcopy: image: would overwrite the $type .*at sector 2048; --force" --zero "image:2048+$sectors"
	done
}

# Its tables are blocks 0 to 5 and 1019 to 1023; a block is 8 sectors.
disk_4k_new() {
	filled_file image 4194304
	loop=$(loop_new "$scratch/image" --sector-size 4096 --partscan)
	printf '%s\n' 'label: gpt' 'first-lba: 6' 'start=64, size=128' 'start=256, size=256' |
		sfdisk -q --no-tell-kernel "$loop"
}

@test "a disk of 4 KiB blocks, its table and partitions" {
	need_loop
	need_tool sfdisk partx mkfs.ext4
	disk_4k_new
	partitions_add "$loop"
	mkfs.ext4 -q -O ^has_journal -L four -U "${uuid}4" "${loop}p2"
	local table="$loop: would overwrite its partition table (gpt, 2 partitions); $force"
	local one="$loop: would overwrite ${loop}p1 (nothing known in it, 512 KiB); $force"
	local two="$loop: would overwrite ${loop}p2 (ext4 \"four\", 1 MiB, UUID ${uuid}4); $force"
	refuses_saying "$table" "$one" "$two" -- --zero "$loop"
	refuses_saying "$table" "$table" "$one" "$two" -- --zero "$loop:40+8" "$loop:8152+8" "$loop:1528+8" "$loop:2048+2048"
	refuses_saying "${loop}p2: would overwrite its ext4 file system \"four\", 1 MiB, UUID ${uuid}4; $force" -- \
		--zero "${loop}p2"
	cp image expected
	zeros expected 512+1024 4096+2048
	run kcopy --zero "$loop:512+1024" "$loop:4096+2048"
	assert_status 0
	assert_same image 0 expected 0 4194304
}

@test "an image of a disk of 4 KiB blocks has its table and partitions as well" {
	need_loop
	need_tool sfdisk
	disk_4k_new
	losetup -d "$loop"
	refuses 'image: would overwrite its partition table' --zero image
	refuses 'image: would overwrite its partition table' --zero image:8184+8
	refuses 'image: would overwrite partition 2' --zero image:2048+8
}

# libblkid takes its table for none, so nobody knows where in it something is.
@test "an image of a disk that was cut off is not written anywhere without --force" {
	need_tool sfdisk
	: >image
	truncate -s 8M image
	printf '%s\n' 'label: gpt' 'start=2048, size=4096' 'start=6144, size=4096' | sfdisk -q image
	truncate -s 4M image
	refuses 'image: would overwrite its partition table' --zero image:2100+8
	refuses 'image: would overwrite its partition table' --zero image:7000+8
}

@test "every problem of every destination in one go: in use, full, too small, missing; no file is made" {
	need_loop
	need_tool sfdisk mkfs.ext4
	local good small full
	disk_new image
	image_of ext4
	full="ext4: would overwrite its $what; $force"
	image_loop good.img 1048576
	good=$loop
	image_loop small.img 1048576
	small=$loop
	image_mounted busy mounted
	refuses_saying "missing/new: cannot be created: its directory: No such file or directory" \
		"$loop: is in use: mounted on $scratch/mounted; release it first (umount $scratch/mounted)" \
		"$small: is too small: 24 KiB (48 sectors) from sector 2000 on, 64 KiB (128 sectors) are needed" \
		"image: would overwrite its partition table (gpt, 3 partitions); $force" \
		"$loop: would overwrite its $what" "$full" -- \
		source new "$good" image "$loop" missing/new "$small:2000" ext4 new2
}

@test "mkfs through a partition's node is seen through the disk, whose old content is in the page cache" {
	need_loop
	need_tool sfdisk partx mkfs.ext4
	filled_file image 3145728
	printf '%s\n' 'label: gpt' 'start=2048, size=2048' | sfdisk -q --no-tell-kernel image
	loop=$(loop_new "$scratch/image" --partscan)
	partitions_add "$loop"
	# A page stays for as long as the device is open; and nothing of this looks at the device itself but kcopy.
	exec 8<"$loop"
	cat <&8 >/dev/null
	mkfs.ext4 -q -O ^has_journal -L fresh -U "${uuid}1" "${loop}p1"
	cp image expected
	run kcopy --zero "$loop:2048+2048"
	exec 8<&-
	assert_status 128
	assert_lines "$loop: would overwrite ${loop}p1 (ext4 \"fresh\", 1 MiB, UUID ${uuid}1); $force" 'nothing was written'
	assert_same image 0 expected 0 3145728
}

@test "what cannot be read is not known, and not overwritten without --force" {
	need_loop
	need_nbd
	filled_file image 1048576
	loop=$(bad_start_new "$scratch/bad" "$scratch/image" 65536)
	run kcopy source "$loop" new
	assert_status 128
	assert_lines "$loop: what would be overwritten is not known, as it cannot be read: Input/output error; $force" \
		'nothing was written'
	assert_bytes image 0 1048576
	[[ ! -e new ]]
	run kcopy --force source "$loop"
	assert_status 0
	assert_lines "$loop: overwriting what it holds unseen: it cannot be read: Input/output error" \
		"$loop: 128 sectors (64 KiB) written and flushed"
	assert_same source 0 image 0 65536
	assert_bytes image 65536 $((1048576 - 65536))
}

# What others have on the machine may be told as well.
@test "what an ordinary user cannot look at is named" {
	need_nobody
	need_loop
	chmod 644 source
	filled_file secret 65536
	chmod 622 secret
	filled_file closed 65536
	chmod 600 closed
	image_loop image 1048576
	chmod 600 "$loop"
	remember
	run kcopy_as_nobody source secret closed "$loop" new
	assert_refused '^kcopy: closed: cannot be opened for writing: Permission denied$' \
		"^kcopy: $loop: cannot be opened for writing: Permission denied$" \
		"^kcopy: secret: what would be overwritten is not known, as it cannot be read: Permission denied; $force$" \
		'^kcopy: new: cannot be created in its directory: Permission denied$'
}

# -- who uses it ---------------------------------------------------------------------------------

@test "a mounted device is not written, --force or not, and where it is mounted is said" {
	need_loop
	need_tool mkfs.ext4
	local place=$'a \\b\nc'
	image_mounted image "$place"
	local busy="is in use: mounted on $scratch/a \\\\b\\nc; release it first (umount $scratch/a \\\\b\\nc)"
	# Nothing is said of --force: it does not do it.
	refuses_saying "$loop: $busy" "$loop: would overwrite its $what" -- source "$loop"
	refuses_saying "$loop: $busy" -- --force source new "$loop:1000"
	refuses_saying "$loop: $busy" -- --force --lock=no --zero "$loop"
	ln -s "$loop" link
	refuses_saying "link: $busy" -- --force source link
	# Of several places any is good, as long as it is one.
	mkdir second
	mount --bind "$place" second
	umount "$place"
	refuses_saying "$loop: is in use: mounted on $scratch/second; release it first (umount $scratch/second)" -- --force source "$loop"
	umount second
	run kcopy --force source "$loop"
	assert_status 0
	assert_same source 0 image 0 65536
}

@test "a mounted partition keeps its disk, and what is mounted its partitions" {
	need_loop
	need_tool sfdisk partx mkfs.ext4
	disk_new image
	loop=$(loop_new "$scratch/image" --partscan)
	partitions_add "$loop"
	mkdir mounted
	mount -o ro "${loop}p2" mounted
	refuses_saying "${loop}p2: is in use: mounted on $scratch/mounted; release it first (umount $scratch/mounted)" -- --force source "${loop}p2"
	refuses_saying "$loop: is in use: its partition ${loop}p2 is mounted on $scratch/mounted; release it first (umount $scratch/mounted)" -- \
		--force source "$loop:512" "${loop}p1:500"
	umount mounted
	# The file system itself, by another name of its place.
	local other
	other=$(loop_new "$scratch/image" -o 1048576 --sizelimit 1048576)
	mount -o ro "$other" mounted
	refuses_saying "${loop}p2: is in use: it is $other, too, which is mounted on $scratch/mounted; release it first (umount $scratch/mounted)" -- \
		--force source "${loop}p2"
	refuses_saying "$loop: is in use: it is $other, too, which is mounted on $scratch/mounted; release it first (umount $scratch/mounted)" -- \
		--force source "$loop:4000"
	run kcopy source "${loop}p1" "$loop:1536"
	assert_status 0
	assert_same source 0 image $((512 * 512)) 65536
	assert_same source 0 image $((1536 * 512)) 65536
	umount mounted
}

@test "a device that is mounted in another mount namespace is in use" {
	need_loop
	need_tool mkfs.ext4 unshare
	local sibling
	file_system image 1M
	loop=$(loop_new "$scratch/image")
	sibling=$(loop_new "$scratch/image")
	mkdir mounted
	# shellcheck disable=SC2016
	setsid unshare -m sh -c 'mount -o ro "$1" mounted && : >ready && exec sleep 1000' - "$loop" 3>&- 4>&- &
	pid=$!
	started+=("-$pid")
	poll 30 test -e ready || skip_because 'no mount namespaces here'
	refuses_saying "$loop: is in use: held by another program, or mounted where we cannot see it; release it first" -- \
		--force source "$loop"
	refuses_saying "$sibling: is in use: it is $loop, too, which is held by another program; release it first" -- \
		--force source "$sibling"
	release "$pid"
	run kcopy --force source "$sibling"
	assert_status 0
}

@test "a sibling over the same file is in use if the other is mounted" {
	need_loop
	need_tool mkfs.ext4
	local sibling
	file_system image 1M
	truncate -s 2M image
	loop=$(loop_new "$scratch/image" --sizelimit 1048576)
	sibling=$(loop_new "$scratch/image")
	mkdir mounted
	mount -o ro "$loop" mounted
	refuses_saying "$sibling: is in use: it is $loop, too, which is mounted on $scratch/mounted; release it first (umount $scratch/mounted)" -- \
		--force source "$sibling:8"
	losetup -d "$sibling"
	# What has no sector in common with it is free.
	sibling=$(loop_new "$scratch/image" -o 1048576)
	run kcopy source "$sibling"
	assert_status 0
	assert_same source 0 image 1048576 65536
}

@test "active swap is not written: neither the device nor what backs it" {
	need_loop
	need_tool mkswap swapon
	local sibling
	image_of swap
	loop=$(loop_new "$scratch/swap")
	sibling=$(loop_new "$scratch/swap")
	swapon "$loop" || skip_because 'cannot swap here'
	refuses_saying "$loop: is in use: active swap; release it first (swapoff $loop)" -- --force source "$loop"
	refuses_saying "$sibling: is in use: it is $loop, too, which is active swap; release it first (swapoff $loop)" -- \
		--force source "$sibling"
	losetup -d "$sibling"
	refuses_saying "swap: is in use: it backs $loop; release it first" -- --force source swap
	swapoff "$loop"
}

@test "a swap file is not written while it is active, by no name of it" {
	need_loop
	need_tool mkfs.ext4 mkswap swapon
	local name
	file_system image 8M
	loop=$(loop_new "$scratch/image")
	mkdir mounted
	mount -o noatime "$loop" mounted # reading for the comparison must not change the image
	filled_file mounted/swap 1048576 0
	chmod 600 mounted/swap
	mkswap -q mounted/swap
	ln mounted/swap mounted/hard
	ln -s mounted/swap link
	sync -f mounted
	swapon mounted/swap || skip_because 'cannot swap to a file here'
	for name in mounted/swap mounted/hard link; do
		refuses_saying "$name: is in use: active swap; release it first (swapoff $name)" -- --force source "$name" "mounted/new"
	done
	swapoff mounted/swap
	run kcopy --force source link
	assert_status 0
	assert_same source 0 mounted/hard 0 65536
}

@test "a file that backs a loop device is not written, by no name and in no part" {
	need_loop
	image_loop image 1048576
	ln image hard
	ln -s image link
	mkdir directory
	local name
	for name in image hard link; do
		refuses_saying "$name: is in use: it backs $loop; release it first" -- --force source "$name:4096" new
	done
	# Its name is gone; the file is not.
	mv image directory/renamed
	refuses_saying "directory/renamed: is in use: it backs $loop; release it first" -- --force source directory/renamed
	rm directory/renamed
	refuses_saying "hard: is in use: it backs $loop; release it first (losetup -d)" -- --force source hard
	losetup -d "$loop"
	run kcopy --force source hard
	assert_status 0
}

@test "a disk or partition that backs a loop device is not written where that is" {
	need_loop
	need_tool sfdisk partx mkfs.ext4
	local disk middle part top place
	disk_new image
	disk=$(loop_new "$scratch/image" --partscan)
	partitions_add "$disk"
	# Over a partition, over a part of the disk (its second partition), and over that.
	part=$(loop_new "${disk}p1")
	middle=$(loop_new "$disk" -o 1048576 --sizelimit 1048576)
	top=$(loop_new "$middle")
	refuses_saying "$disk: is in use: it backs $part; release it first (losetup -d)" -- --force source "$disk:1408"
	refuses_saying "${disk}p1: is in use: it backs $part; release it first (losetup -d)" -- --force source "${disk}p1:800"
	remember
	run kcopy --force source "$disk:1921" "${disk}p2:1900"
	assert_refused "$disk: is in use: it backs $middle; release" "$disk: is in use: it backs $top; release" \
		"${disk}p2: is in use: it backs $middle; release"
	mkdir mounted
	mount -o ro "$top" mounted
	remember
	run kcopy --force source "$disk:2100" "$middle"
	assert_refused "$disk: is in use: it backs $top, mounted on $scratch/mounted; release" \
		"$middle: is in use: it backs $top, mounted on $scratch/mounted; release"
	# Before, between and behind all of it.
	cp image expected
	for place in 384 1920 4096; do
		dd if=source of=expected seek="$place" conv=notrunc status=none
	done
	run kcopy --force source "$disk:384" "$disk:1920" "$disk:4096"
	assert_status 0
	assert_same image 0 expected 0 3145728
	umount mounted
}

@test "a file that another program has locked by fcntl is not written" {
	need_tool perl
	[[ $(uname -m) == *64* ]] || skip_because 'needs a 64-bit machine'
	local type
	filled_file image 65536
	# F_SETLK, which names its process; F_OFD_SETLK, as qemu's, which names none. F_RDLCK and F_WRLCK.
	for type in 0 1; do
		record_lock image 6 "$type"
		refuses_saying "image: is in use: it is locked by perl (process $pid); release it first" -- --force source image
		record_unlock
		record_lock image 37 "$type"
		refuses_saying 'image: is in use: it is locked by another program; release it first' -- \
			--force --lock=no source image new
		record_unlock
	done
	run kcopy image new
	assert_status 0
	run kcopy source image
	assert_status 0
}

@test "a device that another kcopy writes is in use" {
	need_loop
	need_nbd
	local disk
	filled_file image 4194304
	random_file large 4194304
	gate_new slow image 1048576
	disk=$loop
	kcopy_start --pages=512 large "$disk"
	gate_wait slow
	run kcopy --force source "$disk:8"
	assert_status 128
	assert_lines "$disk: is locked by kcopy (process $pid); wait for it, or let kcopy wait: --lock=yes" \
		'nothing was written'
	gate_open slow
	kcopy_wait
	assert_status 0
	assert_same large 0 image 0 4194304
}

# -- who writes to the source --------------------------------------------------------------------

# warning NAME WHAT: as it is printed
warning() {
	echo "warning: $1: $2 and may change while it is read: the copy may not be consistent; copy a snapshot, or keep its" \
		"writers away until kcopy ends (fsfreeze -f, mount -o remount,ro)"
}

# copies_saying LINE... -- ARGUMENT...: with --quiet it says nothing else, and status 0
copies_saying() {
	local said=()
	while [[ $1 != -- ]]; do
		said+=("$1")
		shift
	done
	shift
	run kcopy --quiet "$@"
	assert_status 0 || return
	if ((${#said[@]})); then
		assert_lines "${said[@]}"
	else
		assert_silent
	fi
}

@test "a source that is mounted read-write gets a warning, by all its names, --quiet or not; read-only gets none" {
	need_loop
	need_tool mkfs.ext4
	local sibling
	file_system image 1M
	loop=$(loop_new "$scratch/image")
	sibling=$(loop_new "$scratch/image")
	mkdir 'mounted here'
	mount "$loop" 'mounted here'
	run kcopy "$loop" new1
	assert_status 0
	assert_lines "$(warning "$loop" "is mounted on $scratch/mounted here")" \
		'new1: 2048 sectors (1 MiB) written and flushed'
	copies_saying "$(warning "$loop" "is mounted on $scratch/mounted here")" -- "$loop:2047" new2
	copies_saying "$(warning "$sibling" "$loop is mounted on $scratch/mounted here")" -- "$sibling" new3
	copies_saying "$(warning image "$loop is mounted on $scratch/mounted here")" -- image new4
	mount -o remount,ro 'mounted here'
	copies_saying -- "$loop" new5
	copies_saying -- image new6
	# A read-only view of what others write.
	mount -o remount,rw 'mounted here'
	mkdir second
	mount --bind 'mounted here' second
	mount -o remount,bind,ro second
	umount 'mounted here'
	copies_saying "$(warning "$loop" "is mounted on $scratch/second")" -- "$loop" new7
	umount second
	copies_saying -- "$loop" new8
}

@test "a source of which a part is mounted read-write gets a warning if that part is copied" {
	need_loop
	need_tool sfdisk partx mkfs.ext4
	disk_new image
	loop=$(loop_new "$scratch/image" --partscan)
	partitions_add "$loop"
	mkdir mounted
	mount "${loop}p2" mounted
	copies_saying "$(warning "$loop" "${loop}p2 is mounted on $scratch/mounted")" -- "$loop" new1
	copies_saying "$(warning "$loop" "${loop}p2 is mounted on $scratch/mounted")" -- "$loop:4095+1" new2
	copies_saying "$(warning image "${loop}p2 is mounted on $scratch/mounted")" -- image:2048+1 new3
	copies_saying "$(warning "${loop}p2" "is mounted on $scratch/mounted")" -- "${loop}p2:5+1" new4
	copies_saying -- "$loop:0+2048" new5
	copies_saying -- "$loop:4096" new6
	copies_saying -- image:4096 new7
	copies_saying -- "${loop}p1" new8
}

@test "a source that is active swap gets a warning" {
	need_loop
	need_tool mkswap swapon
	image_of swap
	loop=$(loop_new "$scratch/swap")
	swapon "$loop" || skip_because 'cannot swap here'
	# Nothing of fsfreeze: that is no advice for swap.
	local advice='and changes while it is read: the copy is of no use; swapoff it first'
	copies_saying "warning: $loop: is active swap $advice" -- "$loop:0+8" new1
	copies_saying "warning: swap: $loop is active swap $advice" -- swap:0+8 new2
	swapoff "$loop"
}

# -- names of one thing --------------------------------------------------------------------------

@test "a file through a bind mount of its directory is the same file" {
	need_root
	mkdir one two
	cp source one/file
	mount --bind one two || skip_because 'cannot mount here'
	refuses_saying 'two/file: destination 1 overlaps the source, one/file; nothing is copied onto itself' -- \
		one/file two/file
	refuses_saying 'one/file: destination 2 overlaps destination 1, two/file' -- source two/file:8 one/file:100
	refuses 'two/new: ' source one/new two/new
	run kcopy one/file:0+64 two/file:64
	assert_status 0
	assert_same source 0 one/file 32768 32768
}

@test "files that share their storage are different files: a reflink is written, and the other keeps what it has" {
	need_loop
	need_tool mkfs.btrfs mkfs.xfs
	local type done=0
	random_file data 1048576
	for type in btrfs xfs; do
		grep -qw "$type" /proc/filesystems || continue
		truncate -s 300M "$type"
		"mkfs.$type" -q "$type" >/dev/null
		loop=$(loop_new "$scratch/$type")
		mkdir "mounted-$type"
		mount "$loop" "mounted-$type" || continue
		cp data "mounted-$type/one"
		cp --reflink=always "mounted-$type/one" "mounted-$type/two" || continue
		run kcopy "mounted-$type/one:0+128" "mounted-$type/two:64"
		assert_status 0
		assert_same data 0 "mounted-$type/one" 0 1048576
		assert_same data 0 "mounted-$type/two" 32768 65536
		assert_same data 98304 "mounted-$type/two" 98304 $((1048576 - 98304))
		done=$((done + 1))
		umount "mounted-$type"
		losetup -d "$loop"
	done
	((done)) || skip_because 'no file system that has reflinks'
}

@test "a device by a link to it, and by the link of a partition, is the same device" {
	need_loop
	need_tool sfdisk partx
	local disk id=by-id/kcopy-1:0
	filled_file image 4194304
	printf '%s\n' 'label: gpt' 'start=2048, size=2048' | sfdisk -q --no-tell-kernel image
	disk=$(loop_new "$scratch/image" --partscan)
	partitions_add "$disk"
	mkdir by-id
	ln -s "$disk" "$id"
	ln -s "${disk}p1" "$id-part1"
	refuses_saying "$id: destination 1 overlaps the source, $id-part1; nothing is copied onto itself" \
		"$id: would overwrite ${disk}p1 (nothing known in it, 1 MiB)" -- "$id-part1:0+8" "$id:2048"
	refuses_saying "$id-part1: destination 2 overlaps destination 1, $disk" \
		"$disk: would overwrite ${disk}p1 (nothing known in it, 1 MiB); $force" -- source "$disk:2140" "$id-part1"
	run kcopy "$id:2048+8" "$id-part1:8"
	assert_status 0
	run kcopy source "$id:4096" "$disk:6000" "$id-part1:100"
	assert_status 0
	assert_same source 0 image $((4096 * 512)) 65536
	assert_same source 0 image $((6000 * 512)) 65536
	assert_same source 0 image $((2148 * 512)) 65536
}

@test "loop devices three deep are what is at their bottom" {
	need_loop
	need_tool sfdisk partx
	local low mid top
	filled_file image 2097152
	printf '%s\n' 'label: gpt' 'first-lba: 34' 'start=512, size=2048' | sfdisk -q --no-tell-kernel image
	low=$(loop_new "$scratch/image" --partscan)
	partitions_add "$low"
	mid=$(loop_new "${low}p1" -o 262144)
	top=$(loop_new "$mid" -o 131072)
	# Sector 0 of the top is 256 of the middle, 768 of the partition, 1280 of the disk and of the file.
	refuses_saying "$top: destination 1 overlaps the source, $mid; nothing is copied onto itself" -- "$mid:256+1" "$top"
	refuses_saying "$top: destination 1 overlaps the source, ${low}p1; nothing is copied onto itself" -- \
		"${low}p1:768+1" "$top"
	refuses_saying "$top: destination 1 overlaps the source, $low; nothing is copied onto itself" -- "$low:1200+81" "$top"
	refuses_saying "$top: destination 1 overlaps the source, image; nothing is copied onto itself" -- image:1280+1 "$top"
	refuses "image: destination 1 overlaps the source, $top; nothing" "$top:7+1" image:1287
	refuses_saying "$top: destination 2 overlaps destination 1, $mid" -- source "$mid:260" "$top"
	run kcopy image:1272+8 "$top"
	assert_status 0
	run kcopy "$top:0+8" "$top:8" new
	assert_status 0
	assert_bytes image $((1280 * 512)) 8192
}
