# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154
#
# The tools that kcopy is compared with, each with the options that make it fastest and its copy durable. What is
# chosen by measuring (block sizes, depths) is chosen in a first pass of the row. Sourced by scripts/bench.

# tool => package, as scripts/install-deps calls it
declare -A package=([fio]=fio [nbdcopy]=libnbd-bin [nbdfuse]=libnbd-bin [nbdkit]=nbdkit [qemu-img]=qemu-utils
	[ddrescue]=gddrescue [dc3dd]=dc3dd [dcfldd]=dcfldd [perf]=linux-perf [fincore]=util-linux-extra
	[/usr/bin/time]=time [cc]=gcc [pkg-config]=pkg-config)

# there TOOL...: are all of them?
there() {
	local tool
	for tool; do
		command -v "$tool" >/dev/null || return
	done
}

# has TOOL...: or the row is skipped.
has() {
	local tool
	for tool; do
		there "$tool" || {
			skipped "needs $tool (${package[$tool]})"
			return 1
		}
	done
}

tell_missing() {
	local tool missing=''
	for tool in "${!package[@]}"; do
		there "$tool" || missing+=" $tool"
	done
	[[ -z $missing ]] || echo "Not installed, so not measured or not compared with:$missing ('scripts/install-deps bench')"
}

missing_json() {
	local tool missing=''
	for tool in "${!package[@]}"; do
		there "$tool" || missing+="${missing:+, }\"$tool\""
	done
	printf '[%s]' "$missing"
}

# -- dd ------------------------------------------------------------------------------------------

dd_sizes=(1M 4M 16M)

# dd_direct SOURCE DESTINATION BS
dd_direct() {
	dd if="$1" of="$2" bs="$3" iflag=direct oflag=direct conv=fsync
}

# dd_choose SOURCE DESTINATION MIB: the block size, $dd_bs, that copies the first MIB fastest.
dd_choose() {
	local source=$1 destination=$2 mib=$3 bs pass least=
	run_dd_try() {
		dd if="$source" of="$destination" bs="$bs" count=$((mib / ${bs%M})) iflag=direct oflag=direct conv=fsync,notrunc
	}
	label[dd_try]='dd'
	for pass in 1 2; do
		for bs in "${dd_sizes[@]}"; do
			run_once dd_try
			[[ -n $least ]] && ((elapsed >= least)) || least=$elapsed dd_bs=$bs
		done
	done
	dd_label="dd bs=$dd_bs iflag=direct oflag=direct conv=fsync"
}

# -- fio, the limit ------------------------------------------------------------------------------

# fio_memory_choose: huge-page buffers, as the limit is not what small pages allow. The kernel gives huge pages that
# nobody reserved if it may; what was allowed before comes back at the end.
fio_memory_choose() {
	local allowed=/proc/sys/vm/nr_overcommit_hugepages
	[[ -z ${fio_memory:-} ]] || return 0
	fio_memory=malloc
	if [[ -r $allowed ]] && overcommit_was=$(<"$allowed") && { echo 1024 >"$allowed"; } 2>/dev/null; then
		fio_memory=mmaphuge
	else
		overcommit_was=
	fi
}

fio_memory_restore() {
	[[ -z ${overcommit_was:-} ]] || echo "$overcommit_was" >/proc/sys/vm/nr_overcommit_hugepages
}

# fio_copy SOURCE DESTINATION...: reads the first and writes the others at the same time, $fio_mib of each, with
# $fio_bs and $fio_depth, and flushes.
fio_copy() {
	local jobs=(--name=read --rw=read --filename="$1") i=0 destination
	shift
	for destination; do
		jobs+=(--name=write$((++i)) --rw=write --filename="$destination" --end_fsync=1)
	done
	fio --output-format=json --output="$place/fio.json" --thread --ioengine=libaio --direct=1 --invalidate=0 \
		--iomem="$fio_memory" --scramble_buffers=0 --gtod_reduce=1 --size="${fio_mib}M" --bs="$fio_bs" \
		--iodepth="$fio_depth" "${jobs[@]}"
}

# From its start of all jobs at once to the end of the last one, with the flush: without its own start.
fio_microseconds() {
	awk '/"job_runtime"/ { gsub(/[^0-9]/, ""); if ($0 + 0 > most) most = $0 + 0 } END { printf "%d", most * 1000 }' "$place/fio.json"
}

# fio_choose SOURCE DESTINATION...: $fio_bs and $fio_depth with which half of $fio_mib takes least. All are tried once,
# the four best twice more, and the best single time decides.
fio_choose() {
	local whole=$fio_mib shapes=(256k:8 256k:32 512k:4 512k:8 512k:16 1M:2 1M:4 1M:8 1M:16 1M:32) shape best
	(($# == 2)) || shapes=(256k:16 512k:8 1M:4 1M:8 1M:16)
	((!quick)) || shapes=(512k:8 1M:4 1M:16)
	fio_memory_choose
	run_fio_try() { fio_copy "${fio_operands[@]}"; }
	took_fio_try() { fio_microseconds; }
	fio_operands=("$@")
	label[fio_try]=fio
	: >"$place/fio.tries"
	fio_mib=$((whole / 2 > 0 ? whole / 2 : 1))
	fio_try "${shapes[@]}"
	mapfile -t best < <(sort -n "$place/fio.tries" | head -n 4 | cut -d ' ' -f 2)
	fio_try "${best[@]}" "${best[@]}"
	read -r _ shape < <(sort -n "$place/fio.tries")
	fio_bs=${shape%:*} fio_depth=${shape#*:} fio_mib=$whole
	fio_label="fio, 1 read + $(($# - 1)) write at once: bs=$fio_bs iodepth=$fio_depth iomem=$fio_memory, fsync"
}

# fio_try SHAPE...
fio_try() {
	local shape
	for shape; do
		fio_bs=${shape%:*} fio_depth=${shape#*:}
		run_once fio_try
		echo "$elapsed $shape" >>"$place/fio.tries"
	done
}

# -- the others ----------------------------------------------------------------------------------

qemu_label='qemu-img convert -n -W -t none -T none'
# qemu_copy SOURCE DESTINATION, which is there
qemu_copy() {
	qemu-img convert -f raw -O raw -n -W -t none -T none "$1" "$2"
}

nbdcopy_label='nbdcopy --flush'
nbdcopy_copy() {
	nbdcopy --flush "$1" "$2"
}

ddrescue_label='ddrescue --idirect --odirect -c 2048, sync'
ddrescue_copy() {
	ddrescue --quiet --force --idirect --odirect --cluster-size=2048 "$1" "$2" && sync "$2"
}

dc3dd_label='dc3dd with several of=, bufsz=1M, sync'
dc3dd_copy() {
	local source=$1
	shift
	dc3dd if="$source" "${@/#/of=}" bufsz=1M && sync "$@"
}

dcfldd_label='dcfldd with several of=, bs=1M, sync'
dcfldd_copy() {
	local source=$1
	shift
	dcfldd if="$source" "${@/#/of=}" bs=1M status=off && sync "$@"
}
