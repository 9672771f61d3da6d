#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# What is refused before the first write: status 128, a message that says why, and nothing has changed.

load lib.bash

setup_test() {
	random_file source 65536
	filled_file old 65536
}

# -- usage ---------------------------------------------------------------------------------------

@test "refuses to run without operands, and with a source only" {
	refuses 'no operands; usage: kcopy \[OPTION...\] SOURCE DEST'
	refuses 'without a destination' source
	refuses 'no operands; usage: kcopy \[OPTION...\] --zero DEST' --zero
}

@test "refuses options that it does not know or understand" {
	refuses '--frobnicate' --frobnicate source new
	refuses '-X' -X source new
	refuses 'on-error' --on-error=perhaps source new
	refuses 'on-error' --on-error= source new
	refuses 'on-error' source new --on-error
}

@test "refuses a number of retries that is none" {
	local retries
	for retries in -1 +1 '' x 1x 0x10 ' 1' 1.5 1001 99999999999999999999999; do
		refuses 'retries' --retries="$retries" source new
	done
	refuses 'retries' source new --retries
}

@test "refuses a number of pages that is none" {
	local pages
	for pages in 0 -1 +1 '' x 1x 0x10 ' 1' 1.5 4294967296 99999999999999999999999; do
		refuses 'pages' --pages="$pages" source new
	done
	refuses 'pages' source new --pages
}

@test "refuses more pages than there is memory, and is not killed for it" {
	need_plain_build
	refuses 'reserve.*cannot be set aside' --pages=4294967295 source new old
	remember
	run bash -c 'ulimit -v 300000; exec "$@"' - "$KCOPY" --pages=262144 source new old
	assert_refused 'reserve.*cannot be set aside'
}

# -- specs ---------------------------------------------------------------------------------------

@test "refuses a range that is none, quotes it and marks what is wrong" {
	local spec
	for spec in :x :+ :+8 :8+ :-1 :8+-1 :8+8+8 :1,5 :0x10 :8+8x: :8++8 ': 8' ':8 ' :8+1KiB5 :1b:2; do
		remember
		run kcopy "source$spec" new
		assert_status 128
		assert_said 'source'
		assert_unchanged
	done
	refuses "'old:8\\+'.*COUNT is missing" source old:8+
	refuses "'source:\\+8'.*START is missing" source:+8 new
	refuses "'source:-8'.*no sign" source:-8 new
}

@test "refuses an empty operand, an empty place and a tag without a value" {
	refuses '' '' new
	refuses '' source ''
	refuses 'place is missing' :0+8 new
	refuses 'place is missing' source :0
	refuses 'no value' LABEL= new
	refuses 'no value' source UUID=:0
}

@test "refuses a size that is no whole number of sectors" {
	refuses '100B' source:100B new
	refuses '1KB' source:0+1KB new
	refuses '513B' source old:513B
}

@test "refuses numbers that are too large" {
	local number
	for number in 18446744073709551615 18446744073709551616 99999999999999999999999999999 9223372036854775807 \
		36028797018963968 16777216T 16384PiB 9999999999PB; do
		remember
		run kcopy "source:$number" new
		assert_status 128
		assert_unchanged
		remember
		run kcopy "source:0+$number" new
		assert_status 128
		assert_unchanged
		remember
		run kcopy source "old:$number"
		assert_status 128
		assert_unchanged
		remember
		run kcopy source "new:$number"
		assert_status 128
		assert_unchanged
	done
}

@test "refuses a count of 0, on the source and on a destination" {
	refuses 'COUNT is 0' source:0+0 new
	refuses 'COUNT is 0' source old:0+0
	refuses 'COUNT is 0' --zero old:0+0
}

@test "refuses a destination's count that differs from the source's" {
	refuses 'old.*100.*differs.*128|differs.*128' source old:0+100
	refuses 'differs' source:0+8 old:0+8 new:0+9
	refuses 'differs' source:0+1KiB old:0+1
}

@test "refuses a spec that can be read in two ways and says how to write either" {
	cp source source:8
	refuses "ambiguous.*'source:8:'.*'source:8s'" source:8 new
	refuses "ambiguous" source source:8
	cp source old:0+8
	refuses "ambiguous" source old:0+8
}

# -- sources and destinations that are not there, or not what they should be ---------------------

@test "refuses a source that does not exist" {
	refuses 'missing: .*does not exist' missing new
	refuses 'missing/source: ' missing/source new
	refuses 'source/x: ' source/x new
}

@test "refuses an empty source, and a range outside of it" {
	: >empty
	refuses 'empty: .*empty' empty new
	refuses 'source: .*128 sectors' source:128 new
	refuses 'source: .*128 sectors' source:1000 new
	refuses 'source: .*128 sectors' source:0+129 new
	refuses 'source: .*128 sectors' source:127+2 new
}

@test "refuses a destination in a directory that does not exist" {
	refuses 'missing/new: ' source missing/new
	refuses 'old/new: ' source old/new
	refuses 'new/: ' source new/
}

@test "refuses a directory, a pipe, a socket and a character device, as source and as destination" {
	need_tool perl
	mkdir directory
	mkfifo pipe
	perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => "socket", Listen => 1) or die'
	ln -s /dev/null link
	local kind place
	while read -r place kind; do
		refuses "$place: is a $kind" "$place" new
		refuses "$place: is a $kind" source "$place"
		refuses "$place: is a $kind" source new "$place" old
		refuses "$place: is a $kind" --zero "$place:0+8"
	done <<-END
		directory directory
		. directory
		/ directory
		/dev directory
		pipe pipe
		socket socket
		/dev/null character device
		/dev/zero character device
		/dev/full character device
		/dev/tty character device
		link character device
	END
	[[ -p pipe && -S socket ]]
}

@test "a pipe does not make it wait, whoever is at its other end" {
	mkfifo pipe
	refuses 'pipe' pipe new
	refuses 'pipe' source pipe
	refuses 'pipe|character' /dev/stdin new </dev/null
	exec 9<>pipe
	refuses 'pipe' pipe new
	refuses 'pipe' source pipe
	exec 9>&-
	remember
	run bash -c 'true | timeout 100 "$@"' - "$KCOPY" /dev/stdin new
	assert_refused 'pipe'
	run bash -c 'timeout 100 "$@" | cat; exit "${PIPESTATUS[0]}"' - "$KCOPY" source /dev/stdout
	assert_refused 'pipe'
}

@test "refuses a symbolic link to nothing, and one to itself" {
	ln -s nowhere dangling
	ln -s loop loop
	refuses 'dangling: .*symbolic link' source dangling
	refuses 'dangling: ' dangling new
	refuses 'loop: ' source loop
	refuses 'loop: ' loop new
	[ ! -e nowhere ]
}

@test "refuses files that may not be read or written" {
	need_nobody
	mkdir -m 777 open
	mkdir -m 755 closed
	cp source secret
	chmod 600 secret
	remember
	run kcopy_as_nobody secret open/new
	assert_refused 'secret: .*denied'
	run kcopy_as_nobody source old
	assert_refused 'old: .*denied'
	run kcopy_as_nobody source closed/new
	assert_refused 'closed/new: .*denied'
	run kcopy_as_nobody source open/new closed/new
	assert_refused 'closed/new: .*denied'
}

@test "refuses a destination that the file system holds read-only" {
	need_root
	mkdir mounted
	tmpfs_new "$scratch/mounted" 1M
	filled_file mounted/old 65536
	mount -o remount,ro "$scratch/mounted"
	refuses 'mounted/old: .*read-only' source mounted/old
	refuses 'mounted/new: .*read-only' source mounted/new
	assert_bytes mounted/old 0 65536
}

# -- slips below /dev ----------------------------------------------------------------------------

@test "never creates a file among device nodes, by whatever path" {
	need_root
	local name=kcopy-no-such-disk$$ place
	ln -s /dev devices
	ln -s "/dev/$name" dangling
	for place in "/dev/$name" "/dev/mapper/$name" "/dev/disk/by-id/$name" "devices/$name" "/dev/../dev/$name" \
		"//dev//$name" "$scratch/../../../dev/$name" "/dev/pts/../$name" "/dev/fd/../../../dev/$name" dangling; do
		refuses "$name|dangling" source "$place"
		refuses "$name|dangling" source new "$place" old
		refuses "$name|dangling" --zero "$place:0+8"
		[ ! -e "/dev/$name" ]
		[ ! -e "/dev/mapper/$name" ]
	done
	refuses 'no such device' source "/dev/$name"
	cd /dev
	remember
	run kcopy "$scratch/source" "$name"
	assert_refused 'no such device'
	run kcopy "$scratch/source" "./$name:8"
	assert_refused 'no such device'
	[ ! -e "/dev/$name" ]
}

@test "never creates a file in another mount of the device file system" {
	need_root
	grep -q devtmpfs /proc/filesystems || skip_because 'needs devtmpfs'
	mkdir devices
	mount -t devtmpfs none devices || skip_because 'cannot mount devtmpfs here'
	refuses 'no such device' source devices/kcopy-no-such-disk$$
	[ ! -e devices/kcopy-no-such-disk$$ ]
}

@test "refuses a regular file that lies among device nodes" {
	need_root
	local name=kcopy-slip$$
	filled_file "/dev/$name" 65536 || skip_because 'cannot write below /dev'
	remember
	run kcopy source "/dev/$name"
	mv "/dev/$name" "$scratch/after"
	assert_bytes after 0 65536
	assert_size after 65536
	rm after
	assert_refused 'among device nodes'
}

@test "files below /dev/shm are ordinary files" {
	[[ -d /dev/shm && $(stat -c %d /dev/shm) != $(stat -c %d /dev) && -w /dev/shm ]] || skip_because 'no /dev/shm of its own'
	local name=/dev/shm/kcopy-test$$
	run kcopy source "$name"
	local same=no
	! cmp source "$name" || same=yes
	rm -f "$name"
	assert_status 0
	[ "$same" = yes ]
}

# -- devices -------------------------------------------------------------------------------------

@test "refuses a device that is read-only, and one that is too small" {
	need_loop
	image_loop image 65536
	blockdev --setro "$loop"
	refuses "$loop: .*read-only" source "$loop"
	refuses "$loop: .*read-only" source new "$loop" old
	blockdev --setrw "$loop"
	refuses "$loop: .*too small" source "$loop:1"
	refuses "$loop: .*128 sectors" source:0+1 "$loop:128"
	refuses "$loop: .*out of range" source:0+2 "$loop:127+2"
	random_file source 66048
	refuses "$loop: .*too small" source "$loop"
	refuses "$loop: .*too small" source new "$loop" old
	refuses "$loop: .*128 sectors" --zero "$loop:0+129"
	refuses "$loop: .*128 sectors" "$loop:0+129" new
}

@test "a read-only loop device is a fine source and no destination" {
	need_loop
	loop=$(loop_new "$scratch/source" --read-only)
	refuses "$loop: .*read-only" old "$loop"
	run kcopy "$loop" new
	assert_status 0
	assert_same source 0 new 0 65536
}

@test "refuses a loop device without a file" {
	need_loop
	need_tool perl
	# One that nobody else will be given while it is unused, and that goes away again.
	local number=$((10000 + $$ % 900000))
	mknod node b 7 $number
	exec 9<node || skip_because 'no loop device of a number of our own'
	refuses 'node: ' node new
	refuses 'node: ' source node
	exec 9<&-
	perl -e 'open my $control, "+<", "/dev/loop-control" or die; ioctl $control, 0x4c81, 0 + shift' $number
	[ ! -e /sys/block/loop$number ]
}

@test "refuses regions that are not aligned to 4 KiB blocks" {
	need_loop
	image_loop image 131072 --sector-size 4096
	refuses "$loop: .*4096" source "$loop:1"
	refuses "$loop: .*4096" source:0+9 "$loop"
	refuses "$loop: .*4096" source:0+7 "$loop:8"
	refuses "$loop: .*4096" "$loop:1" new
	refuses "$loop: .*4096" "$loop:8+7" new
	refuses "$loop: .*4096" --zero "$loop:4+8"
	random_file source 65537
	refuses "$loop: .*4096" source "$loop"
}

@test "refuses a device that is mounted, its partition, and the disk of a mounted partition" {
	need_loop
	need_tool sfdisk partx mkfs.ext4
	truncate -s 24M disk.img
	local disk
	disk=$(partitions_new "$scratch/disk.img" 'start=2048, size=16384' 'start=18432, size=16384')
	mkfs.ext4 -q "${disk}p1"
	mkdir 'mounted here'
	mount -o ro "${disk}p1" 'mounted here'
	refuses "${disk}p1: .*in use: mounted on $scratch/mounted here" source "${disk}p1"
	refuses "$disk: .*in use: its partition ${disk}p1 is mounted on $scratch/mounted here" source "$disk"
	refuses "$disk: .*in use" source "$disk:40000"
	refuses "${disk}p1: .*in use" source new "${disk}p1" old
	refuses "$disk: .*in use" source new "${disk}p2" "$disk:40000"
	run kcopy source "${disk}p2"
	assert_status 0
	assert_same source 0 "${disk}p2" 0 65536
	umount 'mounted here'
	refuses "${disk}p1: would overwrite its ext4 file system" source "${disk}p1:8"
	run kcopy -f source "${disk}p1:8"
	assert_status 0
}

@test "a mounted device can be copied from" {
	need_loop
	need_tool mkfs.ext4
	truncate -s 8M disk.img
	loop=$(loop_new "$scratch/disk.img")
	mkfs.ext4 -q "$loop"
	mkdir mounted
	mount -o ro "$loop" mounted
	run kcopy "$loop" new
	assert_status 0
	# Not what the mounted file system has in memory: what is on the device.
	assert_same disk.img 0 new 0 8388608
}

@test "refuses a device that is swapped to" {
	need_loop
	need_tool mkswap swapon
	truncate -s 4M image
	loop=$(loop_new "$scratch/image")
	mkswap "$loop"
	swapon "$loop" || skip_because 'cannot swap here'
	remember
	run kcopy source "$loop"
	assert_refused "$loop: .*in use: active swap"
	swapoff "$loop"
}

# -- overlap -------------------------------------------------------------------------------------

@test "refuses a file that is source and destination, by any of its names" {
	local name
	ln -s source symlink
	ln source hardlink
	mkdir sub
	ln -s ../source sub/link
	for name in source ./source "$scratch/source" sub/../source symlink hardlink sub/link; do
		refuses "$name: .*overlaps the source" source "$name"
		refuses "$name: .*overlaps the source" source new "$name" old
		refuses "$name: .*overlaps the source" source:0+64 "$name:63"
		refuses "overlaps the source" "$name:63" source
	done
}

@test "refuses two destinations that overlap, by any of their names" {
	local name
	ln -s old symlink
	ln old hardlink
	for name in old ./old symlink hardlink; do
		refuses "$name: .*overlaps destination 1" source old "$name"
		refuses "$name: .*overlaps destination 2" source new old other "$name"
		refuses "$name: .*overlaps destination 1" source old:1 "$name:128"
		refuses "overlaps destination 1" --zero old:0+8 "$name:7+8"
	done
}

@test "refuses a new destination that is named twice" {
	refuses 'new' source new new
	refuses 'new' source new old ./new
	mkdir sub
	ln -s sub link
	refuses 'new' source sub/new link/new
}

@test "refuses a device that is source and destination, by any of its names" {
	need_loop
	local number
	image_loop image 65536
	ln -s "$loop" symlink
	number=$(lsblk -dno MAJ:MIN "$loop" | tr -d ' ')
	mknod node b "${number%:*}" "${number#*:}"
	local name
	for name in "$loop" symlink node; do
		refuses 'overlaps the source' "$loop" "$name"
		refuses 'overlaps the source' "$name" "$loop"
		refuses 'overlaps the source' "$loop:0+64" "$name:63"
		refuses 'overlaps destination 1' source:0+64 "$loop" "$name:63"
	done
}

@test "refuses a partition and its disk when they overlap" {
	need_loop
	need_tool sfdisk partx
	local disk
	filled_file disk.img $((8 << 20))
	disk=$(partitions_new "$scratch/disk.img" 'start=2048, size=4096' 'start=6144, size=4096')
	refuses 'overlaps the source' "${disk}p1" "$disk"
	refuses 'overlaps the source' "${disk}p1:100+100" "$disk:2247"
	refuses 'overlaps the source' "$disk:0+2049" "${disk}p1"
	refuses 'overlaps the source' "$disk:6142+2" "${disk}p1:4094"
	refuses 'overlaps destination 1' source "$disk:2000" "${disk}p1"
	refuses 'overlaps destination 1' source "${disk}p1" "$disk:2175"
	refuses 'overlaps destination 1' source "${disk}p2" "$disk:6200"
	run kcopy "$disk:0+2048" "${disk}p1"
	assert_status 0
}

# -- all of it at once ---------------------------------------------------------------------------

@test "prints every problem of every operand in one go" {
	mkdir directory
	mkfifo pipe
	ln -s nowhere dangling
	remember
	run kcopy missing directory pipe dangling missing/new /dev/null
	assert_refused 'missing: ' 'directory: ' 'pipe: ' 'dangling: ' 'missing/new: ' '/dev/null: '
	run kcopy source:0+8 old:0+9 directory:5 source:4 old:8+ new
	assert_refused 'differs' 'directory: ' 'overlaps the source' "'old:8\\+'"
	assert_said 'nothing was written'
}

@test "one bad destination among good ones leaves the good ones alone and makes no file" {
	mkdir directory
	local i names
	for ((i = 0; i < 4; i++)); do
		names=(new1 new2 old new3)
		names[i]=directory
		refuses 'directory: ' source "${names[@]}"
	done
	filled_file short 100
	refuses 'directory: ' source short new1 directory
	assert_size short 100
}

@test "a destination that cannot be made so long is refused, and nothing is left of the others" {
	filled_file short 100
	remember
	run bash -c 'ulimit -f 8; exec "$@"' - "$KCOPY" source:0+1 new:1000 short:8
	assert_refused 'new: .*too large'
	run bash -c 'ulimit -f 8; exec "$@"' - "$KCOPY" source:0+1 short:8 new1 new2:1000
	assert_status 128
	assert_size short 100
	assert_bytes short 0 100
	[[ ! -e new1 && ! -e new2 ]]
}

@test "refuses a destination that standard output or error goes to as well" {
	remember
	run bash -c '"$1" source old 2>>old' - "$KCOPY"
	[[ $status -eq 128 ]]
	run bash -c '"$1" source new old >>old' - "$KCOPY"
	assert_status 128
	assert_said 'old: standard output goes there too'
	[[ ! -e new ]]
	# Only our own complaint came to be in it.
	assert_bytes old 0 65536
}

@test "refuses a loop device whose backing file standard error goes to" {
	need_loop
	local loop
	image_loop disk 65536
	# shellcheck disable=SC2016
	run bash -c '"$1" source "$2" 2<>disk' - "$KCOPY" "$loop"
	assert_status 128
	# Our own complaint, and nothing else.
	assert_bytes disk 4096 61440
}

@test "refuses loop devices over one another, and what begins within a sector, when they overlap" {
	need_loop
	local low high odd
	filled_file disk $((4 * 1048576))
	low=$(loop_new "$scratch/disk")
	high=$(loop_new "$low" -o 1048576)
	odd=$(loop_new "$scratch/disk" -o 100 --sizelimit 4096)
	refuses "$high: destination 1 overlaps the source, $low" "$low:2048+8" "$high"
	refuses "disk: destination 1 overlaps the source, $high" "$high:0+8" disk:2048
	refuses "$high: destination 2 overlaps destination 1, $low" source "$low:2048" "$high:100"
	refuses "disk: destination 1 overlaps the source, $odd" "$odd:0+8" disk:8
	run kcopy source "$low:0" "$high:100"
	assert_status 0
	assert_same source 0 disk 0 65536
	assert_same source 0 disk $((1048576 + 51200)) 65536
}

@test "refuses a loop device and its backing file, in every order" {
	need_loop
	local loop part
	filled_file disk $((16 * 1048576))
	loop=$(partitions_new "$scratch/disk" 'start=2048, size=8192')
	part=${loop}p1
	refuses "disk: destination 1 overlaps the source, $loop" "$loop" disk
	refuses "$loop: destination 1 overlaps the source, disk" disk "$loop"
	refuses "$part: destination 1 overlaps the source, disk" disk:4096+8 "$part:2048"
	refuses "disk: destination 2 overlaps destination 1, $part" source "$part" disk:2048
	# Next to each other is no overlap, but the file is in use.
	refuses "disk: is in use: it backs $loop" source "$part" disk:16384
	assert_not_said overlaps
}

@test "refuses a regular file among the device nodes through a symbolic link, too" {
	need_root
	local file
	file=$(mktemp /dev/kcopy-test.XXXXXX)
	ln -s "$file" link
	remember
	run kcopy source link
	rm -f "$file"
	assert_refused 'among device nodes'
}

@test "refuses to zero from the end of a device or file on" {
	need_loop
	local loop
	image_loop disk 65536
	refuses "$loop: has 128 sectors; none at 128" --zero "$loop:128"
	refuses 'old: has 128 sectors; none at 1000' --zero old:1000
}
