#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# The right disk, and it alone: --expect and --dry-run, locks against other programs, what the kernel sees afterwards,
# and paths that change under kcopy's eyes.

load lib.bash

setup_test() {
	random_file source 65536
}

# parted_new NAME: a loop device $loop over a new file NAME of 2 MiB with two empty partitions, 64+1024 and 2048+1024.
parted_new() {
	filled_file "$1" 2097152
	printf '%s\n' 'label: gpt' 'first-lba: 34' 'start=64, size=1024' 'start=2048, size=1024' |
		sfdisk -q --no-tell-kernel "$1"
	loop=$(loop_new "$scratch/$1" --partscan)
	partitions_add "$loop"
}

# -- --expect ------------------------------------------------------------------------------------

@test "--expect: the size must be the operand's, be that a device, a partition or a file" {
	need_loop
	need_tool sfdisk partx
	local is='is not what --expect'
	parted_new image
	filled_file old 65536
	local operands=(source "$loop:3072" "${loop}p1" old)
	refuses_saying "source: $is=0:size=129 says: its size is 128 sectors (65536B)" \
		"$loop: $is=1:size=2047K says: its size is 4096 sectors (2097152B)" \
		"${loop}p1: $is=2:size=1025 says: its size is 1024 sectors (524288B)" \
		"old: $is=3:size=512B says: its size is 128 sectors (65536B)" -- \
		--expect=0:size=129 --expect=1:size=2047K --expect=2:size=1025 --expect=3:size=512B "${operands[@]}"
	# One is wrong, and all that are right do not help; nor does --force.
	refuses_saying "source: $is=0:size=8 says: its size is 128 sectors (65536B)" -- --force --expect=0:size=8 \
		"${operands[@]}" --expect=0:size=128 --expect=1:size=2M
	# Of the device, whatever the region is.
	refuses_saying "$loop: $is=1:size=128 says: its size is 4096 sectors (2097152B)" -- \
		source "$loop:3072+128" --expect=1:size=128
	run kcopy --expect=0:size=128 --expect=1:size=2M --expect=2:size=1024s --expect=3:size=65536B "${operands[@]}"
	assert_status 0
	assert_same source 0 image $((3072 * 512)) 65536
	assert_same source 0 image $((64 * 512)) 65536
	assert_same source 0 old 0 65536
}

@test "--expect: a size that is no whole number of sectors matches none, and a file that is not there has none" {
	filled_file odd 1000
	refuses_saying 'odd: is not what --expect=0:size=2 says: its size is 1000B, which is no whole number of sectors' \
		'new: is not what --expect=1:size=2 says: it does not exist yet, so it has no size' -- \
		--expect=0:size=2 --expect=1:size=2 odd new
}

@test "--expect: what cannot be found out does not match" {
	need_loop
	local key is='is not what --expect'
	image_loop image 65536
	refuses_saying "$loop: $is=1:serial=WD-42 says: its serial cannot be found out" \
		"$loop: $is=1:wwn=0x5000c500a1b2c3d4 says: its WWN cannot be found out" \
		"$loop: $is=1:model=A\\x1b Disk says: its model cannot be found out" \
		"source: $is=0:serial=x says: a regular file has no serial" -- \
		--expect=1:serial=WD-42 --expect=1:wwn=0x5000c500a1b2c3d4 --expect=$'1:model=A\e Disk' --expect=0:serial=x \
		source "$loop" --expect=1:size=128
	for key in serial wwn model; do
		refuses "its $key cannot be found out" --force --zero "$loop" "--expect=1:$key=unknown"
	done
}

@test "--expect: an operand that is not there, and one that is not understood" {
	refuses_saying '--expect=2:size: there is no operand 2; 0 is the source, 1 the first destination' -- \
		--expect=2:size=128 source new
	refuses_saying '--expect=0:size: there is no operand 0; 0 is the source, 1 the first destination' -- \
		--expect=0:size=128 --zero new:0+8
	local bad
	remember
	for bad in '' 1 1: 1:size 1:size= 1:serial= size=128 :size=128 x:size=128 -1:size=128 1=size:128 1:sise=128 \
		1:SIZE=128 1:size=100B 1:size=x '1:size= 128' 1:size=128+1 33:size=128 99999999999:size=128 1:=128; do
		run kcopy "--expect=$bad" source new
		assert_status 128
		assert_said '^kcopy: --expect=.*wrong at'
	done
	assert_unchanged
	refuses 'expect' source new --expect
}

# -- --dry-run -----------------------------------------------------------------------------------

# same_status STATUS ARGUMENT...: with --dry-run it ends with that status, as without, and changes nothing.
same_status() {
	local expected=$1 times try
	shift
	remember
	for ((try = 0; try < 5; try++)); do
		times_age
		times=$(times)
		run kcopy --dry-run "$@"
		assert_status "$expected" || return
		[[ $(times) != "$times" ]] || break
	done
	((try < 5)) || diff <(echo "$times") <(times) || fail 'it changed a time' || return
	assert_unchanged || return
	run kcopy "$@"
	assert_status "$expected"
}

@test "--dry-run ends as the copy would, and changes nothing" {
	need_loop
	need_tool sfdisk partx mkfs.ext4
	parted_new image
	filled_file old 65536
	same_status 0 source "$loop:3072" "${loop}p1" old new
	rm new
	same_status 0 --zero "$loop:3072+8" "${loop}p1" old
	same_status 128 source "$loop"
	same_status 0 --force source "$loop:1000"
	same_status 128 source old source
	same_status 128 --force source old "$loop:5000"
	same_status 128 --expect=1:size=1 source old
	mkfs.ext4 -q -O ^has_journal "${loop}p2"
	mkdir mounted
	mount -o ro "${loop}p2" mounted
	same_status 128 --force source old "${loop}p2"
	same_status 128 --force source "$loop:3072"
	same_status 128 --force source mounted/new
	umount mounted
	filled_file other 65536
	loop=$(loop_new "$scratch/other" --read-only)
	same_status 128 source "$loop"
}

@test "--dry-run of zeros to a new file" {
	same_status 0 --zero new:0+8 other:5+8
	assert_zeros new 0 4096
}

@test "--dry-run finds a new file that is named twice" {
	same_status 128 source new ./new
}

@test "--dry-run opens no operand for writing, makes nothing and writes nothing" {
	need_loop
	need_plain_build
	need_tool strace sfdisk partx
	strace -o /dev/null true 2>/dev/null || skip_because 'nothing may be traced here'
	local trace
	parted_new image
	filled_file old 65536
	remember
	strace -f -y -o trace "$KCOPY" --dry-run --force source "$loop" "${loop}p2" old new >out 2>err </dev/null
	mv trace "$BATS_TEST_TMPDIR/trace"
	assert_unchanged
	trace=$BATS_TEST_TMPDIR/trace
	grep -F "\"$loop\"" "$trace" | grep -q O_EXCL
	local call
	for call in '(open|openat|openat2)\(.*(O_WRONLY|O_RDWR|O_CREAT|O_TRUNC)' \
		'(creat|unlink|unlinkat|rename|renameat|renameat2|mkdir|mknod|truncate|ftruncate|fallocate)\(' \
		'(io_submit|io_uring_enter|pwrite64|pwritev2?|fsync|fdatasync|syncfs|copy_file_range|sendfile)\(' \
		'ioctl\(.*(BLKRRPART|BLKFLSBUF|BLKZEROOUT|BLKDISCARD|FICLONE)'; do
		! grep -E "^[0-9]+ +$call" "$trace" || fail 'it changes something' || return
	done
}

@test "--dry-run prints the plan: what is what, where, how, and what would be lost" {
	need_loop
	need_tool sfdisk partx mkfs.ext4
	local disk plan
	parted_new image
	disk=$loop
	mkfs.ext4 -q -O ^has_journal -L root -U 2b1f9a04-77c3-4d5e-8a90-010203040501 "${disk}p2"
	image_loop four 1048576 --sector-size 4096
	run --separate-stderr kcopy --dry-run source "$disk:2040" "${disk}p1:100" "$loop:8" new
	assert_status 128
	plan=$output
	# Nothing of it but what is wrong is on standard error.
	output=$stderr
	assert_lines "$disk: would overwrite ${disk}p2 (ext4 \"root\", 512 KiB, UUID 2b1f9a04-77c3-4d5e-8a90-010203040501);\
 --force to do it anyway" 'nothing was written'
	output=$plan
	grep -qE '^ +transfers +(direct I/O|page-cached)$' <<<"$plan"
	diff - <(sed -E 's/^( +transfers +).*/\1DIRECT/' <<<"$plan") <<-END
		Source: source
		  kind           file
		  size           64 KiB (128 sectors)
		  logical block  512 bytes
		  transfers      DIRECT
		  region         128 sectors from sector 0 on (64 KiB)

		Destination 1: $disk
		  kind           disk
		  kernel name    ${disk#/dev/}
		  stable name    unknown
		  model          unknown
		  serial         unknown
		  wwn            unknown
		  size           2 MiB (4096 sectors)
		  logical block  512 bytes
		  transfers      DIRECT
		  zoned          no
		  region         128 sectors from sector 2040 on (64 KiB)
		  would be lost  ${disk}p2 (ext4 "root", 512 KiB, UUID 2b1f9a04-77c3-4d5e-8a90-010203040501)
		  refused        yes, standard error says why

		Destination 2: ${disk}p1
		  kind           partition 1 of ${disk#/dev/}
		  kernel name    ${disk#/dev/}p1
		  stable name    unknown
		  model          unknown
		  serial         unknown
		  wwn            unknown
		  size           512 KiB (1024 sectors)
		  logical block  512 bytes
		  transfers      DIRECT
		  zoned          no
		  region         128 sectors from sector 100 on (64 KiB)
		  would be lost  nothing known

		Destination 3: $loop
		  kind           disk
		  kernel name    ${loop#/dev/}
		  stable name    unknown
		  model          unknown
		  serial         unknown
		  wwn            unknown
		  size           1 MiB (2048 sectors)
		  logical block  4096 bytes
		  transfers      DIRECT
		  zoned          no
		  region         128 sectors from sector 8 on (64 KiB)
		  would be lost  nothing known

		Destination 4: new
		  kind           new file
		  region         128 sectors from sector 0 on (64 KiB)
		  would be lost  nothing known

		Refused, standard error says why: exit status 128. Nothing was written.
	END
	run --separate-stderr kcopy -n --quiet source "$disk:1500" new
	assert_status 0
	assert_said '^Would copy 64 KiB to 2 destinations\. Nothing was written\.$'
	[[ -z $stderr && ! -e new ]]
}

# plan ARGUMENT...: kcopy's plan as JSON, in $output; what it said is in $stderr.
plan() {
	run --separate-stderr kcopy --dry-run --json "$@"
}

# assert_plan FILTER: jq says that this is true of the plan.
assert_plan() {
	jq -e "$1" >/dev/null <<<"$output" || fail "not so: $1" "$output"
}

@test "--dry-run --json prints the same for programs" {
	need_loop
	need_tool sfdisk partx mkfs.ext4 jq
	local disk name=$'new\xff"\n'
	parted_new image
	disk=$loop
	mkfs.ext4 -q -O ^has_journal -L $'r\xff"\\\nx' -U 2b1f9a04-77c3-4d5e-8a90-010203040501 "${disk}p2"
	image_loop four 1048576 --sector-size 4096
	plan source:0+120 "$disk:2040" "${disk}p1:100" "$loop:8" "$name"
	assert_status 128
	[[ $stderr == *"would overwrite ${disk}p2"* ]]
	assert_plan '.dry_run == true and .status == 128 and (.kcopy | type) == "string" and (.operands | length) == 5'
	# Every operand has every key.
	assert_plan '[.operands[] | keys] | unique == [["direct_io", "kernel_name", "kind", "logical_block_bytes", "model",
		"number", "operand", "partition", "path", "reasons", "refused", "region", "role", "serial", "size_bytes",
		"stable_name", "whole_name", "would_lose", "wwn", "zoned"]]'
	assert_plan '[.operands[].number] == [0, 1, 2, 3, 4]'
	assert_plan '[.operands[].kind] == ["file", "disk", "partition", "disk", "new-file"]'
	assert_plan '[.operands[].region.sector] == [0, 2040, 100, 8, 0]'
	assert_plan '[.operands[].region | .count, .bytes] | unique == [120, 61440]'
	assert_plan '[.operands[].size_bytes] == [65536, 2097152, 524288, 1048576, null]'
	assert_plan '[.operands[].logical_block_bytes] == [512, 512, 512, 4096, null]'
	assert_plan '[.operands[].partition] == [null, null, 1, null, null]'
	assert_plan '[.operands[].refused] == [false, true, false, false, false]'
	assert_plan '[.operands[1:4][].direct_io] == [true, true, true] and (.operands[0].direct_io | type) == "boolean"'
	assert_plan '.operands[0] | .role == "source" and .operand == "source" and .would_lose == null and
		.kernel_name == null'
	assert_plan ".operands[1] | .role == \"destination\" and .operand == \"$disk\" and .path == \"$disk\" and
		.kernel_name == \"${disk#/dev/}\" and .whole_name == .kernel_name and .model == null and .serial == null"
	assert_plan ".operands[2] | .kernel_name == \"${disk#/dev/}p1\" and .whole_name == \"${disk#/dev/}\" and
		.would_lose == []"
	assert_plan '.operands[3].would_lose == [] and .operands[4].would_lose == []'
	# A text that is no UTF-8 is as in messages.
	assert_plan '.operands[4].operand == "new\\xff\"\\n"'
	assert_plan ".operands[1].would_lose == [{ \"type\": \"ext4\", \"label\": \"r\\\\xff\\\"\\\\\\\\\\\\nx\",
		\"uuid\": \"2b1f9a04-77c3-4d5e-8a90-010203040501\", \"partition\": 2, \"node\": \"${disk}p2\",
		\"offset_bytes\": 1048576, \"size_bytes\": 524288, \"partition_table\": false, \"damaged\": false }]"
	plan --force source:0+8 "$disk" $'n "\n\\\xc3\xa4'
	assert_status 0
	assert_plan '.status == 0 and .operands[2].operand == "n \"\n\\\u00e4"'
	assert_plan '.operands[1].would_lose | length == 1 and .[0].partition_table and .[0].type == "gpt"'
	plan --zero "$disk:1500+8"
	assert_status 0
	assert_plan '(.operands | length) == 1 and .operands[0].number == 1 and .operands[0].would_lose == []'
	plan source nowhere/new
	assert_status 128
	assert_plan '.status == 128 and .operands[1].refused and .operands[1].would_lose == null and .operands[1].kind == null'
}

@test "--json=FILE writes the plan there, but never over an operand, by any of its names" {
	need_tool jq
	filled_file old 65536
	filled_file precious 65536
	ln old hard
	ln -s old link
	ln -s nowhere dangling
	run kcopy -n --json=plan source old new
	assert_status 0
	assert_silent
	# A longer plan is replaced by a shorter one, and nothing else is.
	run kcopy -n --json=plan source old
	assert_status 0
	refuses 'precious: exists and is no plan' -n --json=precious source old
	[[ $(jq -c '[.status, .operands[].operand]' plan) == '[0,"source","old"]' ]]
	run kcopy --json=other --dry-run source source
	assert_status 128
	[[ $(jq -c '[.status, .operands[].refused]' other) == '[128,false,true]' ]]
	remember
	local file
	for file in old hard link ./old source; do
		run kcopy -n --json="$file" source old
		assert_refused 'is an operand'
	done
	run kcopy -n --json=new source ./new
	assert_refused 'is an operand'
	run kcopy -n --json=dangling source old
	assert_refused 'dangling: '
	run kcopy -n --json=/dev/null source old
	assert_refused '/dev/null: the plan is written to regular files only'
	run kcopy -n --json=nowhere/plan source old
	assert_refused 'nowhere/plan: the plan cannot be written'
	# What stands behind it is an operand.
	run kcopy -n --json source old
	assert_status 0
	output=$(sed -n '/^{/,$p' <<<"$output")
	assert_plan '[.operands[].operand] == ["source", "old"]'
	assert_unchanged
}

@test "--json=FILE is not what a loop device that is an operand stands on" {
	need_loop
	image_loop image 65536
	refuses 'image: is an operand' -n --json=image source "$loop"
	refuses 'regular files only' -n "--json=$loop" source new
}

@test "a plan that cannot be printed in full is no plan" {
	[[ -c /dev/full ]] || skip_because 'needs /dev/full'
	run bash -c '"$1" -n source new >/dev/full' - "$KCOPY"
	assert_status 128
	assert_said 'standard output: No space left'
	run bash -c '"$1" -n --json source new >/dev/full' - "$KCOPY"
	assert_status 128
	assert_said 'standard output: No space left'
}

# -- --lock --------------------------------------------------------------------------------------

# at_once NAME ARGUMENT...: kcopy in the background; what it says goes to NAME.said, its status to NAME.status. A lock
# that is refused costs a second: these do so together.
at_once() {
	local name=$1 status=0
	shift
	kcopy "$@" >"$name.said" 2>&1 || status=$?
	echo "$status" >"$name.status"
}

# assert_at_once NAME LINE...: that one was refused, with these lines.
assert_at_once() {
	status=$(<"$1.status")
	output=$(<"$1.said")
	assert_status 128 || return
	assert_lines "${@:2}" 'nothing was written'
}

@test "what another program has locked is refused, who it is is said, and nothing changes; the whole disk counts" {
	need_loop
	need_tool flock sfdisk partx
	local disk shared wait='wait for it, or let kcopy wait: --lock=yes' pids=()
	parted_new image
	disk=$loop
	image_loop other 1048576
	shared=$loop
	filled_file old 65536
	cp image before.image
	local by
	hold -x "$disk" && by=("$holder")
	hold -s "$shared" && by+=("$holder")
	hold -s old && by+=("$holder")
	hold -x source && by+=("$holder")
	filled_file data 65536
	at_once disk data "$disk:3500" new1 & pids+=($!)
	at_once part --force data "${disk}p1" & pids+=($!)
	at_once from "$disk:3500+8" new2 & pids+=($!)
	at_once shared --dry-run --quiet data "$shared" & pids+=($!)
	at_once file --lock=nonblock data new3 old & pids+=($!)
	at_once source source new4 & pids+=($!)
	LOCK_BLOCK_DEVICE=nonblock at_once environment data "$disk:3500" & pids+=($!)
	LOCK_BLOCK_DEVICE=yes at_once option --lock=nonblock data "$disk:3500" & pids+=($!)
	wait "${pids[@]}"
	assert_at_once disk "$disk: is locked by flock (process ${by[0]}); $wait"
	assert_at_once part "${disk}p1: $disk is locked by flock (process ${by[0]}); $wait"
	assert_at_once from "$disk: is locked by flock (process ${by[0]}); $wait"
	sed -i '/^kcopy: /!d' shared.said
	assert_at_once shared "$shared: is locked by flock (process ${by[1]}); $wait"
	assert_at_once file "old: is in use: it is locked by flock (process ${by[2]}); --lock=yes waits for it"
	assert_at_once source "source: is in use: it is locked by flock (process ${by[3]}); --lock=yes waits for it"
	assert_at_once environment "$disk: is locked by flock (process ${by[0]}); $wait"
	assert_at_once option "$disk: is locked by flock (process ${by[0]}); $wait"
	assert_same image 0 before.image 0 2097152
	assert_bytes other 0 1048576
	assert_bytes old 0 65536
	[[ ! -e new1 && ! -e new2 && ! -e new3 && ! -e new4 ]]
}

@test "a lock is no matter with --lock=no, on a partition's own node, or shared on what is only read" {
	need_loop
	need_tool flock sfdisk partx
	local disk
	parted_new image
	disk=$loop
	filled_file old 65536
	hold -x "$disk"
	hold -x old
	run kcopy --lock=no source "$disk:3500" old
	assert_status 0
	assert_same source 0 image $((3500 * 512)) 65536
	run kcopy --lock=0 --zero "${disk}p1"
	assert_status 0
	LOCK_BLOCK_DEVICE=no run kcopy "$disk:3500+128" old
	assert_status 0
	LOCK_BLOCK_DEVICE=1 run kcopy --lock=no source "${disk}p2"
	assert_status 0
	assert_same source 0 old 0 65536
	release
	for disk in "${started[@]}"; do
		kill -KILL -- "$disk" || :
	done 2>/dev/null
	disk=$loop
	hold -s "$disk"
	hold -s source
	run kcopy "$disk:0+8" new1
	assert_status 0
	run kcopy source new2
	assert_status 0
	image_loop other 1048576
	hold -x "${disk}p1"
	filled_file data 65536
	run kcopy data "$loop"
	assert_status 0
	assert_bytes other 0 65536
}

@test "a way to lock that is not known is refused, and so is one in the environment" {
	local value
	remember
	for value in '' x y 2 -1 'yes ' shared; do
		run kcopy --lock="$value" source new
		assert_status 128
		assert_lines "--lock=$value: not a way to lock; write yes, no or nonblock"
		LOCK_BLOCK_DEVICE=$value run kcopy source new
		assert_status 128
		assert_said "^kcopy: LOCK_BLOCK_DEVICE=$value in the environment: not a way to lock"
	done
	assert_unchanged
	refuses 'lock' source new --lock
}

# kcopy_waits ARGUMENT...: kcopy is started, and waits for a lock.
kcopy_waits() {
	rm -f "$scratch/err"
	kcopy_start "$@"
	poll "$KCOPY_TIMEOUT" grep -qs 'waiting for it' "$scratch/err"
}

@test "--lock=yes says whom it waits for, waits, and copies then" {
	need_loop
	need_tool flock
	image_loop image 131072
	hold -x "$loop"
	kcopy_waits --lock=yes source "$loop"
		assert_bytes image 0 131072
	release
	kcopy_wait
	assert_status 0
	assert_lines "$loop is locked by flock (process $holder): waiting for it (--lock=nonblock would not)" \
		"$loop: 128 sectors (64 KiB) written and flushed"
	assert_same source 0 image 0 65536
	# The same of files, by the environment's word.
	filled_file old 65536
	hold -s old
	LOCK_BLOCK_DEVICE=1 kcopy_waits source new old
	assert_bytes old 0 65536
	[[ ! -e new ]]
	release
	kcopy_wait
	assert_status 0
	assert_said "^kcopy: $scratch/old is locked by flock \(process $holder\): waiting for it"
	assert_same source 0 old 0 65536
	assert_same source 0 new 0 65536
}

@test "a signal ends the wait for a lock with that signal, and nothing was written" {
	need_loop
	need_tool flock
	local signal
	image_loop image 131072
	filled_file old 65536
	hold -x "$loop"
	hold -x old
	for signal in TERM INT HUP; do
		remember
		kcopy_waits --lock=yes source new "$loop"
		kill -"$signal" "$pid"
		kcopy_wait
		assert_status $((128 + $(kill -l "$signal")))
		assert_unchanged
	done
	remember
	kcopy_waits --lock=yes source new old
		kill -TERM "$pid"
	kcopy_wait
	assert_status 143
	assert_unchanged
}

@test "the disks and files of a copy are locked while it runs, and no longer" {
	need_loop
	need_nbd
	need_tool flock
	local from to
	filled_file image 2097152
	random_file data 2097152
	from=$(loop_new "$scratch/data")
	gate_new slow image 1048576
	to=$loop
	filled_file old 2097152
	kcopy_start --pages=256 "$from" "$to" old new
	gate_wait slow
	local place
	flock -n -s "$from" true
	run -1 flock -n -x "$from" true
	for place in "$to" old new; do
		run -1 flock -n -s "$place" true
	done
	gate_open slow
	kcopy_wait
	assert_status 0
	for place in "$from" "$to" old new; do
		flock -n -x "$place" true
	done
}

@test "a source that grows while its lock is waited for is copied as it is then" {
	need_tool flock
	random_file more 65536
	hold -x source
	kcopy_waits --lock=yes source new
		cat more >>source
	release
	kcopy_wait
	assert_status 0
	assert_size new 131072
	assert_same source 0 new 0 131072
}

# -- afterwards ----------------------------------------------------------------------------------

# A page stays in the cache only while the device is open.
@test "what the kernel remembers of a disk and its partitions is what was written, whichever of them was" {
	need_loop
	need_tool sfdisk partx
	local disk
	parted_new image
	disk=$loop
	exec 6<"$disk" 7<"${disk}p1" 8<"${disk}p2"
	cat <&6 >/dev/null
	cat <&7 >/dev/null
	cat <&8 >/dev/null
	run kcopy --zero "${disk}p1" "$disk:2048+1024"
	assert_status 0
	head -c 524288 /dev/zero >zeros
	cmp -n 524288 zeros "$disk" -i "0:$((64 * 512))"
	cmp -n 524288 zeros "$disk" -i 0:1048576
	cmp -n 524288 zeros "${disk}p1"
	cmp -n 524288 zeros "${disk}p2"
	exec 6<&- 7<&- 8<&-
}

@test "what the kernel remembers of a sibling of a loop device, and of what is below one, is what was written" {
	need_loop
	need_tool sfdisk partx
	local disk sibling above
	parted_new image
	disk=$loop
	sibling=$(loop_new "$scratch/image" --direct-io=on)
	exec 6<"$disk" 7<"${disk}p1" 8<"$sibling"
	cat <&6 >/dev/null
	cat <&7 >/dev/null
	cat <&8 >/dev/null
	run kcopy source "$sibling:64" "$sibling:3072"
	assert_status 128
	run kcopy --force source "$sibling:64" "$sibling:3072"
	assert_status 0
	local place
	for place in "$disk" "$sibling" image; do
		cmp -n 65536 source "$place" -i "0:$((64 * 512))"
		cmp -n 65536 source "$place" -i "0:$((3072 * 512))"
	done
	cmp -n 65536 source "${disk}p1"
	exec 8<&-
	losetup -d "$sibling"
	above=$(loop_new "$disk" --direct-io=on -o $((64 * 512)) --sizelimit 524288)
	cat <&6 >/dev/null
	cat <&7 >/dev/null
	run kcopy --zero "$above"
	assert_status 0
	cmp -n 524288 /dev/zero "$disk" -i "0:$((64 * 512))"
	cmp -n 524288 /dev/zero "${disk}p1"
	exec 6<&- 7<&-
}

@test "what others left in a cache before the copy does not come over it later" {
	need_loop
	need_tool sfdisk partx
	local disk
	parted_new image
	disk=$loop
	exec 6<>"$disk"
	# Not on its way to the device before somebody asks for that.
	head -c 524288 /dev/zero | tr '\0' x |
		dd of="$disk" oflag=seek_bytes seek=$((64 * 512)) bs=64K conv=notrunc status=none
	run kcopy --zero "${disk}p1"
	assert_status 0
	blockdev --flushbufs "$disk"
	sync "$disk"
	exec 6>&-
	fresh "$disk" "${disk}p1"
	assert_zeros image $((64 * 512)) 524288
	assert_zeros "${disk}p1" 0 524288
}

@test "after a copy over a partition table the kernel has no partition that is not in the new one" {
	need_loop
	need_tool sfdisk partx
	filled_file data 2097152
	printf '%s\n' 'label: gpt' 'first-lba: 34' 'start=128, size=256' | sfdisk -q --no-tell-kernel data
	parted_new image
	[[ -b ${loop}p2 ]]
	run kcopy --force data "$loop"
	assert_status 0
	assert_not_said warning
	[[ ! -e /sys/class/block/${loop#/dev/}p2 ]]
	# Not if the table was not touched.
	parted_new other
	run kcopy --force source "$loop:34"
	assert_status 0
	assert_not_said warning
	[[ -b ${loop}p2 ]]
}

@test "a partition table that cannot be read again is a warning that says what to do" {
	need_loop
	need_tool sfdisk partx
	local disk
	parted_new image
	disk=$loop
	exec 7<"${disk}p1"
	run kcopy --force --quiet source "$disk"
	exec 7<&-
	assert_status 0
	assert_said "warning: $disk: was written, but the kernel could not re-read its partition table: .*blockdev --rereadpt"
	assert_same source 0 image 0 65536
	[[ -b ${disk}p2 ]]
	# One whose table the kernel reads on no account.
	filled_file other 2097152
	printf '%s\n' 'label: gpt' 'first-lba: 34' 'start=64, size=1024' | sfdisk -q --no-tell-kernel other
	disk=$(loop_new "$scratch/other")
	partx -a "$disk"
	run kcopy --force --quiet source "$disk"
	partx -d "$disk"
	assert_status 0
	assert_said "warning: $disk: was written, but the kernel's partitions of it .*partx --update"
}

# -- races ---------------------------------------------------------------------------------------

@test "a link to a device that changes while kcopy waits leads nowhere else" {
	need_loop
	need_tool flock
	local first
	image_loop one 131072
	first=$loop
	image_loop two 131072
	ln -s "$first" link
	hold -x "$first"
	kcopy_waits --lock=yes source link
		ln -sfn "$loop" link
	release
	kcopy_wait
	assert_status 128
	assert_said '^kcopy: link: changed while it was looked at$'
	assert_bytes one 0 131072
	assert_bytes two 0 131072
}

@test "a device node that is replaced while kcopy waits leads nowhere else" {
	need_loop
	need_tool flock
	local first numbers
	image_loop one 131072
	first=$loop
	image_loop two 131072
	numbers=$(</sys/class/block/"${first#/dev/}"/dev)
	mknod node b "${numbers%:*}" "${numbers#*:}"
	hold -x "$first"
	kcopy_waits --lock=yes source node
		numbers=$(</sys/class/block/"${loop#/dev/}"/dev)
	mknod replacement b "${numbers%:*}" "${numbers#*:}"
	mv -f replacement node
	release
	kcopy_wait
	assert_status 128
	assert_said '^kcopy: node: changed while it was looked at$'
	assert_bytes one 0 131072
	assert_bytes two 0 131072
	# And if a file comes in its place, or nothing.
	hold -x "$loop"
	kcopy_waits --lock=yes source node
		rm node
	filled_file node 65536
	release
	kcopy_wait
	assert_status 128
	assert_said '^kcopy: node: changed while it was looked at$'
	assert_bytes node 0 65536
	assert_bytes two 0 131072
}

@test "a link to a file, and the file's name, may change while kcopy waits: what was opened is written" {
	need_tool flock
	filled_file one 65536
	filled_file two 65536
	ln -s one link
	hold -x one
	kcopy_waits --lock=yes source link
		ln -sfn two link
	release
	kcopy_wait
	assert_status 0
	assert_same source 0 one 0 65536
	assert_bytes two 0 65536
	filled_file one 65536
	hold -x one
	kcopy_waits --lock=yes source one
		mv one renamed
	mv two one
	release
	kcopy_wait
	assert_status 0
	assert_same source 0 renamed 0 65536
	assert_bytes one 0 65536
}

@test "a link that changes while another operand's disk is waited for leads nowhere else" {
	need_loop
	need_tool flock
	local first
	image_loop one 131072
	first=$loop
	image_loop two 131072
	filled_file old 65536
	filled_file other 65536
	ln -s old link
	ln -s "$loop" disk
	ln -s source from
	hold -x "$first"
	kcopy_waits --lock=yes from "$first" link disk
		ln -sfn other link
	ln -sfn "$first" disk
	ln -sfn other from
	release
	kcopy_wait
	assert_status 128
	assert_said '^kcopy: link: changed while it was looked at$'
	assert_said '^kcopy: disk: changed while it was looked at$'
	assert_said '^kcopy: from: changed while it was looked at$'
	assert_bytes one 0 131072
	assert_bytes two 0 131072
	assert_bytes old 0 65536
	assert_bytes other 0 65536
}

@test "what a disk holds is looked at when it is kcopy's turn" {
	need_loop
	need_tool flock mkswap
	image_loop image 1048576
	hold -x "$loop"
	kcopy_waits --lock=yes source "$loop"
		mkswap -q --lock=no -U 2b1f9a04-77c3-4d5e-8a90-010203040501 "$loop"
	release
	kcopy_wait
	assert_status 128
	assert_said "^kcopy: $loop: would overwrite its swap, 1 MiB, UUID 2b1f9a04-77c3-4d5e-8a90-010203040501; --force"
	swaplabel "$loop"
}
