# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154
#
# Rows on loop devices that are as fast as the disk below them. Sourced by scripts/bench.

# disk NAME MIB [LOSETUP-ARGUMENT...]: a loop device with direct I/O over a file of which every block was
# written once, so that no round pays for the allocation; sets the variable NAME to it.
disk() {
	local file=$place/$1 name=$1 size=$2
	shift 2
	dd if=/dev/urandom of="$file" bs=1M count="$size" iflag=fullblock oflag=direct conv=fsync status=none || die "no room"
	printf -v "$name" %s "$(loop_new "$file" --direct-io=on "$@")"
	[[ -n ${!name} ]] || die "no loop device"
}

# same SOURCE DESTINATION MIB: or all measuring is void.
same() {
	sync
	[[ ! -b $2 ]] || blockdev --flushbufs "$2"
	cmp -n $(($3 << 20)) "$1" "$2" || die "row '$row': $2 does not hold what $1 does"
}

# wait_all PID...: non-zero if any of them failed.
wait_all() {
	local pid failed=0
	for pid; do
		wait "$pid" || failed=$?
	done
	return "$failed"
}

# Nobody finds in the page cache what another one left there, and nobody pays for writing it.
devices_fresh() {
	sync "${destinations[@]}"
	blockdev --flushbufs "$source" "${destinations[@]}"
}

# clone_begin COUNT MIB: $source and $destinations for it, and what every clone row compares with.
clone_begin() {
	local count=$1 mib=$2 i copy
	destinations=()
	disk source "$mib"
	for ((i = 1; i <= count; i++)); do
		disk copy "$mib"
		mv "$place/copy" "$place/copy$i"
		destinations+=("$copy")
	done
	prepare() { devices_fresh; }
	contestant kcopy kcopy
	run_kcopy() { "$kcopy" -q "$source" "${destinations[@]}"; }
	prepare kcopy
	run_once kcopy
	same "$source" "${destinations[-1]}" "$mib"

	if there fio; then
		fio_mib=$mib
		fio_choose "$source" "${destinations[@]}"
		contestant fio "$fio_label"
		run_fio() { fio_copy "$source" "${destinations[@]}"; }
		took_fio() { fio_microseconds; }
	fi
}

row_clone1() {
	local source destinations tool
	clone_begin 1 "$mib"
	for dd_bs in "${dd_sizes[@]}"; do
		contestant "dd$dd_bs" "dd bs=$dd_bs iflag=direct oflag=direct conv=fsync"
		eval "run_dd$dd_bs() { dd_direct \"\$source\" \"\${destinations[0]}\" $dd_bs; }"
	done
	if there qemu-img; then
		contestant qemu "$qemu_label"
		run_qemu() { qemu_copy "$source" "${destinations[0]}"; }
	fi
	if there nbdcopy; then
		contestant nbdcopy "$nbdcopy_label"
		run_nbdcopy() { nbdcopy_copy "$source" "${destinations[0]}"; }
	fi
	if there ddrescue && ((!quick)); then
		contestant ddrescue "$ddrescue_label"
		run_ddrescue() { ddrescue_copy "$source" "${destinations[0]}"; }
	fi
	# What it is compared with is near: more of them, for a median that says something.
	contest $((2 * rounds))
	heading "$mib MiB, one device to another"
	claim fio faster 0.97
	claim_best faster 1.5 "${dd_sizes[@]/#/dd}"
	claim qemu faster 1.1
	claim nbdcopy
	claim ddrescue
	claim_cpu
}

# claim_cpu: kcopy's user and system time against dd's; of its own only, since loop devices work in the kernel's threads.
# The target is for the dd that has as many requests as kcopy.
claim_cpu() {
	local ours theirs factor dd_bs
	factor=$(awk -v mib="$mib" 'BEGIN { printf "%.9g", 1e-6 * 1024 / mib }')
	# shellcheck disable=SC2086 # words
	ours=$(scaled "$factor" ${cpu[kcopy]})
	result 'processor time per GiB copied' s "$ours" '' '' told ''
	for dd_bs in "${dd_sizes[@]}"; do
		# shellcheck disable=SC2086 # words
		theirs=$(scaled "$factor" ${cpu[dd$dd_bs]})
		if [[ $dd_bs == 1M ]]; then
			result 'processor time per GiB copied' s "$ours" "${label[dd$dd_bs]}" "$theirs" atmost 0.5
		else
			result 'processor time per GiB copied' s "$ours" "${label[dd$dd_bs]}" "$theirs" share ''
		fi
	done
}

# clone_many COUNT MIB
clone_many() {
	local source destinations destination
	clone_begin "$1" "$2"
	dd_choose "$source" "${destinations[0]}" "$2"
	contestant dd "$1 x $dd_label"
	run_dd() {
		local pids=()
		for destination in "${destinations[@]}"; do
			dd_direct "$source" "$destination" "$dd_bs" & pids+=($!)
		done
		wait_all "${pids[@]}"
	}
	if there dc3dd; then
		contestant dc3dd "$dc3dd_label"
		run_dc3dd() { dc3dd_copy "$source" "${destinations[@]}"; }
	fi
	if there dcfldd; then
		contestant dcfldd "$dcfldd_label"
		run_dcfldd() { dcfldd_copy "$source" "${destinations[@]}"; }
	fi
	contest "$rounds"
	heading "$2 MiB, one device to $1"
	claim fio faster 0.97
	claim_best faster 2 dd dc3dd dcfldd
}

row_clone3() {
	clone_many 3 $((quick ? mib : mib / 2))
}

row_clone8() {
	clone_many 8 $((quick ? mib / 2 : mib / 4))
}

row_start() {
	local source destination
	disk source 1
	disk destination 1
	contestant kcopy kcopy
	run_kcopy() { "$kcopy" -q "$source:0+8" "$destination"; }
	contestant dd 'dd bs=4096 count=1 iflag=direct oflag=direct conv=fsync'
	run_dd() { dd if="$source" of="$destination" bs=4096 count=1 iflag=direct oflag=direct conv=fsync; }
	run_short kcopy
	run_short dd
	contest $((rounds * 10)) run_short
	# shellcheck disable=SC2086 # words
	{
		result '8 sectors, start to exit' ms "$(scaled 1e-3 ${times[kcopy]})" '' '' told ''
		result '8 sectors, start to exit' ms "$(scaled 1e-3 ${times[kcopy]})" "${label[dd]}" "$(scaled 1e-3 ${times[dd]})" \
			atmost 2
	}
}
