#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# Devices that really fail: which bits the exit status has, what was said, and what every destination holds
# then, byte for byte. Bad places are not tried again (--retries=0) but in a few tests: each of them is waited for.

load lib.bash

readonly MIB=1048576

# bit N: the exit status when destination N failed.
bit() {
	echo $((1 << ($1 < 6 ? $1 : 6)))
}

# -- destinations --------------------------------------------------------------------------------

# eight POLICY: sets names to seven files and, at $position, the failing device $bad.
eight() {
	local i
	names=()
	rm -f copy*
	for i in 1 2 3 4 5 6 7 8; do
		((i == position)) && names+=("$bad") || names+=("copy$i")
	done
	random_file source $((3 * MIB))
}

@test "drop: in each of eight positions a failing destination has its own bit, and the others are complete" {
	need_loop
	local bad position name names
	bad=$(bad_write_new "$scratch/full" $((3 * MIB)) $MIB $MIB)
	for position in 1 2 3 4 5 6 7 8; do
		eight
		run kcopy --retries=0 source "${names[@]}"
		assert_status "$(bit $position)"
		assert_said "$bad: FAILED: write .*No space left on device"
		assert_prefix source "$bad" 2048
		for name in "${names[@]}"; do
			[[ $name != "$bad" ]] || continue
			assert_said "$name: 6144 sectors .*flushed"
			assert_size "$name" $((3 * MIB))
			assert_same source 0 "$name" 0 $((3 * MIB))
		done
	done
}

@test "ignore: a failing destination has everything but the bad place, the others have everything" {
	need_loop
	local bad position name names
	bad=$(bad_write_new "$scratch/full" $((3 * MIB)) $MIB $MIB)
	for position in 1 2 3 4 5 6 7 8; do
		eight
		run kcopy --on-error=ignore --retries=$((position == 1 ? 2 : 0)) source "${names[@]}"
		assert_status "$(bit $position)"
		assert_said "$bad: FAILED: write of 2048 sectors at sector 2048: No space left on device"
		assert_same source 0 "$bad" 0 $MIB
		assert_same source $((2 * MIB)) "$bad" $((2 * MIB)) $MIB
		for name in "${names[@]}"; do
			[[ $name == "$bad" ]] || assert_same source 0 "$name" 0 $((3 * MIB))
		done
	done
}

@test "stop: only the failing destination has a bit, and every destination holds as much as was said" {
	need_loop
	local bad position name names
	bad=$(bad_write_new "$scratch/full" $((3 * MIB)) $MIB $MIB)
	for position in 1 2 3 4 5 6 7 8; do
		eight
		run kcopy --retries=0 --on-error=stop --pages=512 source "${names[@]}"
		assert_status "$(bit $position)"
		assert_prefix source "$bad" 2048
		for name in "${names[@]}"; do
			assert_prefix source "$name" 6144
		done
	done
}

@test "stop: ends soon after the first error" {
	need_loop
	local bad
	bad=$(bad_write_new "$scratch/full" $((64 * MIB)) 0 4096)
	random_file source $((64 * MIB))
	filled_file copy $((64 * MIB))
	run kcopy --retries=0 --on-error=stop --pages=512 source copy "$bad"
	assert_status 4
	assert_said "copy: INCOMPLETE: .*flushed"
	assert_prefix source copy 131071
	# Written in order, so the end is as it was.
	assert_bytes copy $((63 * MIB)) $MIB
	assert_bytes "$bad" $((63 * MIB)) $MIB
}

@test "several destinations fail and each of them has its bit" {
	need_loop
	local first second third
	first=$(bad_write_new "$scratch/full1" $((3 * MIB)) $MIB $MIB)
	second=$(bad_write_new "$scratch/full2" $((3 * MIB)) 0 4096)
	third=$(bad_write_new "$scratch/full3" $((3 * MIB)) $((3 * MIB - 4096)) 4096)
	random_file source $((3 * MIB))
	run kcopy source copy1 "$first" copy3 "$second" copy5 copy6 "$third"
	assert_status $((4 + 16 + 64))
	local name
	for name in copy1 copy3 copy5 copy6; do
		assert_same source 0 $name 0 $((3 * MIB))
	done
	assert_prefix source "$first" 2048
	assert_prefix source "$second" 0
	assert_prefix source "$third" 6136
	run kcopy source "$first" "$second" "$third"
	assert_status $((2 + 4 + 8))
	assert_prefix source "$first" 2048
	assert_prefix source "$third" 6136
}

@test "the only destination fails: at its first, a middle and its last sector" {
	need_loop
	local bad place
	for place in 0 $((MIB + 40960)) $((3 * MIB - 4096)); do
		bad=$(bad_write_new "$scratch/full$place" $((3 * MIB)) "$place" 4096)
		random_file source $((3 * MIB))
		run kcopy --retries=0 source "$bad"
		assert_status 2
		assert_said "$bad: FAILED: write"
		assert_prefix source "$bad" $((place / 512))
	done
}

@test "a failure in the only write of a small copy is told" {
	need_loop
	local bad
	bad=$(bad_write_new "$scratch/full" $MIB 4096 4096)
	random_file source 4096
	run kcopy source "$bad:8" copy
	assert_status 2
	assert_same source 0 copy 0 4096
	run kcopy source copy "$bad:0"
	assert_status 0
	assert_same source 0 "$bad" 0 4096
}

@test "ignore: exactly the bad sectors are left out, and the line names them" {
	need_loop
	local bad pages
	bad=$(bad_write_new "$scratch/full" $((3 * MIB)) $((MIB + 512 * 1024)) 4096)
	for pages in 4096 512 1; do
		random_file source $((3 * MIB))
		run kcopy --retries=0 --on-error=ignore --pages=$pages source "$bad"
		assert_status 2
		assert_said "$bad: FAILED: write of 8 sectors at sector 3072: No space left on device; wrote 3072 of 6144 sectors"
		assert_same source 0 "$bad" 0 $((MIB + 512 * 1024))
		assert_zeros "$bad" $((MIB + 512 * 1024)) 4096
		assert_same source $((MIB + 516 * 1024)) "$bad" $((MIB + 516 * 1024)) $((3 * MIB - MIB - 516 * 1024))
	done
}

@test "ignore: several bad places of source and destination, and each is exactly where it was" {
	need_loop
	need_nbd
	local bad source
	random_file image 262144
	filled_file target 262144
	source=$(bad_read_new "$scratch/bad-read" "$scratch/image" 1536,512 102400,2048)
	bad_write_file "$scratch/bad-write" "$scratch/target" 8192,512 50000,100 258048,4096
	bad=$(loop_new "$scratch/bad-write" --direct-io=on)
	# What touches a bad place and a good one may be done in part, and then it is not said to have failed.
	echo 4 >"/sys/block/${bad#/dev/}/queue/max_sectors_kb"
	cp image expected
	fill_bytes expected 1536 512 000
	fill_bytes expected 102400 2048 000
	fill_bytes expected 8192 512
	fill_bytes expected 49664 512
	fill_bytes expected 258048 4096
	run kcopy --on-error=ignore --retries=1 "$source" "$bad" copy
	assert_status 3
	assert_said "READ ERROR: 5 sectors could not be read"
	assert_said "$bad: FAILED: write of 1 sector at sector 16: Input/output error, and more errors \\(10 sectors in all\\); wrote 16 of 512"
	assert_same expected 0 "$bad" 0 262144
	assert_same image 0 copy 0 1536
	assert_same image 8192 copy 8192 $((102400 - 8192))
	assert_same image 104448 copy 104448 $((262144 - 104448))
}

@test "drop: everything before the first bad sector is written, and nothing behind it is missing from the others" {
	need_loop
	local bad
	bad=$(bad_write_new "$scratch/full" $((3 * MIB)) $((MIB + 512 * 1024)) 4096)
	random_file source $((3 * MIB))
	run kcopy --retries=0 source "$bad" copy
	assert_status 2
	assert_said "$bad: FAILED: write of 1 sector at sector 3072: No space left on device; wrote 3072 of 6144 sectors"
	assert_same source 0 "$bad" 0 $((MIB + 512 * 1024))
	assert_same source 0 copy 0 $((3 * MIB))
}

@test "--retries: an error that goes away is none, and one that does not is tried so often" {
	need_root
	need_nbd
	local tries
	random_file source 8192
	filled_file image 8192
	bad_write_file "$scratch/bad" "$scratch/image" 4096,4096
	run kcopy --retries=0 source bad
	assert_status 2
	assert_said 'bad: FAILED: write .*Input/output error'
	tries=$((1000000 - $(<bad.failures)))

	run kcopy --retries=3 source bad
	assert_status 2
	(($(<bad.failures) == 1000000 - 2 * tries - 3))

	echo "$tries" >bad.failures
	run kcopy --retries=1 source bad
	assert_status 0
	assert_not_said 'error'
	assert_same source 0 image 0 8192
}

# vanish LOOP IMAGE: nothing is left of it, as of a disk that was pulled out.
vanish() {
	truncate -s 0 "$2"
	losetup -c "$1"
	[[ $(blockdev --getsize64 "$1") -eq 0 ]]
}

@test "a destination that vanishes is dropped without retries, and the others are complete" {
	need_loop
	need_nbd
	local gone policy loop
	for policy in drop ignore; do
		random_file source $((4 * MIB))
		filled_file image $((4 * MIB))
		filled_file pulled $((4 * MIB))
		gone=$(loop_new "$scratch/pulled")
		gate_new slow-$policy image $((2 * MIB))
		# It would be waited for hours.
		kcopy_start --on-error=$policy --retries=1000 --pages=256 source "$loop" "$gone" copy
		gate_wait slow-$policy
		vanish "$gone" pulled
		gate_open slow-$policy
		kcopy_wait
		assert_status 4
		assert_said "$gone: FAILED: write of [0-9]+ sectors at sector [0-9]+: No such device"
		assert_said "copy: 8192 sectors .*flushed"
		assert_said "$loop: 8192 sectors .*flushed"
		assert_same source 0 copy 0 $((4 * MIB))
		assert_same source 0 image 0 $((4 * MIB))
		losetup -d "$gone"
		rm -f copy
	done
}

@test "a source that vanishes ends the copy without retries" {
	need_loop
	need_nbd
	local gone loop
	random_file pulled $((4 * MIB))
	cp pulled whole
	filled_file image $((4 * MIB))
	gone=$(loop_new "$scratch/pulled")
	gate_new slow image $((2 * MIB))
	kcopy_start --retries=1000 --pages=256 "$gone" "$loop"
	gate_wait slow
	vanish "$gone" pulled
	gate_open slow
	kcopy_wait
	assert_status 1
	assert_said "$gone: read of [0-9]+ sectors at sector [0-9]+: No such device"
	assert_said "$gone: READ ERROR: "
	assert_said "$loop: INCOMPLETE: "
	assert_same whole 0 image 0 $(($(holds "$loop") * 512))
}

@test "a failing device of 4 KiB blocks and a failing partition" {
	need_loop
	need_tool sfdisk partx
	local bad
	bad=$(bad_write_new "$scratch/full" $((3 * MIB)) $MIB $MIB --sector-size 4096)
	random_file source $((3 * MIB))
	run kcopy --retries=0 source copy1 "$bad" copy3
	assert_status 4
	assert_prefix source "$bad" 2048
	assert_same source 0 copy1 0 $((3 * MIB))
	assert_same source 0 copy3 0 $((3 * MIB))

	bad=$(bad_write_new "$scratch/disk" $((8 * MIB)) $((3 * MIB)) $MIB)
	losetup -d "$bad"
	bad=$(partitions_new "$scratch/disk/image" 'start=2048, size=10240')p1
	run kcopy --retries=0 source copy1 "$bad" copy3
	assert_status 4
	assert_prefix source "$bad" 4096
	assert_same source 0 copy1 0 $((3 * MIB))
}

@test "a file system that is too small: the file on it fails, the others are complete" {
	need_root
	tmpfs_new "$scratch/small" $MIB
	random_file source $((3 * MIB))
	run kcopy --retries=0 source copy1 small/copy copy3
	assert_status 4
	assert_said 'small/copy: FAILED: .*No space left on device'
	assert_prefix source small/copy 2048
	assert_same source 0 copy1 0 $((3 * MIB))
	assert_same source 0 copy3 0 $((3 * MIB))
}

@test "the limit on a file's size is a write error of that destination, and no crash" {
	random_file source 131072
	filled_file first $((4 * MIB))
	run bash -c 'ulimit -f 1024; exec "$@"' - timeout 100 "$KCOPY" --retries=0 source first:4096 second
	assert_status 2
	assert_said 'first: FAILED: .*too large'
	assert_same source 0 second 0 131072
	assert_bytes first 0 $((4 * MIB))
	run bash -c 'ulimit -f 1024; exec "$@"' - timeout 100 "$KCOPY" --retries=0 source second:0 first:1984
	assert_status 4
	# What it says it wrote in front of the limit is there.
	(($(holds first) <= 64))
	assert_same source 0 first $((1984 * 512)) $(($(holds first) * 512))
	assert_same source 0 second 0 131072
}

@test "a destination that takes every write and cannot be flushed has failed" {
	need_root
	need_nbd
	random_file source 65536
	filled_file image 65536
	filled_file image2 65536
	bad_flush_file "$scratch/file" "$scratch/image"
	run kcopy source copy1 file copy3
	assert_status 4
	assert_said 'file: FAILED: flush'
	assert_said 'copy1: .*flushed'
	assert_same source 0 copy1 0 65536
	assert_same source 0 copy3 0 65536

	need_loop
	bad_flush_file "$scratch/behind" "$scratch/image2"
	local bad
	bad=$(loop_new "$scratch/behind")
	run kcopy source "$bad" copy2
	assert_status 2
	assert_said "$bad: FAILED: "
	assert_same source 0 copy2 0 65536
	run kcopy --on-error=ignore source copy1 "$bad"
	assert_status 4
	run kcopy --on-error=stop source copy1 "$bad"
	assert_status 4
}

@test "--zero: a failing destination has its bit, the others are zeros" {
	need_root
	need_nbd
	filled_file image $MIB
	nbd_file "$scratch/served" --filter=error --filter=nozero file "$scratch/image" error-pwrite=EIO \
		error-pwrite-rate=100% error-zero=EIO error-zero-rate=100%
	filled_file first $MIB
	filled_file third $MIB
	run kcopy --zero first served third
	assert_status 4
	assert_said 'served: FAILED: '
	assert_zeros first 0 $MIB
	assert_zeros third 0 $MIB
	assert_bytes image 0 $MIB
}

# -- sources -------------------------------------------------------------------------------------

# The unreadable places of most of these tests: one sector, and four.
readonly FIRST_BAD=$((MIB + 3 * 512)) SECOND_BAD=$((2 * MIB + 7 * 512))

bad_source() {
	random_file image $((3 * MIB))
	cp image expected
	fill_bytes expected $FIRST_BAD 512 000
	fill_bytes expected $SECOND_BAD 2048 000
	bad=$(bad_read_new "$scratch/bad" "$scratch/image" $FIRST_BAD,512 $SECOND_BAD,2048 "$@")
}

@test "a read error: everything before the first bad sector is there" {
	need_loop
	need_nbd
	local bad policy
	bad_source
	for policy in drop stop; do
		rm -f copy new
		filled_file copy $((4 * MIB))
		filled_file new $((4 * MIB))
		run kcopy --on-error=$policy "$bad" copy new
		assert_status 1
		assert_said "$bad: read of 1 sector at sector 2051: Input/output error"
		assert_said 'copy: INCOMPLETE: 2051 of 6144 sectors .*written and flushed'
		assert_said 'new: INCOMPLETE: 2051 of 6144 sectors .*written and flushed'
		assert_same image 0 copy 0 $FIRST_BAD
		assert_same image 0 new 0 $FIRST_BAD
		assert_bytes copy $FIRST_BAD $((4 * MIB - FIRST_BAD))
		assert_bytes new $FIRST_BAD $((4 * MIB - FIRST_BAD))
	done
	filled_file copy $((3 * MIB))
	run kcopy --pages=1 "$bad" copy
	assert_status 1
	assert_same image 0 copy 0 $FIRST_BAD
	assert_bytes copy $FIRST_BAD $((3 * MIB - FIRST_BAD))
}

@test "a read error with ignore: zeros for exactly the unreadable sectors, which are listed" {
	need_loop
	need_nbd
	local bad pages
	bad_source
	for pages in 4096 512 1; do
		rm -f copy new
		filled_file copy $((3 * MIB))
		run kcopy --retries=0 --on-error=ignore --pages=$pages "$bad" copy new
		assert_status 1
		assert_said "$bad: read of 1 sector at sector 2051: Input/output error"
		assert_said "$bad: read of [1-4] sectors? at sector 4103: Input/output error"
		assert_said "$bad: READ ERROR: 5 sectors could not be read"
		assert_same expected 0 copy 0 $((3 * MIB))
		assert_same expected 0 new 0 $((3 * MIB))
	done
}

@test "bad sectors on both sides of a chunk's end are one line, even if it takes time to find them" {
	need_root
	need_nbd
	random_file image $((16 * 4096))
	# Sectors 15 and 16. A failing read and those that find the sector take longer than it is until the next look at
	# what is to be told.
	bad_read_file "$scratch/bad" "$scratch/image" 7680,1024 -- --filter=delay delay-read=40ms
	run kcopy --retries=0 --on-error=ignore --pages=1 bad copy
	assert_status 1
	assert_lines 'bad: read of 2 sectors at sector 15: Input/output error' \
		'bad: READ ERROR: 2 sectors could not be read; zeros stand for them' \
		'copy: 128 sectors (64 KiB) written and flushed'
}

@test "a read error on 4 KiB blocks: the whole block is unreadable, and nothing more" {
	need_loop
	need_nbd
	local bad
	bad_source -- --sector-size 4096
	cp image expected
	fill_bytes expected $MIB 4096 000
	fill_bytes expected $((2 * MIB)) 8192 000
	run kcopy --retries=0 "$bad" copy
	assert_status 1
	assert_said "$bad: read of 8 sectors at sector 2048: "
	assert_same image 0 copy 0 $MIB
	run kcopy --retries=0 --on-error=ignore "$bad" copy
	assert_status 1
	assert_said "$bad: READ ERROR: 24 sectors could not be read"
	assert_same expected 0 copy 0 $((3 * MIB))
}

@test "a read error in a file on FUSE, and in a region that does not start at 0" {
	need_root
	need_nbd
	random_file image $((3 * MIB))
	bad_read_file "$scratch/bad" "$scratch/image" $FIRST_BAD,512
	filled_file copy $((3 * MIB))
	run kcopy --retries=0 bad:2001+4000 copy:7
	assert_status 1
	assert_said "bad: read of [0-9]+ sectors? at sector [0-9]+: Input/output error"
	assert_bytes copy 0 3584
	assert_same image $((2001 * 512)) copy 3584 $((50 * 512))
	assert_bytes copy $((3584 + 4000 * 512)) $((3 * MIB - 3584 - 4000 * 512))
	run kcopy --retries=0 --on-error=ignore bad:2001+4000 copy:7
	assert_status 1
	assert_said 'READ ERROR: 1 sectors? could not be read'
	assert_same image $((2001 * 512)) copy 3584 $((50 * 512))
	assert_zeros copy $((3584 + 50 * 512)) 512
	assert_same image $((2052 * 512)) copy $((3584 + 51 * 512)) $((3949 * 512))
}

@test "bad sectors in the middle of a chunk are told exactly when a destination fails, too" {
	need_loop
	need_nbd
	local bad policy failing
	random_file image $((4 * MIB))
	bad=$(bad_read_new "$scratch/bad" "$scratch/image" $((2 * MIB + 51200)),1024)
	memory_dir
	for policy in drop stop; do
		failing=$(bad_write_new "$memory/$policy" $((4 * MIB)) 65536 $((4 * MIB)))
		run kcopy --retries=0 --on-error=$policy "$bad" "$failing"
		[[ $status -eq 2 || $status -eq 3 ]]
		assert_not_said 'read of ([3-9]|[0-9]{2,}) sectors'
	done
}

@test "a source that is gone from some place on: one place is told, the first" {
	need_loop
	need_nbd
	local bad
	random_file image $((16 * MIB))
	bad=$(bad_read_new "$scratch/bad" "$scratch/image" $((3 * MIB)),$((13 * MIB)))
	run kcopy --retries=0 "$bad" copy
	assert_status 1
	assert_said "$bad: read of 1 sector at sector 6144: "
	[[ $(grep -c 'read of' <<<"$output") -eq 1 ]]
	assert_said 'READ ERROR: 1 sector could not be read; the copy ends at the first, and nothing behind it was written'
	assert_same image 0 copy 0 $((3 * MIB))
	assert_zeros copy $((3 * MIB)) $((13 * MIB))
}

@test "the first and the last sector of a source are unreadable" {
	need_loop
	need_nbd
	local bad
	random_file image $((2 * MIB))
	bad=$(bad_read_new "$scratch/bad" "$scratch/image" 0,512 $((2 * MIB - 512)),512)
	filled_file copy $((2 * MIB))
	run kcopy --retries=0 --pages=1 "$bad" copy
	assert_status 1
	assert_bytes copy 0 $((2 * MIB))
	run kcopy --retries=0 "$bad:1" copy:1
	assert_status 1
	assert_bytes copy 0 512
	assert_same image 512 copy 512 $((2 * MIB - 1024))
	assert_bytes copy $((2 * MIB - 512)) 512
	run kcopy --retries=0 --on-error=ignore "$bad" copy
	assert_status 1
	assert_zeros copy 0 512
	assert_same image 512 copy 512 $((2 * MIB - 1024))
	assert_zeros copy $((2 * MIB - 512)) 512
	run kcopy --retries=0 "$bad:1+4094" copy:1
	assert_status 0
}

@test "a source of which not one sector can be read" {
	need_loop
	need_nbd
	local bad
	random_file image 65536
	bad=$(bad_read_new "$scratch/bad" "$scratch/image" 0,65536)
	filled_file copy 65536
	run kcopy "$bad" copy
	assert_status 1
	assert_bytes copy 0 65536
	run kcopy --on-error=ignore "$bad" copy
	assert_status 1
	assert_said 'READ ERROR: 128 sectors'
	assert_zeros copy 0 65536
}

@test "a device that is shorter than it says" {
	need_loop
	random_file image $((2 * MIB))
	cp image whole
	loop=$(loop_new "$scratch/image")
	truncate -s $((MIB + 8192)) image
	filled_file copy $((2 * MIB))
	run kcopy --retries=0 "$loop" copy
	assert_status 1
	assert_same whole 0 copy 0 $((MIB + 8192))
	assert_bytes copy $((MIB + 8192)) $((MIB - 8192))
}

@test "the source and a destination fail in one copy, and both bits are set" {
	need_loop
	need_nbd
	local bad full
	bad_source
	full=$(bad_write_new "$scratch/full" $((3 * MIB)) 4096 4096)
	run kcopy --retries=0 "$bad" copy1 "$full" copy3
	assert_status $((1 + 4))
	assert_same image 0 copy1 0 $FIRST_BAD
	assert_same image 0 copy3 0 $FIRST_BAD
	assert_prefix image "$full" 8
	rm -f copy1
	run kcopy --retries=0 --on-error=ignore "$bad" copy1 copy2 copy3 copy4 copy5 copy6 "$full"
	assert_status $((1 + 64))
	assert_same expected 0 copy1 0 $((3 * MIB))
	assert_same expected 0 copy6 0 $((3 * MIB))
}

@test "unreadable sectors outside of the region do not matter" {
	need_loop
	need_nbd
	local bad
	bad_source
	run kcopy "$bad:2052+2051" copy
	assert_status 0
	assert_same image $((2052 * 512)) copy 0 $((2051 * 512))
}
