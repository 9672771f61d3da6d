#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# --sparse: holes are not read, zeros are not sent, and whatever stood there, what is read back is the source.

load lib.bash

readonly MIB=1048576

# data FILE START BYTES: random bytes.
data() {
	head -c "$3" /dev/urandom | dd of="$1" bs=64K oflag=seek_bytes seek="$2" conv=notrunc iflag=fullblock status=none
}

# A file of 32 MiB and 100 bytes: 5 MiB of data in three places, the last with its end, between holes.
sparse_source() {
	truncate -s $((32 * MIB + 100)) source
	data source $((3 * MIB + 8192)) $((2 * MIB))
	data source $((20 * MIB)) $((2 * MIB))
	data source $((31 * MIB + 100)) $MIB
	sync source
	(($(kib source) < 8192)) || skip_because 'needs a file system with holes'
}
readonly SPARSE_SECTORS=$((32 * 2048 + 1))

# kib FILE: the space that it takes.
kib() {
	sync "$1"
	du -k "$1" | cut -f1
}

# old FILE BYTES: a file that is full of something else.
old() {
	filled_file "$1" "$2"
	sync "$1"
}

# assert_space FILE KIB: it takes no more than that, and a little for how the file system keeps it.
assert_space() {
	(($(kib "$1") <= $2 + 64)) || fail "$1 takes $(kib "$1") KiB, expected $2"
}

# number PATTERN: what -v said about so many sectors.
number() {
	grep -oE "$1: [0-9]+ sectors" <<<"$output" | grep -oE '[0-9]+ sectors' | cut -d' ' -f1
}

# assert_read LEAST MOST: sectors read from the source.
assert_read() {
	local sectors
	sectors=$(number 'kcopy: source')
	((sectors >= $1 && sectors <= $2)) || fail "$sectors sectors were read, expected $1 to $2" "$output"
}

# assert_zeroed DEST LEAST MOST: sectors that were zeroed without sending zeros.
assert_zeroed() {
	local sectors
	sectors=$(grep -oE "destination $1: [0-9]+ sectors .* zeroed" <<<"$output" | grep -oE '[0-9]+ sectors' | cut -d' ' -f1)
	((sectors >= $2 && sectors <= $3)) || fail "$sectors sectors were zeroed, expected $2 to $3" "$output"
}

# A directory on a file system that can neither make holes nor zero.
plain_new() {
	need_root
	mkdir "$1"
	mount -t ramfs ramfs "$1" || skip_because 'needs ramfs'
}

@test "a sparse file to a new one: holes are not read, and take no space" {
	sparse_source
	run kcopy -v source copy
	assert_status 0
	assert_size copy $((SPARSE_SECTORS * 512))
	assert_same source 0 copy 0 $((32 * MIB + 100))
	assert_zeros copy $((32 * MIB + 100)) 412
	assert_space copy "$(kib source)"
	assert_read $((5 * 2048)) $((5 * 2048 + 64))
	assert_zeroed 1 $((27 * 2048 - 64)) $((27 * 2048))
}

@test "a sparse file to files that hold something else: nothing of it shows, and its space is given back" {
	sparse_source
	old first $((32 * MIB + 512))
	old second $((40 * MIB))
	# Not written back yet.
	fill_bytes first $((8 * MIB)) $MIB
	run kcopy -v --pages=100 source first second:8+$SPARSE_SECTORS
	assert_status 0
	assert_same source 0 first 0 $((32 * MIB + 100))
	assert_same source 0 second 4096 $((32 * MIB + 100))
	assert_bytes second 0 4096
	assert_bytes second $((4096 + 32 * MIB + 512)) $((8 * MIB - 4096 - 512))
	assert_space first "$(kib source)"
	assert_space second $(($(kib source) + 8192))
}

@test "ranges that begin and end in holes and data, on no block's boundary" {
	local range
	sparse_source
	for range in 3+6200 6161+9 1+65536 41000+7 45000+18000 63000+2537; do
		old copy $((33 * MIB))
		run kcopy "source:$range" "copy:5+${range#*+}"
		assert_status 0
		assert_bytes copy 0 2560
		assert_same source $((${range%+*} * 512)) copy 2560 \
			$((${range#*+} * 512 < 32 * MIB + 100 - ${range%+*} * 512 ? ${range#*+} * 512 : 32 * MIB + 100 - ${range%+*} * 512))
		assert_bytes copy $((2560 + ${range#*+} * 512)) $((33 * MIB - 2560 - ${range#*+} * 512))
	done
}

@test "--sparse=never reads and writes everything" {
	sparse_source
	run kcopy -v --sparse=never source copy
	assert_status 0
	assert_same source 0 copy 0 $((32 * MIB + 100))
	(($(kib copy) >= 32768))
	assert_read $SPARSE_SECTORS $SPARSE_SECTORS
	assert_zeroed 1 0 0
}

@test "zeros of a device become holes of a file, down to single blocks" {
	need_loop
	image_loop image $((8 * MIB))
	fill_bytes image $((MIB + 4096)) 4096 000
	fill_bytes image $((2 * MIB + 512)) 8192 000
	fill_bytes image $((3 * MIB)) $((4 * MIB)) 000
	blockdev --flushbufs "$loop"
	run kcopy -v "$loop" copy
	assert_status 0
	assert_same image 0 copy 0 $((8 * MIB))
	assert_read 16384 16384
	assert_zeroed 1 $((4 * 2048 + 16)) $((4 * 2048 + 16))
	assert_space copy $((4 * 1024 - 8))
}

@test "a device that holds something else: zeros are not sent, and nothing of it shows" {
	local loop
	need_loop
	sparse_source
	image_loop image $((40 * MIB))
	(($(cat "/sys/block/${loop#/dev/}/queue/write_zeroes_max_bytes") > 0)) || skip_because 'the loop device cannot zero'
	run kcopy -v source "$loop:7+$SPARSE_SECTORS"
	assert_status 0
	assert_same source 0 "$loop" 3584 $((32 * MIB + 100))
	assert_zeros "$loop" $((3584 + 32 * MIB + 100)) 412
	assert_bytes "$loop" 0 3584
	assert_bytes "$loop" $((3584 + SPARSE_SECTORS * 512)) $((8 * MIB - 4096))
	assert_space image $(($(kib source) + 8192 + 64))
	assert_zeroed 1 $((26 * 2048)) $((27 * 2048))
}

@test "zeros that are read are not sent to a device, in runs of 256 KiB and more" {
	local source
	need_loop
	filled_file data $((4 * MIB))
	fill_bytes data 65536 262144 000
	fill_bytes data $((MIB + 4096)) 262144 000
	fill_bytes data $((2 * MIB)) $MIB 000
	source=$(loop_new "$scratch/data")
	image_loop image $((4 * MIB)) || return
	fill_bytes image 0 $((4 * MIB)) 252
	blockdev --flushbufs "$loop"
	run kcopy -v "$source" "$loop"
	assert_status 0
	assert_same data 0 "$loop" 0 $((4 * MIB))
	assert_read 8192 8192
	assert_zeroed 1 $((2048 + 512)) $((2048 + 512))
}

@test "what cannot make holes has zeros written, beside others that can" {
	plain_new plain
	sparse_source
	old plain/second $((33 * MIB))
	old third $((33 * MIB))
	run kcopy -v source plain/first plain/second third
	assert_status 0
	local copy
	for copy in plain/first plain/second third; do
		assert_same source 0 $copy 0 $((32 * MIB + 100))
	done
	assert_bytes plain/second $((32 * MIB + 512)) $((MIB - 512))
	assert_read $((5 * 2048)) $((5 * 2048 + 64))
	assert_zeroed 2 0 0
	assert_zeroed 3 $((27 * 2048 - 64)) $((27 * 2048))
}

@test "a device that cannot zero has zeros written" {
	local loop
	need_loop
	plain_new plain
	sparse_source
	old plain/image $((33 * MIB))
	loop=$(loop_new "$scratch/plain/image")
	(($(cat "/sys/block/${loop#/dev/}/queue/write_zeroes_max_bytes") == 0)) || skip_because 'the loop device can zero'
	run kcopy -v source "$loop:0+$SPARSE_SECTORS"
	assert_status 0
	assert_same source 0 "$loop" 0 $((32 * MIB + 100))
	assert_bytes "$loop" $((32 * MIB + 512)) $((MIB - 512))
	assert_zeroed 1 0 0
	old plain/image $((33 * MIB))
	blockdev --flushbufs "$loop"
	run kcopy --zero "$loop:3+60000"
	assert_status 0
	assert_bytes "$loop" 0 1536
	assert_zeros "$loop" 1536 $((60000 * 512))
	assert_bytes "$loop" $((60003 * 512)) $((33 * MIB - 60003 * 512))
}

@test "a device that says only when it is asked that it cannot zero has zeros written" {
	local loop
	need_loop
	need_nbd
	sparse_source
	old image $((33 * MIB))
	nbd_file "$scratch/served" --filter=nozero file "$scratch/image"
	loop=$(loop_new "$scratch/served" --direct-io=on)
	run kcopy -v source "$loop:0+$SPARSE_SECTORS"
	assert_status 0
	assert_same source 0 "$loop" 0 $((32 * MIB + 100))
	assert_bytes "$loop" $((32 * MIB + 512)) $((MIB - 512))
	data image 0 $MIB
	blockdev --flushbufs "$loop"
	run kcopy --zero "$loop:5+1000"
	assert_status 0
	assert_same image 0 "$loop" 0 $MIB
	assert_zeros image 2560 512000
}

@test "a file whose server takes holes for hints: nothing of what stood there shows" {
	need_nbd
	local file=$scratch/served
	truncate -s $MIB source
	data source 0 65536
	filled_file image $MIB
	# shellcheck disable=SC2016
	nbd_file "$file" eval get_size="echo $MIB" can_write='exit 0' can_flush='exit 0' flush='exit 0' \
		pread="dd if='$scratch/image' iflag=skip_bytes,count_bytes skip=\$4 count=\$3 bs=1M status=none" \
		pwrite="dd of='$scratch/image' oflag=seek_bytes seek=\$4 bs=1M iflag=fullblock conv=notrunc status=none" \
		can_trim='exit 0' trim='exit 0'
	run kcopy source served
	assert_status 0
	assert_same source 0 image 0 $MIB
	filled_file image $MIB
	run kcopy --zero served
	assert_status 0
	assert_zeros image 0 $MIB
}

@test "--zero gives the space back; with --sparse=never it writes zeros" {
	local way zeroed
	memory_dir
	for way in auto never; do
		old copy $((4 * MIB))
		old "$memory/copy" $((4 * MIB))
		run kcopy -v --sparse=$way --zero copy:3+8000 "$memory/copy:3+8000"
		assert_status 0
		local copy
		for copy in copy "$memory/copy"; do
			assert_bytes "$copy" 0 1536
			assert_zeros "$copy" 1536 $((8000 * 512))
			assert_bytes "$copy" $((8003 * 512)) $((4 * MIB - 8003 * 512))
			if [[ $way == auto ]]; then
				assert_space "$copy" 128
			else
				(($(kib "$copy") >= 4096))
			fi
		done
		zeroed=0
		[[ $way == never ]] || zeroed=8000
		assert_zeroed 1 $zeroed $zeroed
	done
}

@test "a map across holes: what it says is missing is zeroed, too" {
	sparse_source
	run kcopy --map=map source copy
	assert_status 0
	[[ $(grep -c '^0x' map) -eq 2 ]]
	assert_said 'written and flushed'
	# Missing from the middle of a hole to the middle of data; the copy has something else there.
	fill_bytes copy $((10 * MIB)) $((11 * MIB))
	sed -i '/^0x/d' map
	printf '0x00000000     ?               1\n0x00000000  0x00A00000  +\n0x00A00000  0x00B00000  ?\n0x01500000  0x%08X  +\n' \
		$((11 * MIB + 100)) >>map
	run kcopy -v --map=map source copy
	assert_status 0
	assert_same source 0 copy 0 $((32 * MIB + 100))
	assert_read 2048 2048
	assert_zeroed 1 $((10 * 2048)) $((10 * 2048))
	assert_space copy "$(kib source)"
}

@test "a source that is cut off meanwhile has a read error, whatever it had there" {
	local loop
	need_loop
	need_nbd
	truncate -s $((64 * MIB)) source
	data source 0 $((4 * MIB))
	data source $((32 * MIB)) $MIB
	filled_file image $((64 * MIB))
	gate_new gate image $MIB
	kcopy_start --pages=64 source "$loop"
	gate_wait gate
	truncate -s $((16 * MIB)) source
	gate_open gate
	kcopy_wait
	assert_status 1
	assert_said 'READ ERROR'
	assert_same source 0 image 0 $((4 * MIB))
	assert_said 'INCOMPLETE: 32768 of 131072'
}

@test "refuses other ways" {
	random_file source 4096
	refuses "sparse=always: not a way to treat zeros; write auto or never" --sparse=always source copy
	refuses "sparse=: not a way" --sparse= source copy
}
