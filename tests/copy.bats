#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# What is copied where: files, devices, partitions, ranges. Every test compares bytes.

load lib.bash

# Longer than some chunks, and no whole number of chunks, pages or 4 KiB blocks.
readonly ODD=$((3 * 1048576 + 5 * 512))

# -- files ---------------------------------------------------------------------------------------

@test "copies a file to a new file of the same length" {
	random_file source $ODD
	run kcopy source copy
	assert_status 0
	assert_size copy $ODD
	assert_same source 0 copy 0 $ODD
}

@test "copies a single sector" {
	random_file source 512
	run kcopy source copy
	assert_status 0
	assert_size copy 512
	assert_same source 0 copy 0 512
}

@test "copies to any number of files from one to eight" {
	local n i names=()
	random_file source $ODD
	for n in 1 2 3 4 5 6 7 8; do
		names=()
		for ((i = 1; i <= n; i++)); do
			names+=("copy$i")
		done
		rm -f copy*
		run kcopy source "${names[@]}"
		assert_status 0
		for ((i = 1; i <= n; i++)); do
			assert_size "copy$i" $ODD
			assert_same source 0 "copy$i" 0 $ODD
		done
	done
}

@test "copies to 32 files, and refuses 33 without creating any" {
	local i names=()
	random_file source 65536
	for ((i = 1; i <= 32; i++)); do
		names+=("copy$i")
	done
	run kcopy source "${names[@]}"
	assert_status 0
	for ((i = 1; i <= 32; i++)); do
		assert_same source 0 "copy$i" 0 65536
	done
	rm -f copy*
	refuses '33 destinations' source "${names[@]}" copy33
}

@test "copies a range, and the destination's count may be left out or repeated" {
	random_file source $ODD
	run kcopy source:3+1000 first:7 second:0+1000 third
	assert_status 0
	assert_size first $((1007 * 512))
	assert_zeros first 0 $((7 * 512))
	assert_same source $((3 * 512)) first $((7 * 512)) $((1000 * 512))
	assert_same source $((3 * 512)) second 0 $((1000 * 512))
	assert_same source $((3 * 512)) third 0 $((1000 * 512))
}

@test "a source's range without a count goes to its end" {
	random_file source $ODD
	run kcopy source:6000 copy
	assert_status 0
	assert_size copy $((ODD - 6000 * 512))
	assert_same source $((6000 * 512)) copy 0 $((ODD - 6000 * 512))
}

@test "writes an existing file in place and leaves everything around the region alone" {
	local inode
	random_file source 100000
	truncate -s $((196 * 512)) source
	filled_file copy $ODD
	ln copy link
	inode=$(stat -c %i copy)
	run kcopy source copy:11
	assert_status 0
	[ "$(stat -c %i copy)" = "$inode" ]
	assert_size copy $ODD
	assert_bytes copy 0 $((11 * 512))
	assert_same source 0 link $((11 * 512)) $((196 * 512))
	assert_bytes copy $((207 * 512)) $((ODD - 207 * 512))
}

@test "an existing file that is too short grows to the region's end, with zeros in the gap" {
	random_file source 8192
	filled_file copy 1000
	run kcopy source copy:100
	assert_status 0
	assert_size copy $((51200 + 8192))
	assert_bytes copy 0 1000
	assert_zeros copy 1000 $((51200 - 1000))
	assert_same source 0 copy 51200 8192
}

@test "a new file's mode comes from the umask, an existing file keeps its mode" {
	random_file source 4096
	umask 027
	run kcopy source copy
	assert_status 0
	[ "$(stat -c %a copy)" = 640 ]
	umask 0
	run kcopy source copy2
	assert_status 0
	[ "$(stat -c %a copy2)" = 666 ]
	run kcopy source copy
	assert_status 0
	[ "$(stat -c %a copy)" = 640 ]
}

@test "pads a source's last partial sector with zeros and says so" {
	local bytes
	for bytes in 1 511 513 $((ODD + 100)); do
		rm -f source copy
		random_file source "$bytes"
		run kcopy source copy
		assert_status 0
		assert_said "source: .*$bytes bytes.*padded with $((512 - bytes % 512)) zero bytes"
		assert_size copy $(((bytes + 511) / 512 * 512))
		assert_same source 0 copy 0 "$bytes"
		assert_zeros copy "$bytes" $((512 - bytes % 512))
	done
}

# On a disk, direct I/O brings a whole sector; a tmpfs brings no more than there is. With one page, the memory of
# the last sector has held other data before.
@test "pads with zeros what a file system leaves as it was" {
	random_file source $((ODD + 100))
	memory_dir
	cp source "$memory/source"
	run kcopy --pages=1 "$memory/source" copy
	assert_status 0
	assert_same source 0 copy 0 $((ODD + 100))
	assert_zeros copy $((ODD + 100)) 412
}

@test "the padding ends with its sector: what an existing destination has behind it stays" {
	random_file source 1000
	filled_file copy 8192
	run kcopy source copy:1
	assert_status 0
	assert_bytes copy 0 512
	assert_same source 0 copy 512 1000
	assert_zeros copy 1512 24
	assert_bytes copy 1536 $((8192 - 1536))
}

@test "no word of padding when the last partial sector is not copied" {
	random_file source 1100
	run kcopy source:0+2 copy
	assert_status 0
	assert_not_said 'padded'
	assert_size copy 1024
	assert_same source 0 copy 0 1024
}

@test "a hole in the source overwrites what the destination held with zeros" {
	random_file source 1048576
	truncate -s 3M source
	filled_file copy 3145728
	run kcopy source copy
	assert_status 0
	assert_same source 0 copy 0 3145728
}

@test "follows symbolic links, of the source and of a destination" {
	random_file source 65536
	filled_file copy 65536
	ln -s source source-link
	ln -s copy copy-link
	run kcopy source-link copy-link
	assert_status 0
	[ -L copy-link ]
	assert_same source 0 copy 0 65536
}

@test "options may stand anywhere, and -- ends them" {
	random_file source 4096
	run kcopy source -q -- copy --verbose
	assert_status 0
	assert_silent
	assert_same source 0 copy 0 4096
	assert_same source 0 ./--verbose 0 4096
}

@test "one page of memory is enough, and any other number" {
	local pages
	random_file source $ODD
	for pages in 1 2 3 255 256 257 511 513 5000; do
		rm -f first second
		run kcopy --pages="$pages" source first second
		assert_status 0
		assert_same source 0 first 0 $ODD
		assert_same source 0 second 0 $ODD
	done
}

@test "two regions of one file that do not overlap can be source and destination" {
	random_file file 1048576
	cp file before.copy
	run kcopy file:0+100 file:100
	assert_status 0
	assert_same before.copy 0 file 0 51200
	assert_same before.copy 0 file 51200 51200
	assert_same before.copy 102400 file 102400 $((1048576 - 102400))
}

@test "a file may be several destinations that do not overlap" {
	random_file source 65536
	: >copy
	run kcopy source copy:0 copy:128
	assert_status 0
	assert_same source 0 copy 0 65536
	assert_same source 0 copy 65536 65536
}

@test "copies as an ordinary user, with what that user may" {
	need_nobody
	mkdir -m 777 open
	random_file source 65536
	run kcopy_as_nobody source open/copy
	assert_status 0
	assert_same source 0 open/copy 0 65536
	[ "$(stat -c %u open/copy)" = 65534 ]
}

@test "writes a file that it may write but not read" {
	need_nobody
	random_file source 65536
	filled_file copy 131072
	chmod 622 copy
	remember
	run kcopy_as_nobody source copy
	assert_refused 'copy: what would be overwritten is not known.*--force'
	run kcopy_as_nobody --force source copy
	assert_status 0
	assert_same source 0 copy 0 65536
	assert_bytes copy 65536 65536
}

# -- zeros ---------------------------------------------------------------------------------------

@test "--zero writes zeros to exactly the region of every destination" {
	filled_file first $ODD
	filled_file second $ODD
	run kcopy --zero first:3+1001 second:1+1001
	assert_status 0
	assert_bytes first 0 1536
	assert_zeros first 1536 $((1001 * 512))
	assert_bytes first $((1004 * 512)) $((ODD - 1004 * 512))
	assert_bytes second 0 512
	assert_zeros second 512 $((1001 * 512))
	assert_bytes second $((1002 * 512)) $((ODD - 1002 * 512))
}

@test "--zero without a count goes to the end of the file" {
	filled_file first $ODD
	run kcopy -z first:5
	assert_status 0
	assert_size first $ODD
	assert_bytes first 0 2560
	assert_zeros first 2560 $((ODD - 2560))
}

@test "--zero with a count creates a file" {
	run kcopy --zero first:0+4001
	assert_status 0
	assert_size first $((4001 * 512))
	assert_zeros first 0 $((4001 * 512))
}

@test "--zero on a device, a partition and a device of 4 KiB blocks" {
	need_loop
	need_tool sfdisk partx
	local disk first second
	image_loop first.img 4194304
	first=$loop
	image_loop second.img 4194304 --sector-size 4096
	second=$loop
	filled_file disk.img 8388608
	disk=$(partitions_new "$scratch/disk.img" 'start=2048, size=4096' 'start=6144, size=4096')
	run kcopy --zero "$first:8+4096" "$second:16+4096" "${disk}p1"
	assert_status 0
	assert_bytes "$first" 0 4096
	assert_zeros "$first" 4096 2097152
	assert_bytes "$first" $((4096 + 2097152)) $((4194304 - 4096 - 2097152))
	assert_bytes "$second" 0 8192
	assert_zeros "$second" 8192 2097152
	assert_bytes "$second" $((8192 + 2097152)) $((4194304 - 8192 - 2097152))
	assert_zeros "${disk}p1" 0 2097152
	assert_bytes "${disk}p2" 0 2097152
}

# -- devices -------------------------------------------------------------------------------------

@test "copies a whole device to a larger one and leaves the rest of that alone" {
	need_loop
	local source
	random_file source.img $((ODD + 3 * 512))
	source=$(loop_new "$scratch/source.img")
	image_loop copy.img 4194304
	run kcopy "$source" "$loop"
	assert_status 0
	assert_same source.img 0 "$loop" 0 $((ODD + 3 * 512))
	assert_bytes "$loop" $((ODD + 3 * 512)) $((4194304 - ODD - 3 * 512))
}

@test "copies a range of a device to a range of another, to the sector" {
	need_loop
	local source
	random_file source.img 4194304
	source=$(loop_new "$scratch/source.img")
	image_loop copy.img 4194304
	run kcopy "$source:1+4097" "$loop:3"
	assert_status 0
	assert_bytes "$loop" 0 1536
	assert_same source.img 512 "$loop" 1536 $((4097 * 512))
	assert_bytes "$loop" $((4100 * 512)) $((4194304 - 4100 * 512))
}

@test "copies a device to a file and the file back to a device" {
	need_loop
	local source
	random_file source.img $ODD
	source=$(loop_new "$scratch/source.img")
	run kcopy "$source" image
	assert_status 0
	assert_size image $ODD
	image_loop copy.img 4194304
	run kcopy image "$loop"
	assert_status 0
	assert_same source.img 0 "$loop" 0 $ODD
}

@test "copies a file of a partial sector to a device" {
	need_loop
	random_file source 70001
	image_loop copy.img 1048576
	run kcopy source "$loop:1"
	assert_status 0
	assert_bytes "$loop" 0 512
	assert_same source 0 "$loop" 512 70001
	assert_zeros "$loop" $((512 + 70001)) $((137 * 512 - 70001))
	assert_bytes "$loop" $((138 * 512)) $((1048576 - 138 * 512))
}

@test "clones a partition with a file system to partitions and a file, and touches no neighbour" {
	need_loop
	need_tool sfdisk partx mkfs.ext4 e2fsck
	local source copy other
	truncate -s 24M source.img
	source=$(partitions_new "$scratch/source.img" 'start=2048, size=16384' 'start=18432, size=16384')
	mkfs.ext4 -q -L clone-me "${source}p2"
	filled_file copy.img $((24 << 20))
	copy=$(partitions_new "$scratch/copy.img" 'start=2048, size=16384' 'start=18432, size=16384')
	filled_file other.img $((24 << 20))
	other=$(partitions_new "$scratch/other.img" 'start=2048, size=16384')
	run kcopy "${source}p2" "${copy}p1" "${other}p1" image
	assert_status 0
	local place
	for place in "${copy}p1" "${other}p1" image; do
		assert_same "${source}p2" 0 "$place" 0 $((16384 * 512))
		e2fsck -fn "$place"
	done
	assert_bytes "${copy}p2" 0 $((16384 * 512))
	assert_bytes "$other" $((18432 * 512)) $((8 << 20))
	sfdisk -q --verify "$copy"
}

@test "a partition and a part of its disk that do not overlap can be written together" {
	need_loop
	need_tool sfdisk partx
	local disk
	random_file source 65536
	filled_file disk.img $((8 << 20))
	disk=$(partitions_new "$scratch/disk.img" 'start=2048, size=4096' 'start=6144, size=4096')
	run kcopy source "${disk}p1" "$disk:10240" "${disk}p2:1000" "$disk:12000"
	assert_status 0
	assert_same source 0 "${disk}p1" 0 65536
	assert_same source 0 "$disk" $((10240 * 512)) 65536
	assert_same source 0 "${disk}p2" 512000 65536
	assert_same source 0 "$disk" $((12000 * 512)) 65536
	assert_bytes "${disk}p1" 65536 $((4096 * 512 - 65536))
}

@test "two regions of one device can be source and destination" {
	need_loop
	random_file image 1048576
	cp image before.copy
	loop=$(loop_new "$scratch/image")
	run kcopy "$loop:0+1000" "$loop:1000"
	assert_status 0
	assert_same before.copy 0 "$loop" 0 512000
	assert_same before.copy 0 "$loop" 512000 512000
	assert_same before.copy 1024000 "$loop" 1024000 $((1048576 - 1024000))
}

@test "eight destinations of every kind: devices, partitions, 4 KiB blocks, files old and new" {
	need_loop
	need_tool sfdisk partx
	local source disk places place
	random_file source.img $((3 << 20))
	source=$(loop_new "$scratch/source.img")
	image_loop one.img $((4 << 20))
	places=("$loop")
	image_loop two.img $((3 << 20)) --direct-io=on
	places+=("$loop")
	image_loop three.img $((4 << 20)) --sector-size 4096
	places+=("$loop")
	filled_file disk.img $((12 << 20))
	disk=$(partitions_new "$scratch/disk.img" 'start=2048, size=8192' 'start=10240, size=8192')
	places+=("${disk}p2" "${disk}p1")
	filled_file old $((4 << 20))
	filled_file short 100
	places+=(old short new)
	run kcopy "$source" "${places[@]}"
	assert_status 0
	for place in "${places[@]}"; do
		assert_same source.img 0 "$place" 0 $((3 << 20))
	done
	assert_bytes one.img $((3 << 20)) $((1 << 20))
	assert_bytes old $((3 << 20)) $((1 << 20))
	assert_size short $((3 << 20))
	assert_size new $((3 << 20))
}

@test "devices of 4 KiB blocks: from, to and between them" {
	need_loop
	local source
	random_file source.img $((3 << 20))
	source=$(loop_new "$scratch/source.img" --sector-size 4096)
	[ "$(blockdev --getss "$source")" = 4096 ]
	image_loop copy.img $((4 << 20)) --sector-size 4096 --direct-io=on
	run kcopy "$source:8+6000" "$loop:16" file
	assert_status 0
	assert_bytes "$loop" 0 8192
	assert_same source.img 4096 "$loop" 8192 $((6000 * 512))
	assert_bytes "$loop" $((8192 + 6000 * 512)) $(((4 << 20) - 8192 - 6000 * 512))
	assert_size file $((6000 * 512))
	assert_same source.img 4096 file 0 $((6000 * 512))
	run kcopy file:5+4096 "$loop:0"
	assert_status 0
	assert_same file 2560 "$loop" 0 $((4096 * 512))
}

@test "devices of 4 KiB blocks work with one page of memory" {
	need_loop
	local source
	random_file source.img 65536
	source=$(loop_new "$scratch/source.img" --sector-size 4096)
	image_loop copy.img 65536 --sector-size 4096
	run kcopy --pages=1 "$source" "$loop"
	assert_status 0
	assert_same source.img 0 "$loop" 0 65536
}

@test "a file on a file system whose direct I/O wants 4 KiB takes any range of sectors" {
	need_loop
	need_tool mkfs.ext4
	truncate -s 32M disk.img
	loop=$(loop_new "$scratch/disk.img" --sector-size 4096)
	mkfs.ext4 -q "$loop"
	mkdir mounted
	mount "$loop" mounted
	random_file source $ODD
	cp source mounted/source
	filled_file mounted/copy $((4 << 20))
	run kcopy source:1+4097 mounted/copy:3
	assert_status 0
	assert_bytes mounted/copy 0 1536
	assert_same source 512 mounted/copy 1536 $((4097 * 512))
	assert_bytes mounted/copy $((4100 * 512)) $(((4 << 20) - 4100 * 512))
	run kcopy mounted/source:3+4099 mounted/new:1 new:5
	assert_status 0
	assert_same source 1536 mounted/new 512 $((4099 * 512))
	assert_same source 1536 new 2560 $((4099 * 512))
}

@test "files on a tmpfs and on FUSE" {
	need_loop
	need_nbd
	tmpfs_new "$scratch/small" 8M
	random_file source $ODD
	truncate -s 4M image
	nbd_file "$scratch/served" file "$scratch/image"
	run kcopy source small/copy served
	assert_status 0
	assert_same source 0 small/copy 0 $ODD
	assert_same source 0 image 0 $ODD
	run kcopy served small/copy copy
	assert_status 0
	assert_same image 0 copy 0 $((4 << 20))
	assert_same image 0 small/copy 0 $((4 << 20))
}

# -- tags ----------------------------------------------------------------------------------------

@test "finds devices by LABEL= and UUID=" {
	need_loop
	need_tool mkfs.ext4 blkid
	local uuid label=kcopy$$ copy
	uuid=$(</proc/sys/kernel/random/uuid)
	truncate -s 8M source.img
	loop=$(loop_new "$scratch/source.img")
	mkfs.ext4 -q -L "$label" -U "$uuid" "$loop"
	run kcopy "LABEL=$label" first
	assert_status 0
	assert_same source.img 0 first 0 $((8 << 20))
	run kcopy "UUID=$uuid:2+100" second
	assert_status 0
	assert_same source.img 1024 second 0 51200

	random_file data 4096
	refuses "LABEL=$label \($loop\): would overwrite its ext4" data "LABEL=$label:16"
	run kcopy -f data "LABEL=$label:16"
	assert_status 0
	assert_same data 0 "$loop" 8192 4096

	truncate -s 8M copy.img
	copy=$(loop_new "$scratch/copy.img")
	mkfs.ext4 -q -L "$label" "$copy"
	blockdev --flushbufs "$copy"
	refuses "not unique" "LABEL=$label" third
	refuses "not unique" data "LABEL=$label"
	refuses "no device" LABEL=kcopy-no-such-label third
}

@test "finds partitions by PARTUUID= and PARTLABEL=" {
	need_loop
	need_tool sfdisk partx blkid
	local uuid label=part$$
	uuid=$(</proc/sys/kernel/random/uuid)
	random_file source 4096
	filled_file disk.img $((8 << 20))
	loop=$(partitions_new "$scratch/disk.img" "start=2048, size=4096, uuid=$uuid, name=$label" 'start=6144, size=4096')
	[ "$(blkid -p -s PART_ENTRY_NAME -o value "${loop}p1")" = "$label" ] || skip_because 'libblkid does not see partitions here'
	run kcopy source "PARTUUID=$uuid:8"
	assert_status 0
	assert_same source 0 "${loop}p1" 4096 4096
	run kcopy source "PARTLABEL=$label:64"
	assert_status 0
	assert_same source 0 "${loop}p1" 32768 4096
}

@test "two kcopies into one file: one of them, the other is refused" {
	need_loop
	need_nbd
	local loop
	filled_file image 4194304
	random_file source 4194304
	gate_new slow image 1048576
	filled_file shared 4194304
	kcopy_start --pages=512 source "$loop" shared
	gate_wait slow
	run kcopy source shared
	assert_status 128
	assert_said 'shared: is in use: it is locked by kcopy \(process [0-9]+\)'
	gate_open slow
	kcopy_wait
	assert_status 0
	assert_same source 0 shared 0 4194304
	run kcopy source shared
	assert_status 0
}

@test "two ranges of one file, new and old, are written together" {
	random_file source 65536
	filled_file old 10000
	run kcopy source old:1000 old:0
	assert_status 0
	assert_same source 0 old 0 65536
	assert_same source 0 old 512000 65536
	assert_size old 577536
}

@test "a dash is no pipe, and no file unless it is spelt as one" {
	random_file source 1024
	run kcopy source -
	assert_status 128
	assert_said "a file of that name is ./-"
	[[ ! -e ./- ]]
	run kcopy source ./-
	assert_status 0
	assert_same source 0 ./- 0 1024
}

# cached FILE: pages of it that are in the page cache.
cached() {
	fincore -b -n -r -o PAGES "$1"
}

# cached_at_last FILE: the same, when what was read ahead has come.
cached_at_last() {
	local last=-1 now
	now=$(cached "$1")
	while ((now != last)); do
		last=$now
		sleep 0.3
		now=$(cached "$1")
	done
	echo "$now"
}

@test "what of a source file is in the page cache is taken from there; the copy neither fills nor evicts it" {
	need_tool fincore strace
	need_plain_build
	strace -o /dev/null true 2>/dev/null || skip_because 'nothing may be traced here'
	local before after
	random_file source 16777216
	sync source
	dd if=source iflag=nocache count=0 status=none
	(($(cached source) == 0)) || skip_because 'this file system keeps what it has in its cache'
	# Nothing is cached: nothing is taken from there, and nothing is left there.
	strace -f -o trace "$KCOPY" -q source cold || fail 'cold'
	[[ -z $(grep -F 'preadv2(' trace) ]]
	assert_same source 0 cold 0 16777216
	dd if=source iflag=nocache count=0 status=none
	# The middle is, in part.
	dd if=source of=/dev/null bs=4096 skip=300 count=2400 status=none
	before=$(cached_at_last source)
	((before >= 2400 && before < 4096))
	strace -f -o trace "$KCOPY" -q source warm || fail 'warm'
	grep -q 'preadv2(' trace && grep -q RWF_NOWAIT trace # on two lines, if other threads are traced between
	after=$(cached source)
	# The kernel may want some back at any time.
	((after <= before && after > before / 2)) || fail "$before pages were cached, $after are now"
	assert_same source 0 warm 0 16777216
}

@test "a cached source that lacks a few pages is not prepared for many requests" {
	need_tool fincore strace
	need_plain_build
	strace -o /dev/null true 2>/dev/null || skip_because 'nothing may be traced here'
	local pages=$((112 * 256)) try after
	random_file source $((112 << 20))
	sync source
	for try in 1 2 3; do
		dd if=source of=/dev/null bs=1M status=none
		dd if=source iflag=nocache bs=4096 skip=1000 count=16 of=/dev/null status=none
		dd if=source iflag=nocache bs=4096 skip=2600 count=16 of=/dev/null status=none
		after=$(cached source)
		((after < pages)) || skip_because 'this file system keeps what it has in its cache'
		strace -f -e trace=io_setup,preadv2 -o trace "$KCOPY" -q source copy
		# The kernel may want some back at any time; then once more.
		((after < pages - 100 || $(cached source) < after)) || break
	done
	((try < 3 || $(cached source) == after)) || skip_because 'what is cached does not stay'
	grep -q 'preadv2(' trace
	(($(grep -c 'io_setup(' trace) <= 1)) # the destination's
	assert_same source 0 copy 0 $((112 << 20))
}

@test "what was written to a source file and is not on the disk yet is copied" {
	random_file source 3000000
	sync source
	printf changed | dd of=source bs=1 seek=1500000 conv=notrunc status=none
	run kcopy source copy
	assert_status 0
	[[ $(dd if=copy bs=1 skip=1500000 count=7 status=none) == changed ]]
	assert_same source 0 copy 0 3000000
}

# Two loop devices of 128 MiB, $source and $target, over direct I/O.
loop_pair() {
	random_file source-image $((128 << 20))
	truncate -s $((128 << 20)) target-image
	source=$(loop_new "$scratch/source-image" --direct-io=on) || return
	target=$(loop_new "$scratch/target-image" --direct-io=on) || return
	[[ $(cat /sys/block/"${source#/dev/}"/loop/dio) == 1 ]] || skip_because 'this file system has no direct I/O'
}

@test "what a device takes at once is given to it without a thread of its own" {
	need_loop
	need_tool strace
	need_plain_build
	strace -o /dev/null true 2>/dev/null || skip_because 'nothing may be traced here'
	local source target
	loop_pair
	strace -f -e trace=io_submit -o trace "$KCOPY" -q "$source" "$target"
	cmp source-image target-image
	# The last 96 MiB may be done in another way.
	(($(grep -c RWF_NOWAIT trace) >= 40))
	(($(grep RWF_NOWAIT trace | cut -d ' ' -f 1 | sort -u | wc -l) == 1))
	# With a timeout for those that hang, each has its thread.
	strace -f -e trace=io_submit -o trace "$KCOPY" -q --force --stall-timeout=60 "$source" "$target"
	[[ -z $(grep -F RWF_NOWAIT trace) ]]
}

@test "what cannot be had at once is waited for by the device's thread" {
	need_loop
	need_tool strace
	need_plain_build
	strace -o /dev/null true 2>/dev/null || skip_because 'nothing may be traced here'
	local source target queue
	loop_pair
	# So few numbers for requests that the kernel says EAGAIN of some, and then of all requests that it does not know NOWAIT.
	queue=/sys/block/${target#/dev/}/queue
	echo mq-deadline >"$queue/scheduler" && echo 4 >"$queue/nr_requests"
	strace -f -e trace=io_submit,io_getevents -o trace "$KCOPY" -q "$source" "$target"
	cmp source-image target-image
	grep -q RWF_NOWAIT trace
	grep 'res=-EAGAIN\|res=-11' trace >waited || true
	fill_bytes target-image 0 $((128 << 20)) 125
	strace -f -e trace=io_submit -e inject=io_submit:error=EOPNOTSUPP:when=4+ -o trace "$KCOPY" -q --force "$source" "$target"
	cmp source-image target-image
	fill_bytes target-image 0 $((128 << 20)) 125
	strace -f -e trace=io_submit -e inject=io_submit:error=EAGAIN:when=3+7 -o trace "$KCOPY" -q --force "$source" "$target"
	cmp source-image target-image
}
