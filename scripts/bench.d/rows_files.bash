# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154
#
# Rows of files to new files: the page cache, sparse sources. Sourced by scripts/bench.

# cached FILE: how many bytes of it the page cache has.
cached() {
	fincore --bytes --noheadings --raw --output RES -- "$1"
}

# uncache FILE: not any more; fails if the file system keeps it.
uncache() {
	dd of="$1" oflag=nocache conv=notrunc,fdatasync count=0 status=none && (($(cached "$1") == 0))
}

# random_source MIB
random_source() {
	source=$place/source
	destination=$place/destination
	dd if=/dev/urandom of="$source" bs=1M count="$1" iflag=fullblock conv=fsync status=none || die 'no room'
}

# destination_gone: and with it what its deletion leaves to be done.
destination_gone() {
	rm -f "$destination"
	sync -f "$place"
}

# file_contestants: what copies $source to the new file $destination, durably.
file_contestants() {
	contestant kcopy kcopy
	run_kcopy() { "$kcopy" -q "$source" "$destination"; }
	if there nbdcopy; then
		contestant nbdcopy "$nbdcopy_label"
		run_nbdcopy() { nbdcopy_copy "$source" "$destination"; }
	fi
	contestant cp 'cp --sparse=auto, sync'
	run_cp() { cp --sparse=auto "$source" "$destination" && sync "$destination"; }
	if there qemu-img; then
		contestant qemu 'qemu-img convert -W -t none -T none'
		run_qemu() { qemu-img convert -f raw -O raw -W -t none -T none "$source" "$destination"; }
	fi
}

dd_contestant() {
	contestant dd 'dd bs=1M iflag=direct oflag=direct conv=fsync'
	run_dd() { dd if="$source" of="$destination" bs=1M iflag=direct oflag=direct conv=fsync; }
}

# cache_change PREPARE: in each round a copy, and how many MiB of the source more or less are in the page cache
# afterwards, and how many of the destination are: $source_change and $destination_cached.
cache_change() {
	local round before after
	source_change='' destination_cached=''
	for ((round = 0; round < rounds; round++)); do
		prepare kcopy
		before=$(cached "$source")
		run_once kcopy
		after=$(cached "$source")
		source_change+=" $((after > before ? after - before : before - after))"
		destination_cached+=" $(cached "$destination")"
	done
}

claim_cache() {
	# shellcheck disable=SC2086 # words
	{
		result "$1" MiB "$(scaled "$mebi" $source_change)" '' '' value 0
		result 'of the new file, in the page cache afterwards' MiB "$(scaled "$mebi" $destination_cached)" '' '' value 0
	}
}
mebi=$(awk 'BEGIN { printf "%.12g", 1 / 1048576 }')

row_cold() {
	local source destination size=$((quick ? mib : mib / 2))
	has fincore || return 0
	random_source "$size"
	uncache "$source" || {
		skipped "the file system at $place keeps files in memory"
		return 0
	}
	prepare() {
		destination_gone
		uncache "$source"
	}
	file_contestants
	dd_contestant
	prepare kcopy
	run_once kcopy
	same "$source" "$destination" "$size"
	contest "$rounds"
	heading "$size MiB, file to new file, nothing in the page cache"
	claim nbdcopy faster 1.3
	claim cp
	claim qemu
	claim dd
	cache_change
	claim_cache 'of the source, come into the page cache by the copy'
}

row_cached() {
	local source destination size=$((quick ? mib : mib / 2))
	has fincore || return 0
	random_source "$size"
	cat "$source" >/dev/null
	(($(cached "$source") == size << 20)) || {
		skipped 'not enough memory to have the source in the page cache'
		return 0
	}
	prepare() {
		destination_gone
		cat "$source" >/dev/null
	}
	file_contestants
	dd_contestant
	prepare kcopy
	run_once kcopy
	same "$source" "$destination" "$size"
	contest "$rounds"
	heading "$size MiB, file to new file, the source in the page cache"
	claim nbdcopy faster 1.0
	claim cp
	claim qemu
	claim dd
	cache_change
	claim_cache 'of the source, gone from the page cache by the copy'
}

# allocated FILE: in MiB
allocated() {
	awk -v blocks="$(stat -c %b -- "$1")" 'BEGIN { printf "%.3f", blocks / 2048 }'
}

# can_trace_reads: perf, and the tracepoint of file systems' direct I/O. strace does not see what goes through io_uring.
can_trace_reads() {
	{ there perf && perf stat -e iomap:iomap_dio_complete true; } >/dev/null 2>&1
}

# source_reads: a copy, and how many MiB of $source were read for it, past the page cache or into it.
source_reads() {
	prepare kcopy
	work perf record -q -a -e iomap:iomap_dio_complete --filter "ino==$(stat -c %i "$source")" -o "$place/perf" -- \
		"$kcopy" -q "$source" "$destination" || failed 'kcopy under perf record'
	perf script -i "$place/perf" 2>/dev/null |
		awk -v cached="$(cached "$source")" '$NF > 0 { bytes += $NF } END { printf "%.3f", (bytes + cached) / 1048576 }'
}

# sparse_same: the pieces, and what is around them, are in the copy; all of it would take longer than the copy.
sparse_same() {
	local i at
	(($(stat -c %s "$source") == $(stat -c %s "$destination"))) || die "row 'sparse': the sizes differ"
	for ((i = 0; i < pieces; i++)); do
		at=$((i * piece * 16 << 20))
		cmp -n $((piece * 3 << 19)) -i "$at:$at" "$source" "$destination" || die "row 'sparse': not a copy"
	done
}

row_sparse() {
	local source=$place/source destination=$place/destination pieces=64 piece total i name least
	local -A blocks
	piece=$((mib / pieces > 0 ? mib / pieces : 1)) total=$((piece * pieces * 16))
	if ! has_option sparse; then
		skipped 'this kcopy has no --sparse'
		return 0
	fi
	has fincore || return 0
	truncate -s "${total}M" "$source"
	for ((i = 0; i < pieces; i++)); do
		dd if=/dev/urandom of="$source" bs=1M count="$piece" seek=$((i * piece * 16 + i % 16)) iflag=fullblock conv=notrunc status=none ||
			die 'no room'
	done
	sync -f "$place"
	prepare() {
		destination_gone
		uncache "$source"
	}
	file_contestants
	for name in "${contestants[@]}"; do
		prepare "$name"
		run_once "$name"
		blocks[$name]=$(allocated "$destination")
		[[ $name != kcopy ]] || sparse_same
	done
	contest "$rounds"
	heading "$total MiB, sparse, $((piece * pieces)) MiB of data, to a new file"
	claim_best faster 1.0 nbdcopy cp qemu
	least=$(printf '%s\n' "$(allocated "$source")" "${blocks[nbdcopy]:-}" "${blocks[cp]}" "${blocks[qemu]:-}" | sort -g | grep -m 1 .)
	result 'allocated by kcopy' MiB "${blocks[kcopy]}" '' '' told ''
	result 'allocated by kcopy' MiB "${blocks[kcopy]}" 'the least that one of them allocates, or the source has' "$least" atmost 1
	if can_trace_reads; then
		result 'read from the source: no more than its data' MiB "$(source_reads)" '' '' value "$((piece * pieces))"
	else
		skipped "needs perf (${package[perf]}) and the tracepoint iomap_dio_complete" 'read from the source'
	fi
}

# Half of the source is zeros, 8 MiB at a time.
row_zeros() {
	local source destination i written='' round data=0
	has /usr/bin/time || return 0
	if ! has_option sparse; then
		skipped 'this kcopy has no --sparse'
		return 0
	fi
	disk source "$mib"
	disk destination "$mib"
	destinations=("$destination")
	(($(<"/sys/block/${destination#/dev/}/queue/write_zeroes_max_bytes") > 0)) || {
		skipped "no WRITE_ZEROES on loop devices over the file system at $place"
		return 0
	}
	for ((i = 0; i < mib; i += 16)); do
		dd if=/dev/zero of="$source" bs=1M seek="$i" count=$((mib - i < 8 ? mib - i : 8)) oflag=direct status=none
		((data += mib - i < 16 ? (mib - i > 8 ? mib - i - 8 : 0) : 8))
	done
	prepare() { devices_fresh; }
	contestant kcopy kcopy
	run_kcopy() { "$kcopy" -q "$source" "$destination"; }
	if there qemu-img; then
		contestant qemu "$qemu_label"
		run_qemu() { qemu_copy "$source" "$destination"; }
	fi
	if there nbdcopy; then
		contestant nbdcopy "$nbdcopy_label"
		run_nbdcopy() { nbdcopy_copy "$source" "$destination"; }
	fi
	# The kernel's count of what the process wrote: zeros that were asked for are none of it.
	for ((round = 0; round < rounds; round++)); do
		prepare kcopy
		work /usr/bin/time -q -f %O -o "$place/blocks" "$kcopy" -q "$source" "$destination" || failed kcopy
		written+=" $(<"$place/blocks")"
	done
	same "$source" "$destination" "$mib"
	contest "$rounds"
	heading "$mib MiB, half of them zeros, to a device with WRITE_ZEROES"
	claim qemu
	claim nbdcopy
	# shellcheck disable=SC2086 # words
	result 'transferred to the destination' MiB "$(scaled "$(awk 'BEGIN { print 1 / 2048 }')" $written)" '' '' value "$data"
}
