#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# Lists of jobs: what is written, in which order, and what is said of each line.

load lib.bash

readonly MIB=1048576

setup_test() {
	random_file source $MIB
}

# report FILTER...: jq says that each of these is true of the file report.
report() {
	local filter
	for filter; do
		jq -e "$filter" report >/dev/null || fail "not so: $filter" "$(<report)" || return
	done
}

# -- what is copied ------------------------------------------------------------------------------

@test "each line is a copy, with comments and quotes, from a file, a pipe and standard input" {
	local way
	cat >list <<-'END'
		# a comment
		source:0+8 new   # another

		'source':8+8	"new":8 other
		source:16+16 a\ "b"' #c':8
	END
	for way in '--jobs=list' '-j list' '-j - <list' '-j - < <(cat list)' '--jobs=<(cat list)'; do
		rm -f new other 'a b #c'
		run --separate-stderr eval "guarded \"\$KCOPY\" $way"
		assert_status 0
		assert_silent
		[[ $stderr == *': 3 jobs complete, written and flushed' ]]
		assert_size new 8192
		assert_same source 0 new 0 8192
		assert_same source 4096 other 0 4096
		assert_same source 8192 'a b #c' 4096 8192
	done
	run kcopy -q -j list
	assert_status 0
	assert_silent
	run kcopy -v -j list
	assert_said '^kcopy: list:2: new: 8 sectors .*written and flushed$'
	assert_said '^kcopy: list:4: other: 8 sectors .*written and flushed$'
	assert_said '^kcopy: list:5: a b #c: 16 sectors .*flushed, from sector 8 on$'
}

@test "lines that overlap have the result of one after the other" {
	local i from to count
	echo "seed ${KCOPY_TEST_SEED:=$RANDOM}"
	RANDOM=$KCOPY_TEST_SEED
	random_file one $((MIB / 4))
	random_file two $((MIB / 4))
	cp one one.dd
	cp two two.dd
	for ((i = 0; i < 200; i++)); do
		count=$((RANDOM % 20 + 1))
		from=$((RANDOM % (512 - count)))
		to=$((RANDOM % (512 - count)))
		if ((RANDOM % 2)); then
			echo "one:$from+$count two:$to"
			dd if=one.dd of=two.dd bs=512 skip=$from seek=$to count=$count conv=notrunc status=none
		elif ((from + count <= to || to + count <= from)); then
			echo "two:$from+$count two:$to"
			dd if=two.dd of=two.dd bs=512 skip=$from seek=$to count=$count conv=notrunc status=none
		else
			echo "two:$from+$count one:$to"
			dd if=two.dd of=one.dd bs=512 skip=$from seek=$to count=$count conv=notrunc status=none
		fi
	done >list
	run kcopy -j list
	assert_status 0
	cmp one one.dd
	cmp two two.dd
}

@test "the same with whole blocks of devices, from one to another and within one" {
	need_loop
	local i from to count second
	echo "seed ${KCOPY_TEST_SEED:=$RANDOM}"
	RANDOM=$KCOPY_TEST_SEED
	random_file one $MIB
	random_file two $MIB
	cp one one.dd
	cp two two.dd
	image_loop image $MIB
	dd if=one of="$loop" bs=1M status=none
	second=$(loop_new "$scratch/two" --direct-io=on)
	blockdev --flushbufs "$loop"
	local -A device=([one]=$loop [two]=$second) other=([one]=two [two]=one)
	for ((i = 0; i < 400; i++)); do
		count=$((i % 40 ? RANDOM % 3 + 1 : RANDOM % 60 + 60))
		from=$((RANDOM % (256 - count)))
		to=$((RANDOM % (256 - count)))
		source=one
		((RANDOM % 2)) || source=two
		destination=${other[$source]}
		((i % 3 || (from + count > to && to + count > from))) || destination=$source
		echo "${device[$source]}:$((from * 8))+$((count * 8)) ${device[$destination]}:$((to * 8))"
		dd if=$source.dd of=$destination.dd bs=4096 skip=$from seek=$to count=$count conv=notrunc status=none
	done >list
	run kcopy --force -j list
	assert_status 0
	cmp "$loop" one.dd
	cmp "$second" two.dd
}

@test "the same by two names of one disk" {
	need_loop
	local i second
	image_loop image $MIB
	second=$(loop_new "$scratch/image" --direct-io=on)
	random_file first 4096
	cp first "$scratch/part"
	dd if=first of=image conv=notrunc status=none
	blockdev --flushbufs "$loop" "$second"
	for ((i = 0; i < 100; i++)); do
		echo "$loop:$((i * 8))+8 $loop:$((i * 8 + 8))"
	done >list
	run kcopy -j list
	assert_status 0
	for i in 0 1 50 100; do
		assert_same first 0 image $((i * 4096)) 4096
	done
	printf '%s\n' "source:0+16 $loop:1000" "$second:1000+16 new" >list
	run kcopy -j list
	assert_status 0
	assert_same source 0 new 0 8192
}

@test "a file that one line makes is the source of another" {
	printf '%s\n' 'source one' 'one:0+8 two' 'source:8+8 one:2048' 'one:2048+8 three' >list
	run kcopy -j list
	assert_status 0
	assert_same source 0 one 0 $MIB
	assert_same source 0 two 0 4096
	assert_same source 4096 three 0 4096
	assert_size two 4096
}

@test "more files than are open at a time" {
	local i
	mkdir new
	for ((i = 0; i < 300; i++)); do
		echo "source:$i+1 new/$((i % 150)):$((i / 150))"
	done >list
	run kcopy -j list
	assert_status 0
	for ((i = 0; i < 150; i++)); do
		dd if=source bs=512 skip=$i count=1 status=none
		dd if=source bs=512 skip=$((i + 150)) count=1 status=none
	done >expected
	for ((i = 0; i < 150; i++)); do
		cat new/$i
	done | cmp - expected
	# What is written in pieces is not mistaken for what was there before, though it begins with a file system.
	need_tool mkfs.ext4
	truncate -s 2M fs
	mkfs.ext4 -q -F fs
	for ((i = 0; i < 64; i++)); do
		echo "fs:$((i * 64))+64 image:$((i * 64))"
		echo "source:0+1 new/x$i"
		echo "source:1+1 new/y$i"
	done >list
	run kcopy -j list
	assert_status 0
	assert_same fs 0 image 0 $((2 * MIB))
}

@test "a list that is still being written: what is there is copied, flushed and told" {
	mkfifo pipe
	kcopy_start -v -j pipe
	exec 7>pipe
	echo 'source:0+8 one' >&7
	poll "$KCOPY_TIMEOUT" grep -q 'pipe:1: one: 8 sectors .*written and flushed' err
	assert_same source 0 one 0 4096
	echo 'source:8+8 two' >&7
	poll "$KCOPY_TIMEOUT" grep -q 'pipe:2: two: 8 sectors .*written and flushed' err
	exec 7>&-
	kcopy_wait
	assert_status 0
	assert_said 'pipe: 2 jobs complete'
}

# -- what is refused -----------------------------------------------------------------------------

@test "a bad line in a list that can be read twice: nothing is written, and all that is wrong is said" {
	local way
	filled_file old 4096
	cat >list <<-'END'
		source new
		source
		source old:x+8 nowhere/new
		"source new
		source $HOME
		source:0+8 source:4
		missing new
		source:0+8 old:0+9
	END
	for way in '-j list' '-j - <list' '-n -j list' '-n -j - < <(cat list)'; do
		remember
		run eval "guarded \"\$KCOPY\" $way"
		assert_refused ':2: source: a source without a destination' \
			":3: nowhere/new: cannot be created" ':4: character 1: a " without' \
			':5: character 8: nothing is expanded' ':6: source: destination 1 overlaps the source' \
			':7: missing: does not exist' ":8: old: its count of 9 sectors differs from the source's 8" \
			'nothing was written'
	done
	for ((i = 0; i < 200; i++)); do
		echo 'missing new'
	done >list
	refuses 'list: 100 lines are wrong; those behind line 100 were not looked at' -j list
}

@test "a bad line in a list that cannot: it is refused, and the others are copied, or not with stop" {
	need_tool jq
	printf '%s\n' 'source:0+8 one' 'source two nowhere/new' 'source:8+8 three' >list
	run eval 'guarded "$KCOPY" --json=report -j - < <(cat list)'
	assert_status 6
	assert_said '^kcopy: standard input:2: nowhere/new: cannot be created'
	assert_said '1 of 3 jobs is NOT complete'
	assert_same source 4096 three 0 4096
	[[ ! -e two ]]
	report '.status == 6 and .complete == 2 and .incomplete == 1 and .failed == [1, 2]' \
		'.jobs | map({ (.line | tostring): .state }) | add == { "1": "complete", "2": "refused", "3": "complete" }' \
		'.jobs[] | select(.line == 2) | .destinations[1].reasons[0] | test("cannot be created")' \
		'.jobs[] | select(.line == 2) | .write_err == 3 and .failed == [1, 2] and (.reasons | length == 1)'
	rm three
	run eval 'guarded "$KCOPY" --json=report --on-error=stop -j - < <(cat list)'
	assert_status 6
	[[ ! -e three ]]
	assert_same source 0 one 0 4096
	run eval 'guarded "$KCOPY" -j - < <(echo nonsense)'
	assert_status 128
	assert_said 'nothing was written'
}

@test "why a line is refused is said of that line, and of no other" {
	need_tool jq
	local list each='.jobs | map({ (.line | tostring): [.state, .write_err, (.reasons | length)] }) | add'
	for list in '* \nsource:0+8 one\n* \n' '* \nsource:0+8 one\nsource:8+8 two'; do
		rm -f one
		# shellcheck disable=SC2059 # it is one
		run eval 'guarded "$KCOPY" --json=report -j - < <(printf "$list")'
		assert_status 2
		report "$each"' == { "1": ["refused", 1, 1], "2": ["complete", 0, 0], "3": ["refused", 1, 1] }'
	done
	printf '%s\n' 'source:0+8 one/new' 'source:8+8 two' >list
	run eval 'guarded "$KCOPY" --json=report -j - < <(cat list)'
	assert_status 2
	report "$each"' == { "1": ["refused", 1, 1], "2": ["complete", 0, 0] }'
}

@test "lists that are none" {
	need_root
	: >empty
	printf '# nothing\n\n' >comment
	printf 'source new' >short
	printf 'source n\0ew\n' >nul
	printf 'source new\r\n' >dos
	head -c 300000 /dev/zero | tr '\0' x >long
	echo >>long
	refuses 'empty: there are no jobs in it' -j empty
	refuses 'comment: there are no jobs in it' -j comment
	refuses 'short:1: the last line does not end with a newline' -j short
	refuses 'nul:1: there is a NUL byte' -j nul
	refuses 'dos:1: character 11: the line ends as in DOS' -j dos
	refuses 'long:1: the line is too long' -j long
	refuses 'missing: cannot be read: No such file' -j missing
	refuses 'cannot be read: Is a directory' -j .
	run eval 'guarded "$KCOPY" -j - < <(:)'
	assert_status 128
	assert_said 'there are no jobs in it'
}

@test "options and operands that do not go with a list" {
	echo 'source new' >list
	refuses '--jobs and --zero' -j list -z
	refuses '--jobs and --map' -j list --map=map
	refuses '--jobs and --expect' -j list --expect=0:size=1
	refuses 'none can be on the command line' -j list source
	refuses "the file's name is empty" --jobs=
}

@test "the list, and where the report goes, are no operands" {
	need_tool jq
	printf '%s\n' 'source list' >list
	refuses 'list:1: list: is the list of jobs, too' -j list
	printf '%s\n' 'list new' >list
	refuses 'list:1: list: is the list of jobs, too' -j list
	echo 'source report' >list
	run kcopy --json=report -j list
	assert_status 128
	assert_said 'list:1: report: is where the report goes, too'
	report '.status == 128 and .jobs == [] and (.reasons | length) == 1'
	refuses 'list: is named on the command line, too' --json=list -j list
}

@test "what would be lost: by each line's own region" {
	need_loop
	need_tool sfdisk partx mkfs.ext4
	truncate -s 8M image
	printf '%s\n' 'label: gpt' 'start=2048, size=4096' 'start=8192, size=4096' | sfdisk -q image
	mkfs.ext4 -q -F -E offset=$MIB image 2M
	loop=$(loop_new "$scratch/image")
	echo "source:0+8 $loop:3000" >list
	refuses "list:1: $loop: would overwrite .*ext4" -j list
	echo "source:0+8 $loop:1" >list
	refuses "list:1: $loop: would overwrite its partition table" -j list
	echo "source:0+8 $loop:9000" >list
	refuses "list:1: $loop: would overwrite " -j list
	printf '%s\n' "source:0+8 $loop:100" "source:0+8 $loop:7000" >list
	run kcopy -j list
	assert_status 0
	assert_same source 0 "$loop" 51200 4096
	printf '%s\n' "source:0+8 $loop:100" "source:0+8 $loop:3000" >list
	refuses "list:2: $loop: would overwrite .*ext4" -j list
	run kcopy --force -j list
	assert_status 0
	assert_said "$loop: holds, and may lose, .*ext4"
	# What begins in the middle, where no table says so.
	truncate -s 8M plain
	mkfs.ext4 -q -F -E offset=$((4 * MIB)) plain 2M
	losetup -d "$loop"
	loop=$(loop_new "$scratch/plain")
	echo "source $loop:8192" >list
	refuses "list:1: $loop: would overwrite .*ext4" -j list
}

@test "a destination in use, or locked by another, is refused" {
	need_loop
	need_tool mkfs.ext4
	image_loop image $((2 * MIB))
	mkfs.ext4 -q "$loop"
	mkdir mounted
	mount -o ro "$loop" mounted
	echo "source:0+8 $loop:100" >list
	refuses "list:1: $loop: is in use: mounted on $scratch/mounted; release it first .umount" --force -j list
	umount mounted
	hold -x "$loop"
	refuses "list:1: $loop: is locked by" --force -j list
	release
	run kcopy --force -j list
	assert_status 0
	# A disk and its partition, or two of one disk, are ours together.
	need_tool sfdisk partx
	truncate -s 4M disk
	losetup -d "$loop"
	loop=$(partitions_new disk 'start=2048, size=1024' 'start=4096, size=1024')
	printf '%s\n' "source:0+8 ${loop}p1" "source:8+8 ${loop}p2" "${loop}:2048+8 ${loop}p1:8" >list
	run kcopy -j list
	assert_status 0
	assert_same source 0 disk $MIB 4096
	assert_same source 0 disk $((MIB + 4096)) 4096
	assert_same source 4096 disk $((2 * MIB)) 4096
}

@test "a dry run says how many jobs there are, and changes nothing" {
	need_tool jq
	filled_file old 4096
	printf '%s\n' 'source:0+8 old new' 'source:8+8 new:8' >list
	remember
	run kcopy -n -j list
	assert_status 0
	[[ $output == 'Would do 2 jobs. Nothing was written.' ]]
	assert_unchanged
	run kcopy -n --json=report --limit=2M -j list
	assert_status 0
	report '.dry_run and .status == 0' '[.limit_bytes_per_second, .throttle_percent] == [2097152, 100]' \
		'[.jobs[] | .line, .state] == [1, "checked", 2, "checked"]' \
		'.jobs[1].destinations[0] | .operand == "new" and .region.sector == 8 and .state == "untouched"'
	[[ ! -e new ]]
}

# -- errors --------------------------------------------------------------------------------------

@test "errors: the status is that of all lines, by position, and each is told with its line" {
	need_loop
	need_nbd
	need_tool jq
	local bad full
	bad=$(bad_read_new "$scratch/bad" "$scratch/source" 4096,512 $((MIB / 2)),512)
	full=$(bad_write_new "$scratch/full" $MIB $((MIB / 2)) 8192)
	cat >list <<-END
		source:0+8 one two
		$bad:0+64 three
		source:0+32 four $full:1016
		$bad:64+8 five
		source:0+32 $full:0 six
		source:0+8 $full:1024
	END
	run kcopy --retries=0 --json=report -j list
	assert_status $((1 + 2 + 4))
	assert_said "^kcopy: list:2: $bad: read of [0-9]+ sectors? at sector 8: Input/output error"
	assert_said "^kcopy: list:3: $full: FAILED: write of [0-9]+ sectors? at sector 1024: No space left on device"
	assert_said "^kcopy: list:6: $full: FAILED: write of [0-9]+ sectors?"
	assert_not_said 'list:[145]:'
	assert_said 'list: 3 of 6 jobs are NOT complete'
	assert_same source 0 two 0 4096
	assert_same source 0 three 0 4096
	assert_same source 0 four 0 16384
	assert_same source 32768 five 0 4096
	assert_same source 0 "$full" 0 16384
	report '.status == 7 and .read_err == 1 and .write_err == 3 and .failed == [0, 1, 2]' \
		'[.jobs[] | select(.state == "complete") | .line] | sort == [1, 4, 5]' \
		'.jobs[] | select(.line == 2) | .state == "incomplete" and .source.errors[0].sector == 8' \
		'.jobs[] | select(.line == 3) | .state == "failed" and .write_err == 2 and
			.destinations[0].state == "complete" and .destinations[1].first_bad_sector == 1024'
	# With ignore, zeros.
	run kcopy --retries=0 --on-error=ignore -j list
	assert_status 7
	assert_same source 4608 three 4608 28160
	assert_zeros three 4096 512
}

@test "stop: the first error of a line ends it all" {
	need_loop
	need_tool jq
	local bad i
	bad=$(bad_write_new "$scratch/full" $MIB 0 4096)
	echo "source:0+8 $bad" >list
	for ((i = 0; i < 2000; i++)); do
		echo "source:0+8 $bad:$((8 + i % 200 * 8))"
	done >>list
	run kcopy --retries=0 --on-error=stop --json=report -j list
	assert_status 2
	assert_said "list:1: $bad: FAILED"
	assert_said 'list: from line [0-9]+ on nothing was begun'
	report '.next_line > 1 and .next_line < 2001' '.complete + .incomplete == .next_line - 1'
}

@test "a flush that fails: no line that wrote there is complete" {
	need_nbd
	need_tool jq
	filled_file image $MIB
	bad_flush_file "$scratch/lost" "$scratch/image"
	printf '%s\n' 'source:0+8 lost one' 'source:8+8 two' 'source:16+8 three lost:8' >list
	run kcopy --json=report -j list
	assert_status $((2 + 4))
	assert_said 'list:1: lost: FAILED: flush: Input/output error'
	assert_said 'list:3: lost: FAILED: flush: Input/output error'
	assert_said '2 of 3 jobs are NOT complete'
	report '[.jobs[] | select(.state == "complete") | .line] == [2]' \
		'.jobs[] | select(.line == 1) | .destinations | map(.state) == ["failed", "complete"]'
}

@test "a signal ends it in order, and what was not begun is told" {
	need_loop
	need_nbd
	need_tool jq
	filled_file image $MIB
	gate_new slow image $((MIB / 2))
	cat >list <<-END
		source:0+8 one
		source:0+8 $loop:1024
		$loop:1024+8 two
		source:0+8 three
	END
	kcopy_start --json=report -j list
	gate_wait slow
	kill -TERM "$pid"
	poll "$KCOPY_TIMEOUT" grep -q 'ending in order' err
	gate_open slow
	kcopy_wait
	assert_status 143
	assert_said 'list: from line 3 on nothing was begun'
	[[ ! -e three ]]
	assert_same source 0 one 0 4096
	assert_same source 0 image $((MIB / 2)) 4096
	report '.status == 143 and .signal == "SIGTERM" and .interrupted and .next_line == 3' \
		'[.jobs[] | select(.line == 1) | .state] == ["complete"]'
}

@test "a report that cannot be written has its own status, or is a refusal" {
	need_root
	[[ -c /dev/full ]] || skip_because 'needs /dev/full'
	local i
	for ((i = 0; i < 40; i++)); do
		echo "source:$i+1 new:$i"
	done >list
	for i in -n -q; do
		run bash -c 'exec "$@" >/dev/full' - timeout 100 "$KCOPY" $i --json -j list
		assert_status 128
		assert_said 'standard output: No space left'
		[[ ! -e new ]]
	done
	tmpfs_new "$scratch/small" 8192
	run kcopy --json=small/report -j list
	assert_status 200
	assert_said 'small/report: the report cannot be written: No space left'
	assert_said '40 jobs complete'
	assert_same source 0 new 0 20480
}

@test "a source that only its own line would create does not exist" {
	echo 'new:0+8 new:8' >list
	refuses 'list:1: new: does not exist' -j list
	printf '%s\n' 'source:0+8 new' 'new:0+8 new:8 other' >list
	run kcopy -j list
	assert_status 0
	assert_same source 0 new 0 4096
	assert_same source 0 new 4096 4096
	assert_same source 0 other 0 4096
}

# -- devices that do not answer ------------------------------------------------------------------

# A destination $loop of 8 MiB, of which writes from 4 MiB on wait until gate_open slow.
slow_loop() {
	need_loop
	need_nbd
	filled_file image $((8 * MIB))
	gate_new slow image $((4 * MIB))
}

said() {
	grep -qiE -e "$1" err
}

@test "a destination that hangs is dropped: lines to it fail, those behind it go on" {
	need_tool jq
	slow_loop
	{
		echo "source:0+8 $loop"
		echo "source:8+8 $loop:8192 one"
		echo "source:16+8 two"
		echo "two:0+8 $loop:16" # behind the flush of a batch, or not
		for ((i = 0; i < 400; i++)); do
			echo "source:$((i * 4))+4 three:$((i * 4)) $loop:$((9000 + i * 8))"
		done
		echo "source:24+8 four"
	} >list
	kcopy_start --pages=512 --stall-timeout=2 --json=report -j list
	gate_wait slow
	kcopy_wait
	[[ -e slow.gate ]]
	assert_status $((2 + 4))
	assert_said "warning: $loop: has completed nothing for [1-9][0-9]* s: dropped"
	assert_said "list:2: $loop: FAILED: write of 8 sectors at sector 8192: Connection timed out"
	assert_said "list:404: $loop: FAILED: .*: Connection timed out"
	assert_said "warning: process [0-9]+ has to wait for $loop before it can end"
	assert_same source 4096 one 0 4096
	assert_same source 8192 two 0 4096
	assert_same source 0 three 0 $((1600 * 512))
	assert_same source 12288 four 0 4096
	report '[.jobs[] | select(.state == "complete") | .line] - [1, 4] == [3, 405]' \
		'.jobs[] | select(.line == 2) | .destinations | map(.abandoned) == [true, false]' \
		'.jobs[] | select(.line == 2) | .destinations | map(.state) == ["failed", "complete"]'
	gate_open slow
}

@test "a destination whose flush hangs is dropped: no line that wrote there is complete" {
	slow_loop
	gate_open slow
	: >slow-flush.gate
	rm -f slow-flush.reached
	printf '%s\n' "source:0+8 $loop" 'source:8+8 one' "source:16+8 two $loop:8" >list
	kcopy_start --stall-timeout=1 -j list
	gate_wait slow-flush
	poll "$KCOPY_TIMEOUT" said "$loop: has been flushing for [1-9][0-9]* s: dropped"
	gate_open slow-flush
	kcopy_wait
	assert_status $((2 + 4))
	assert_said "list:1: $loop: FAILED: flush: Connection timed out"
	assert_said "list:3: $loop: FAILED: flush: Connection timed out"
	assert_said '2 of 3 jobs are NOT complete'
	assert_same source 4096 one 0 4096
	assert_same source 8192 two 0 4096
}

@test "a destination that hangs is not asked what a line would overwrite, and the line fails when it was dropped" {
	need_loop
	need_nbd
	filled_file image $((8 * MIB))
	nbd_file "$scratch/slow" eval get_size="stat -c %s '$scratch/image'" can_write='exit 0' \
		pread="while [ -e '$scratch/slow.reached' ] && [ -e '$scratch/slow.gate' ]; do sleep 0.02; done
			dd if='$scratch/image' iflag=skip_bytes,count_bytes skip=\$4 count=\$3 bs=1M status=none" \
		pwrite=": >'$scratch/slow.reached'; while [ -e '$scratch/slow.gate' ]; do sleep 0.02; done; cat >/dev/null"
	: >slow.gate
	loop=$(loop_new "$scratch/slow" --direct-io=on)
	printf '%s\n' "source:0+8 $loop:8192" "source:0+2048 $loop:12288 one" 'source two' >list
	mkfifo pipe
	kcopy_start --stall-timeout=4 -j pipe
	exec 7>pipe
	head -n 1 list >&7
	gate_wait slow
	sleep 1.5 # until it looks as if it does not answer; more does not matter
	tail -n 2 list >&7
	exec 7>&-
	kcopy_wait
	[[ -e slow.gate ]]
	assert_status 2
	assert_said ":2: $loop: FAILED: write of .*: Connection timed out"
	assert_same source 0 one 0 $MIB
	assert_same source 0 two 0 $MIB
	gate_open slow
}

@test "a source that hangs is named, and not dropped; where nothing hangs no process stays" {
	need_loop
	need_nbd
	local hanging
	nbd_file "$scratch/hanging" eval get_size="stat -c %s '$scratch/source'" \
		pread="while [ -e '$scratch/read.gate' ]; do sleep 0.02; done
			dd if='$scratch/source' iflag=skip_bytes,count_bytes skip=\$4 count=\$3 bs=1M status=none"
	hanging=$(loop_new "$scratch/hanging" --read-only --direct-io=on)
	blockdev --flushbufs "$hanging"
	: >read.gate
	printf '%s\n' "$hanging:1024+8 one" 'source:0+8 two' >list
	kcopy_start --stall-timeout=1 -j list
	poll "$KCOPY_TIMEOUT" said "warning: $hanging: the source has not answered for [1-9][0-9]* s"
	gate_open read
	kcopy_wait
	assert_status 0
	assert_said "$hanging: goes on, after"
	assert_not_said 'dropped|process'
	assert_same source $((1024 * 512)) one 0 4096
}
