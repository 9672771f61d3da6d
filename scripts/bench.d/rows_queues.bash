# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154
#
# Rows about many jobs, slow devices, system calls and memory. Sourced by scripts/bench.

# -- many small jobs -----------------------------------------------------------------------------

# fio_random SOURCE DESTINATION BATCH: $jobs reads and as many writes of 4 KiB at random places, at the same time.
fio_random() {
	fio --output-format=json --output="$place/fio.json" --thread --ioengine=libaio --direct=1 --invalidate=0 \
		--iomem="$fio_memory" --scramble_buffers=0 --gtod_reduce=1 --bs=4k --number_ios="$jobs" \
		--iodepth="$jobs_depth" --iodepth_batch_submit="$3" --iodepth_batch_complete_min=1 \
		--iodepth_batch_complete_max="$3" --norandommap --randrepeat=0 \
		--name=read --rw=randread --filename="$1" --name=write --rw=randwrite --filename="$2" --end_fsync=1
}

row_jobs() {
	local source destination jobs=$((quick ? 10000 : 50000)) slots batch
	has_option jobs || {
		skipped 'this kcopy has no --jobs' "$jobs jobs of 4 KiB"
		return 0
	}
	slots=$((mib * 256))
	((jobs <= slots)) || jobs=$slots
	disk source "$mib"
	disk destination "$mib"
	destinations=("$destination")
	paste -d ' ' <(shuf -i 0-$((slots - 1)) -n "$jobs") <(shuf -i 0-$((slots - 1)) -n "$jobs") |
		awk -v s="$source" -v d="$destination" '{ print s ":" $1 * 8 "+8 " d ":" $2 * 8 }' >"$place/jobs"
	prepare() { devices_fresh; }
	contestant kcopy kcopy
	run_kcopy() { "$kcopy" -q --jobs="$place/jobs"; }
	if there fio; then
		# So many requests a lane of kcopy's has in flight.
		jobs_depth=64
		fio_memory_choose
		for batch in 1 16; do
			contestant "fio$batch" "fio 4k randread + randwrite at once: iodepth=$jobs_depth, in batches of $batch, fsync"
		done
		run_fio1() { fio_random "$source" "$destination" 1; }
		run_fio16() { fio_random "$source" "$destination" 16; }
		took_fio1() { fio_microseconds; }
		took_fio16() { fio_microseconds; }
	fi
	prepare kcopy
	run_once kcopy
	jobs_same
	contest $((2 * rounds))
	heading "$jobs jobs of 4 KiB at random places, one command"
	claim_best faster 0.9 fio1 fio16
}

# jobs_same: the first 100 of the jobs did what they say.
jobs_same() {
	local from to
	blockdev --flushbufs "$destination"
	while read -r from to; do
		from=${from#*:} to=${to#*:}
		cmp -n 4096 -i "$((${from%+*} * 512)):$((to * 512))" "$source" "$destination" || die "row 'jobs': not copied: $from to $to"
	done < <(head -n 100 "$place/jobs")
}

# -- slow devices --------------------------------------------------------------------------------

# slow_disk NAME MIB RATE: a loop device with a shallow queue that takes RATE MiB a second; sets the variable NAME.
# $slow_means tells how: by the cgroup's throttle, which costs nothing, or if that cannot be had through nbdkit, which
# costs processor time. Fails if neither can be had.
slow_disk() {
	local file=$place/$1 name=$1 delay
	dd if=/dev/urandom of="$file" bs=1M count="$2" iflag=fullblock oflag=direct conv=fsync status=none || die 'no room'
	slow_means='a throttle'
	if printf -v "$name" %s "$(throttled_new "$file" $(($3 << 20)))" && [[ -n ${!name} ]]; then
		return 0
	fi
	there nbdkit nbdfuse || return
	slow_means=nbdkit
	delay=$(awk -v rate="$3" 'BEGIN { printf "%.6f", 120 / 1024 / rate }')
	printf -v "$name" %s "$(slow_new "$file.slow" "$file" "$delay")" && [[ -n ${!name} ]]
}

no_slow_disk() {
	skipped "needs a cgroup with io.max or blkio.throttle, or nbdkit and nbdfuse"
}

row_shallow8() {
	local source destinations=() i stick size=$((quick ? 32 : 48)) rate=24 pids
	disk source "$size"
	for ((i = 1; i <= 8; i++)); do
		slow_disk "stick$i" "$size" "$rate" || {
			no_slow_disk
			return 0
		}
		stick=stick$i
		destinations+=("${!stick}")
	done
	prepare() { devices_fresh; }
	contestant kcopy kcopy
	run_kcopy() { "$kcopy" -q "$source" "${destinations[@]}"; }
	contestant alone 'kcopy to one of them'
	run_alone() { "$kcopy" -q "$source" "${destinations[0]}"; }
	contestant dd '8 x dd bs=1M iflag=direct oflag=direct conv=fsync'
	run_dd() {
		pids=()
		for stick in "${destinations[@]}"; do
			dd if="$source" of="$stick" bs=1M iflag=direct oflag=direct conv=fsync & pids+=($!)
		done
		wait_all "${pids[@]}"
	}
	run_once kcopy
	same "$source" "${destinations[7]}" "$size"
	contest "$rounds"
	heading "$size MiB to 8 devices with 4 requests of 120 KiB and $rate MiB/s each ($slow_means)"
	claim alone atmost 1.03
	claim dd
}

# watch_written SECTORS DEVICE...: returns when so many sectors of writes are completed on each of them, counted from when
# the files $place/NAME.before were made; or when there is a file $place/over.
watch_written() {
	local sectors=$1 name stat before left=("${@:2}") still device tick
	exec {tick}<> <(:)
	while ((${#left[@]})) && [[ ! -e $place/over ]]; do
		still=()
		for device in "${left[@]}"; do
			name=${device#/dev/}
			read -ra stat <"/sys/block/$name/stat"
			read -ra before <"$place/$name.before"
			((stat[6] - before[6] >= sectors)) || still+=("$device")
		done
		left=("${still[@]}")
		read -rt 0.003 -u "$tick"
	done
	exec {tick}>&-
}

# watched FILE COMMAND...: runs it, and adds to FILE after how many microseconds all was written to the two fast devices.
watched() {
	local file=$1 begin end watcher status=0
	shift
	now begin
	{
		watch_written $((size * 2048)) "$fast1" "$fast2"
		now end
		echo $((end - begin)) >>"$file"
	} &
	watcher=$!
	"$@" || status=$?
	: >"$place/over"
	wait "$watcher"
	return "$status"
}

row_slow1of3() {
	local source slow fast1 fast2 destinations size=$((quick ? 64 : 128)) rate=48 ours theirs
	disk source "$size"
	if ! { slow_disk slow "$size" "$rate" && slow_disk fast1 "$size" $((rate * 4)) && slow_disk fast2 "$size" $((rate * 4)); }; then
		no_slow_disk
		return 0
	fi
	destinations=("$fast1" "$slow" "$fast2")
	# Virtual disks often say that they rotate. Then kcopy does not let them go to and fro, unless it is told to.
	echo 0 >"/sys/block/${source#/dev/}/queue/rotational"
	prepare() {
		local device
		devices_fresh
		rm -f "$place/over"
		for device in "${destinations[@]}"; do
			cat "/sys/block/${device#/dev/}/stat" >"$place/${device#/dev/}.before"
		done
	}
	contestant kcopy kcopy
	run_kcopy() { watched "$place/fast" "$kcopy" -q "$source" "${destinations[@]}"; }
	contestant alone 'kcopy to the slow one alone'
	run_alone() { "$kcopy" -q "$source" "$slow"; }
	contestant fast 'kcopy to the two fast ones alone'
	run_fast() { watched "$place/alone" "$kcopy" -q "$source" "$fast1" "$fast2"; }
	prepare
	run_once kcopy
	same "$source" "$slow" "$size"
	same "$source" "$fast2" "$size"
	rm "$place/fast"
	contest "$rounds"
	heading "$size MiB to 3 devices, one of $rate MiB/s, two of $((rate * 4)) ($slow_means)"
	claim alone atmost 1.02
	# shellcheck disable=SC2046 # words
	ours=$(scaled 1e-6 $(<"$place/fast")) theirs=$(scaled 1e-6 $(<"$place/alone"))
	result 'until all is written to the two fast ones' s "$ours" '' '' told ''
	result 'until all is written to the two fast ones' s "$ours" "${label[fast]}" "$theirs" atmost 1.05
}

# -- what a chunk costs --------------------------------------------------------------------------

# count_calls MIB DESTINATIONS: the system calls of a copy.
count_calls() {
	work perf stat -x , -e raw_syscalls:sys_enter -o "$place/perf" "$kcopy" -q "$source:0+${1}M" "${destinations[@]:0:$2}" ||
		failed 'kcopy under perf stat'
	awk -F , '/raw_syscalls/ { print $1 }' "$place/perf"
}

# count_sleeps MIB DESTINATIONS: how often one of its threads slept, and was woken.
count_sleeps() {
	work /usr/bin/time -q -f %w -o "$place/sleeps" "$kcopy" -q "$source:0+${1}M" "${destinations[@]:0:$2}" || failed kcopy
	cat "$place/sleeps"
}

# What the whole takes more than a quarter of it does is the steady state, without start and end.
row_steady() {
	local source destinations=() first second third size=$((mib / 2)) quarter n round counts what=(
		[1]='1 destination' [3]='3 destinations')
	local -A unit=([calls]='system calls' [sleeps]='wake-ups of a thread') target=([calls]=6 [sleeps]=4)
	((size >= 64)) || size=64
	quarter=$((size / 4))
	disk source "$size"
	disk first "$size"
	disk second "$size"
	disk third "$size"
	destinations=("$first" "$second" "$third")
	for kind in calls sleeps; do
		if [[ $kind == calls ]] && ! { there perf && perf stat -e raw_syscalls:sys_enter true; } >/dev/null 2>&1; then
			skipped "needs perf (${package[perf]}) and tracepoints" 'system calls'
			continue
		fi
		if [[ $kind == sleeps ]] && ! there /usr/bin/time; then
			skipped 'needs GNU time' 'wake-ups'
			continue
		fi
		for n in 1 3; do
			counts=''
			for ((round = 0; round < rounds; round++)); do
				devices_fresh
				counts+=" $(($("count_$kind" "$size" "$n") - $("count_$kind" "$quarter" "$n")))"
			done
			# shellcheck disable=SC2086 # words
			result "${unit[$kind]} per MiB and destination, steady state, ${what[n]}" '' \
				"$(scaled "$(awk -v n=$((n * (size - quarter))) 'BEGIN { printf "%.9g", 1 / n }')" $counts)" '' '' \
				value "${target[$kind]}"
		done
	done
}

# -- memory --------------------------------------------------------------------------------------

# All of it is in use: of a larger one more than half may never be.
reserve_pages=2048
# over_reserve KIB...: what is above the reserve, in MiB.
over_reserve() {
	printf '%s\n' "$@" | awk -v reserve=$((reserve_pages * 4)) '{ printf " %.3f", ($1 - reserve) / 1024 }'
}

row_memory() {
	local source destination round kib=()
	has /usr/bin/time || return 0
	disk source 64
	disk destination 64
	for ((round = 0; round < rounds; round++)); do
		work /usr/bin/time -q -f %M -o "$place/resident" "$kcopy" -q --pages="$reserve_pages" "$source" "$destination" ||
			failed kcopy
		kib+=("$(<"$place/resident")")
	done
	result '64 MiB: resident memory above the reserve of 8 MiB' MiB "$(over_reserve "${kib[@]}")" '' '' value 6
}

# hwm PID: VmHWM in KiB, as long as it runs.
hwm() {
	awk '/^VmHWM:/ { print $2 }' "/proc/$1/status" 2>/dev/null
}

# written PID MIB: has it written so much already, or gone?
written() {
	[[ ! -e /proc/$1/io ]] && return
	(($(awk '/^write_bytes:/ { print $2 }' "/proc/$1/io") >= $2 << 20))
}

# A device of 1 TiB, so that there are no holes to pass over; and zeros are written, if that can be asked for.
row_memory1T() {
	local source destination kib never=() part=$((quick ? 256 : 2048))
	has nbdkit nbdfuse || return 0
	truncate -s 1T "$place/source" || {
		skipped 'no file of 1 TiB on this file system'
		return 0
	}
	source=$(loop_new "$place/source" --direct-io=on --read-only)
	nbd_file "$place/null" null size=1T
	destination=$(loop_new "$place/null" --direct-io=on) || {
		skipped 'a loop device over nbdfuse cannot be had here'
		return 0
	}
	! has_option sparse || never=(--sparse=never)
	# All of it would take long: it is interrupted on the way.
	set -m
	"$kcopy" -q --pages="$reserve_pages" "${never[@]}" "$source" "$destination" 2>"$place/stderr" </dev/null 3>&- &
	child=$!
	set +m
	poll 120 written "$child" "$part"
	kib=$(hwm "$child")
	kill -INT "$child"
	wait "$child"
	child=
	[[ -n $kib ]] || die "row '$row': kcopy ended early: $(<"$place/stderr")"
	result "1 TiB, the first $part MiB: resident memory above the reserve" MiB "$(over_reserve "$kib")" '' '' value 6
}
