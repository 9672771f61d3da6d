#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# Who has what: claims of disks and of their partitions, locks of files, of devices, and of what is behind devices, by
# other programs and by another kcopy. Another kcopy is held where it is by a gate (lib.bash).

load lib.bash

uuid=2b1f9a04-77c3-4d5e-8a90-010203040501

setup_test() {
	random_file source 65536
}

# claim DEVICE: for a moment, as mount does. Its status is an errno, 16 for EBUSY.
claim() {
	perl -MFcntl -e 'sysopen my $device, $ARGV[0], O_RDONLY | O_EXCL or exit $! + 0' "$1"
}

# refuses_now LINE ARGUMENT...: while another kcopy writes; what has changed is for the test to say.
refuses_now() {
	local line=$1
	shift
	run kcopy "$@"
	assert_status 128 && assert_lines "$line" 'nothing was written'
}

# -- disks and partitions ------------------------------------------------------------------------

# overlapping_new NAME: partition 1, an ext4, and 2 have 1024 sectors in common, 3 has none with them; $loop. It takes a
# kernel that reads a table by itself, as it lets nobody add such partitions.
overlapping_new() {
	filled_file "$1" 4194304
	truncate -s 1M part
	mkfs.ext4 -q -F -O ^has_journal -U "$uuid" part
	dd if=part of="$1" bs=1M seek=1 conv=notrunc status=none
	rm part
	perl -e 'print pack "x446 (C8 V2)3 x16 v", map({ 0, 0, 0, 0, 0x83, 0, 0, 0, @$_ } [2048, 2048], [3072, 2048],
		[6144, 1024]), 0xaa55' | dd of="$1" conv=notrunc status=none
	loop=$(loop_new "$scratch/$1" --partscan)
	poll 2 test -e "/sys/class/block/${loop#/dev/}p3" || skip_because 'needs a kernel that reads partition tables'
	partitions_add "$loop"
}

@test "a partition is in use while another one that has sectors in common with it is mounted" {
	need_loop
	need_tool perl mkfs.ext4 partx
	overlapping_new image
	mkdir mounted
	mount -o ro "${loop}p1" mounted
	refuses_saying "${loop}p2: is in use: it is ${loop}p1, too, which is mounted on $scratch/mounted; release it first" -- \
		--force source "${loop}p2:100"
	run kcopy source "${loop}p2:1024" "${loop}p3"
	assert_status 0
	assert_same source 0 image $((4096 * 512)) 65536
	assert_same source 0 image $((6144 * 512)) 65536
	umount mounted
	run kcopy --force source "${loop}p2:100"
	assert_status 0
	assert_same source 0 image $((3172 * 512)) 65536
}

@test "a disk and one of its partitions are written: nobody else can have another partition meanwhile" {
	need_loop
	need_nbd
	need_tool perl sfdisk partx
	local other
	filled_file image 6291456
	printf '%s\n' 'label: gpt' 'start=2048, size=1024' 'start=3072, size=1024' 'start=4096, size=1024' |
		sfdisk -q --no-tell-kernel image
	gate_new slow image 1048576
	losetup -d "$loop"
	loop=$(loop_new "$scratch/slow" --partscan --direct-io=on)
	partitions_add "$loop"
	claim "${loop}p2"
	for other in "${loop}p3 $loop:8192" "$loop:8192 ${loop}p3"; do
		rm -f slow.reached
		: >slow.gate
		random_file source 65536
		read -ra other <<<"$other"
		kcopy_start source "${other[@]}"
		gate_wait slow
		run -16 claim "${loop}p2"
		run -16 claim "${loop}p1"
		run -16 claim "$loop"
		gate_open slow
		kcopy_wait
		assert_status 0
		assert_same source 0 image $((4096 * 512)) 65536
		assert_same source 0 image $((8192 * 512)) 65536
		claim "${loop}p2"
	done
}

@test "a partition that the kernel has and no table any more is named, and overwritten with --force only" {
	need_loop
	need_tool sfdisk partx mkfs.ext4
	local what place
	filled_file image 3145728
	printf '%s\n' 'label: gpt' 'start=2048, size=2048' | sfdisk -q --no-tell-kernel image
	loop=$(loop_new "$scratch/image" --partscan)
	partitions_add "$loop"
	mkfs.ext4 -q -O ^has_journal -L left -U "$uuid" "${loop}p1"
	fill_bytes image 0 17408
	fill_bytes image $((3145728 - 16896)) 16896
	blockdev --flushbufs "$loop"
	[[ -z $(blkid -p -o value -s PTTYPE "$loop") ]]
	what="${loop}p1 (ext4 \"left\", 1 MiB, UUID $uuid)"
	for place in '' :2048+2048 :2100+8 :1000+2000; do
		refuses_saying "$loop: would overwrite $what; --force to do it anyway" -- --zero "$loop$place"
	done
	# Not where the table was: then the kernel would be told to look for one.
	run kcopy --zero "$loop:1024+1024" "$loop:4096+1024"
	assert_status 0
	assert_not_said overwriting
	run kcopy --force --zero "$loop"
	assert_status 0
	assert_said "^kcopy: $loop: overwriting ${loop}p1 \(ext4 \"left\", 1 MiB, UUID $uuid\)"
	assert_zeros image 0 3145728
	[[ ! -e /sys/class/block/${loop#/dev/}p1 ]]
}

@test "a table that counts in other blocks than the disk does is a table, with partitions" {
	need_loop
	need_tool sfdisk
	local from to
	for from in 512 4096; do
		to=$((4608 - from))
		rm -f image
		filled_file image 8388608
		loop=$(loop_new "$scratch/image" --sector-size "$from")
		# Sectors 2048+2048 and 8192+4096, whatever a block is.
		printf '%s\n' 'label: gpt' "start=$((2048 * 512 / from)), size=$((2048 * 512 / from))" \
			"start=$((8192 * 512 / from)), size=$((4096 * 512 / from))" | sfdisk -q --no-tell-kernel "$loop"
		losetup -d "$loop"
		loop=$(loop_new "$scratch/image" --sector-size "$to")
		refuses "^kcopy: $loop: would overwrite its partition table \(gpt, 2 partitions\); --force" \
			--zero "$loop:8+8" "$loop:16376+8"
		refuses "^kcopy: $loop: would overwrite partition 1 \(nothing known in it, 1 MiB\); --force" \
			--zero "$loop:4088+8"
		refuses "^kcopy: $loop: would overwrite partition 2 \(nothing known in it, 2 MiB\); --force" \
			--zero "$loop:12280+16"
		run kcopy source "$loop:4096" "$loop:12288"
		assert_status 0
		assert_same source 0 image $((4096 * 512)) 65536
		losetup -d "$loop"
	done
}

# -- two kcopies ---------------------------------------------------------------------------------

@test "of two kcopies to one file, under one flock, one writes and the other is refused" {
	need_loop
	need_nbd
	need_tool flock
	local one winner loser
	filled_file out 2097152
	filled_file image1 2097152
	filled_file image2 2097152
	random_file data1 2097152
	random_file data2 2097152
	gate_new slow1 image1 1048576
	one=$loop
	gate_new slow2 image2 1048576
	# Whoever has got it waits at its gate until the other one has ended. Without jobs' own groups, timeout ends them all.
	# shellcheck disable=SC2016
	run guarded flock out bash -c '
		"$1" --pages=256 data1 out "$2" >said1 2>&1 &
		one=$!
		"$1" --pages=256 data2 out "$3" >said2 2>&1 &
		two=$!
		wait -n -p loser "$one" "$two"
		echo "$?"
		rm slow1.gate slow2.gate
		wait "$((one + two - loser))"
		echo "$?"
		((loser == two)) && echo 1 2 || echo 2 1' - "$KCOPY" "$one" "$loop" </dev/null
	assert_status 0
	[[ ${lines[0]} == 128 && ${lines[1]} == 0 ]] || fail "$output" said1: "$(<said1)" said2: "$(<said2)"
	read -r winner loser <<<"${lines[2]}"
	output=$(<"said$loser")
	assert_lines 'out: is in use: it is locked by another program; release it first' 'nothing was written'
	assert_same "data$winner" 0 out 0 2097152
	assert_same "data$winner" 0 "image$winner" 0 2097152
	assert_bytes "image$loser" 0 2097152
}

@test "a file that another kcopy writes is not written through a loop device over it" {
	need_loop
	need_nbd
	filled_file target 2097152
	filled_file image 2097152
	random_file data 2097152
	gate_new slow image 1048576
	kcopy_start --pages=256 data target "$loop"
	gate_wait slow
	loop=$(loop_new "$scratch/target")
	refuses_now "$loop: is in use: it is locked by another program; release it first" --force source "$loop"
	# What stands on that, and another part of it.
	loop=$(loop_new "$loop" -o 1048576)
	refuses_now "$loop: is in use: it is locked by another program; release it first" --force source "$loop"
	gate_open slow
	kcopy_wait
	assert_status 0
	assert_same data 0 target 0 2097152
	assert_same data 0 image 0 2097152
	run kcopy --force source "$loop"
	assert_status 0
	assert_same source 0 target 1048576 65536
}

@test "a file is not written while another kcopy writes a loop device over it, not even where that is not" {
	need_loop
	need_nbd
	local sibling gate
	filled_file target 4194304
	filled_file image 2097152
	random_file data 2097152
	gate_new slow image 1048576
	gate=$loop
	loop=$(loop_new "$scratch/target" --sizelimit 2097152)
	sibling=$(loop_new "$scratch/target" -o 2097152)
	kcopy_start --pages=256 data "$loop" "$gate"
	gate_wait slow
	refuses_now "target: is in use: it is locked by kcopy (process $pid); --lock=yes waits for it" --force source target
	refuses_now "$sibling: is in use: the file behind it is locked by another program; release it first" \
		--force source "$sibling"
	gate_open slow
	kcopy_wait
	assert_status 0
	assert_same data 0 target 0 2097152
	assert_bytes target 2097152 2097152
	run kcopy --force source "$sibling"
	assert_status 0
	losetup -d "$loop" "$sibling"
	run kcopy --force source target
	assert_status 0
}

@test "two loop devices over one file, where they have nothing in common, are written in one go" {
	need_loop
	local low high
	filled_file image 4194304
	low=$(loop_new "$scratch/image" --sizelimit 2097152)
	high=$(loop_new "$scratch/image" -o 2097152)
	run kcopy source "$low:8" "$high:16" "$high:2048"
	assert_status 0
	assert_same source 0 image 4096 65536
	assert_same source 0 image $((2097152 + 8192)) 65536
	assert_same source 0 image $((2097152 + 1048576)) 65536
	# And where they have.
	losetup -d "$high"
	high=$(loop_new "$scratch/image" -o 1048576)
	refuses_saying "$high: destination 2 overlaps destination 1, $low" -- source "$low:2100" "$high"
	run kcopy source "$low:8" "$high"
	assert_status 0
	assert_same source 0 image 1048576 65536
}

# -- locks of other programs ---------------------------------------------------------------------

# refuses_locked DEVICE FILE: while another program has a record lock on FILE; F_SETLK and F_OFD_SETLK, as in preflight.
refuses_locked() {
	local type
	for type in 0 1; do
		record_lock "$2" 6 "$type"
		refuses_saying "$1: is in use: it is locked by perl (process $pid); release it first" -- --force source "$1"
		record_unlock
		record_lock "$2" 37 "$type"
		refuses_saying "$1: is in use: it is locked by another program; release it first" -- \
			--force --lock=no source new "$1"
		record_unlock
	done
}

@test "a loop device is not written while another program has its file locked by fcntl" {
	need_loop
	need_tool perl
	[[ $(uname -m) == *64* ]] || skip_because 'needs a 64-bit machine'
	local upper
	image_loop image 1048576
	refuses_locked "$loop" image
	upper=$(loop_new "$loop" -o 524288)
	refuses_locked "$upper" image
	run kcopy source "$upper"
	assert_status 0
	assert_same source 0 image 524288 65536
}

@test "a device is not written while another program has it locked by fcntl" {
	need_loop
	need_tool perl
	[[ $(uname -m) == *64* ]] || skip_because 'needs a 64-bit machine'
	image_loop image 1048576
	refuses_locked "$loop" "$loop"
	record_lock "$loop" 37 0
	run kcopy "$loop:0+8" new
	assert_status 0
	record_unlock
	run kcopy source "$loop"
	assert_status 0
	assert_same source 0 image 0 65536
}

@test "a lock of a descriptor that kcopy was started with is no obstacle; another one of the same shell is" {
	need_loop
	need_tool flock
	image_loop image 1048576
	filled_file old 65536
	exec 8<>"$loop" 9<>old
	flock 8
	flock 9
	run kcopy source "$loop" old
	assert_status 0
	assert_same source 0 image 0 65536
	assert_same source 0 old 0 65536
	# It is kept, and nobody else's.
	run -1 flock -n -s "$loop" true
	run -1 flock -n -s old true
	run kcopy source "$loop" old 8>&- 9>&-
	assert_status 128
	assert_said "^kcopy: $loop: is locked by "
	assert_said '^kcopy: old: is in use: it is locked by '
	exec 8>&- 9>&-
	run kcopy source "$loop" old
	assert_status 0
}

# preload_new: kcopy's flock is one of lock.so: with LOCKS=nfs it wants a descriptor for writing to lock against
# all, as on NFS; with LOCKS=busy somebody else has every empty file.
preload_new() {
	need_plain_build
	need_tool cc
	cat >lock.c <<-'END'
		#define _GNU_SOURCE
		#include <dlfcn.h>
		#include <errno.h>
		#include <fcntl.h>
		#include <stdlib.h>
		#include <string.h>
		#include <sys/file.h>
		#include <sys/stat.h>

		int flock(int fd, int operation)
		{
			int (*real)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "flock");
			const char *locks = getenv("LOCKS");
			struct stat st;

			if (locks && !strcmp(locks, "nfs") && (operation & LOCK_EX) && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY) {
				errno = EBADF;
				return -1;
			}
			if (locks && !strcmp(locks, "busy") && !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size == 0) {
				errno = EWOULDBLOCK;
				return -1;
			}
			return real(fd, operation);
		}
	END
	cc -shared -fPIC -o lock.so lock.c -ldl || skip_because 'needs a compiler that makes shared objects'
}

@test "a dry run of a file that cannot be locked by who only reads it is not refused" {
	preload_new
	filled_file old 65536
	remember
	run guarded env LD_PRELOAD="$scratch/lock.so" LOCKS=nfs "$KCOPY" --dry-run source old new </dev/null
	assert_status 0
	assert_not_said 'locked'
	assert_unchanged
}

@test "a new file is gone again if a signal ends the wait for its lock" {
	preload_new
	env --default-signal LD_PRELOAD="$scratch/lock.so" LOCKS=busy "$KCOPY" --lock=yes source new </dev/null \
		>out 2>err 3>&- 4>&- &
	pid=$!
	started+=("$pid")
	poll "$KCOPY_TIMEOUT" grep -qs 'waiting for it' err
	[[ -e new ]]
	kill -TERM "$pid"
	kcopy_wait
	assert_status 143
	[[ ! -e new ]]
}

# -- plans ---------------------------------------------------------------------------------------

@test "--json=FILE leaves alone what is no plan" {
	local file
	printf '{\n  "kcopz": 1\n}\n' >other
	printf '{' >short
	random_file random 4096
	for file in other short random; do
		refuses "^kcopy: $file: exists and is no plan or report of kcopy's; it is not overwritten: name another file$" \
			--dry-run --json="$file" source new
	done
	: >empty
	run kcopy --dry-run --json=empty source new
	assert_status 0
	[[ $(head -c 12 empty) == $'{\n  "kcopy":' ]]
	cp empty plan
	run kcopy --dry-run --json=plan source other
	assert_status 0
	run ! cmp -s empty plan
}
