# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154
#
# Rows on disks of memory that keep to the clock (slow_disk.c): how many chunks are in flight, and in what order, is all
# that counts there. Sourced by scripts/bench.

# slow_disk_build: or the row is skipped.
slow_disk_build() {
	local flags
	[[ ! -x $scratch/slow_disk ]] || return 0
	has cc pkg-config || return
	if ! read -ra flags < <(pkg-config --cflags --libs fuse3 2>/dev/null) ||
		! cc -O2 -o "$scratch/slow_disk" "$here/bench.d/slow_disk.c" "${flags[@]}" 2>/dev/null; then
		skipped 'needs libfuse3 and its headers (libfuse3-dev)'
		return 1
	fi
	if [[ ! -c /dev/fuse ]]; then
		skipped 'needs FUSE'
		return 1
	fi
}

# slow_disk_new NAME MIB ARGUMENT...: the file $place/NAME, which takes its time as slow_disk.c is told.
slow_disk_new() {
	local file=$place/$1 mib=$2
	shift 2
	: >"$file"
	"$scratch/slow_disk" "$file" --size="$mib" "$@" >"$file.log" 2>&1 </dev/null 3>&- &
	# By this name devices_free finds it, and ends it when no loop device is over it any more.
	echo $! >"$file.nbdfuse-pid"
	poll 10 test -s "$file" || {
		cat "$file.log" >&2
		die "row '$row': no disk"
	}
}

# slow_disk_rotates LOOP 0|1
slow_disk_rotates() {
	echo "$2" >"/sys/block/${1#/dev/}/queue/rotational"
}

# same_in_turn SOURCE DESTINATION: as same, without a seek from one to the other for each piece.
same_in_turn() {
	local sums=() file
	for file; do
		sums+=("$(dd if="$file" bs=16M iflag=direct status=none | cksum)")
	done
	[[ ${sums[0]} == "${sums[1]}" ]] || die "row '$row': $2 does not hold what $1 does"
}

# Where a request is long on its way and many are at once, the depth is all; kcopy is to find that it pays.
row_deep() {
	local source destination destinations pages size=$((quick ? 128 : 256)) fixed=()
	((size <= mib)) || size=$mib
	slow_disk_build || return 0
	slow_disk_new source "$size" --latency=20 --rate=600
	slow_disk_new destination "$size" --latency=20 --rate=600
	source=$(loop_new "$place/source" --direct-io=on) || die 'no loop device'
	destination=$(loop_new "$place/destination" --direct-io=on) || die 'no loop device'
	slow_disk_rotates "$source" 0
	slow_disk_rotates "$destination" 0
	destinations=("$destination")
	prepare() { devices_fresh; }
	contestant kcopy kcopy
	run_kcopy() { "$kcopy" -q "$source" "$destination"; }
	for pages in 1024 2048 4096 16384; do
		contestant "fixed$pages" "kcopy --pages=$pages"
		eval "run_fixed$pages() { '$kcopy' -q --pages=$pages '$source' '$destination'; }"
		fixed+=("fixed$pages")
	done
	contestant dd 'dd bs=16M iflag=direct oflag=direct conv=fsync'
	run_dd() { dd if="$source" of="$destination" bs=16M iflag=direct oflag=direct conv=fsync; }
	if there nbdcopy; then
		contestant nbdcopy "$nbdcopy_label"
		run_nbdcopy() { nbdcopy_copy "$source" "$destination"; }
	fi
	prepare
	run_once kcopy
	same_in_turn "$source" "$destination"
	contest $((rounds < 3 ? rounds : 3))
	heading "$size MiB between disks of 20 ms latency and 600 MiB/s, any number of requests at once"
	claim_best faster 0.97 "${fixed[@]:0:3}"
	claim fixed16384
	claim dd faster 1.5
	claim nbdcopy
}

# Within one disk that has to seek: how long one side is read before the other one is written.
row_spindle() {
	local size=$((quick ? 64 : 96)) depth
	((size <= mib)) || size=$mib
	slow_disk_build || return 0
	for depth in 1 32; do
		spindle_contest "$depth"
	done
}

# spindle_contest DEPTH: of so many requests that wait, the disk takes one that needs no seek first.
spindle_contest() {
	local disk source destination destinations depth=$1 order='in their order' name
	slow_disk_new "disk$depth" $((2 * size + 3)) --seek=8 --rate=150 --queue="$depth"
	disk=$(partitions_new "$place/disk$depth" "start=1MiB, size=${size}MiB" "start=$((size + 1))MiB, size=${size}MiB") ||
		die 'no loop device'
	losetup --direct-io=on "$disk" || die 'no direct I/O'
	slow_disk_rotates "$disk" 1
	source=${disk}p1 destination=${disk}p2
	destinations=("$destination")
	row_begin
	prepare() { devices_fresh; }
	contestant kcopy kcopy
	run_kcopy() { "$kcopy" -q "$source" "$destination"; }
	contestant dd16 'dd bs=16M iflag=direct oflag=direct conv=fsync'
	run_dd16() { dd if="$source" of="$destination" bs=16M iflag=direct oflag=direct conv=fsync; }
	if ((depth == 1)); then
		contestant dd1 'dd bs=1M iflag=direct oflag=direct conv=fsync'
		run_dd1() { dd if="$source" of="$destination" bs=1M iflag=direct oflag=direct conv=fsync; }
		if there ddrescue; then
			contestant ddrescue "$ddrescue_label"
			run_ddrescue() { ddrescue_copy "$source" "$destination"; }
		fi
	else
		order="without a seek first, of $depth"
	fi
	prepare
	run_once kcopy
	same_in_turn "$source" "$destination"
	contest $((rounds < 3 ? rounds : 3))
	heading "$size MiB within one disk (8 ms a seek, 150 MiB/s), requests $order"
	# Not 1: before it copies, kcopy looks at what is on both, some ten seeks, and its first turn is a short one.
	claim dd16 faster 0.8
	claim dd1 faster 1.5
	claim ddrescue faster 1.5
}
