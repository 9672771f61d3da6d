# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Block devices and files for tests, comparisons and benchmarks: loop devices, partitions, small file
# systems, devices that fail or are slow. Everything is made below one scratch directory, and
# devices_free finds it again by that directory's name alone: there is no list that a killed test
# could lose, and nothing that others have set up is ever touched.
#
# Sourced by tests/lib.bash, tests/compare and scripts/bench. Prints a device's name on standard
# output, complaints on standard error; returns non-zero on failure; never exits.

# poll SECONDS COMMAND...: until the command succeeds; non-zero when the time is over.
poll() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		((SECONDS < deadline)) || return 1
		sleep 0.02
	done
}

# scratch_new: a new scratch directory that everybody may enter; prints its name, without symlinks.
scratch_new() {
	local dir
	dir=$(mktemp -d "${TMPDIR:-/var/tmp}/kcopy.XXXXXXXX") || return
	chmod 755 "$dir" && realpath "$dir"
}

# loop_new FILE [LOSETUP-ARGUMENT...]: prints the loop device's name. Another process may take the
# free device between losetup's look and its claim, so it is tried again.
loop_new() {
	local file=$1 try loop
	shift
	for ((try = 0; try < 20; try++)); do
		if loop=$(losetup -f --show "$@" -- "$file" 2>"$file.losetup"); then
			rm -f "$file.losetup"
			# Without udev or devtmpfs nobody makes the node.
			[[ -b $loop ]] || node_make "$loop" || return
			queue_default "$loop"
			# An earlier user's 'blockdev --setro' stays with the device, too.
			[[ " $* " == *' --read-only '* || " $* " == *' -r '* ]] || blockdev --setrw "$loop"
			echo "$loop"
			return
		fi
		sleep 0.1
	done
	cat "$file.losetup" >&2
	return 1
}

# loops_below DIR: the names of the loop devices whose backing files are below DIR, and of those over such a device or a
# partition of it; what is above comes first, as it has to be freed first.
loops_below() {
	local entry backing found='' more=1
	while ((more)); do
		more=0
		for entry in /sys/block/loop*/loop/backing_file; do
			{ read -r backing <"$entry"; } 2>/dev/null || continue
			entry=${entry#/sys/block/}
			entry=/dev/${entry%%/*}
			[[ " $found " != *" $entry "* ]] || continue
			if [[ $backing == "$1"/* || " $found " == *" $backing "* || " $found " == *" ${backing%p[0-9]*} "* ]]; then
				found="$entry $found"
				more=1
			fi
		done
	done
	# shellcheck disable=SC2086
	[[ -z $found ]] || printf '%s\n' $found
}

# node_make DEVICE: the device node, made from what the kernel says in /sys, if nobody else makes it.
node_make() {
	local name=${1#/dev/} numbers
	numbers=$(cat "/sys/class/block/$name/dev") || return
	mknod -m 600 "$1" b "${numbers%:*}" "${numbers#*:}" 2>/dev/null || [[ -b $1 ]]
}

# partitions_new FILE SFDISK-LINE...: writes a GPT with the given partitions (as sfdisk takes them:
# 'start=2048, size=4096') into FILE, sets up a loop device on it and prints its name; partition N is
# DEVICEpN. A kernel that does not read partition tables by itself is told of them (partx).
partitions_new() {
	local file=$1 loop part number=0
	shift
	printf '%s\n' 'label: gpt' "$@" | sfdisk -q --no-tell-kernel "$file" >&2 || return
	loop=$(loop_new "$file" --partscan) || return
	# losetup returns when the kernel has looked for a table.
	[[ -e /sys/class/block/${loop#/dev/}p1 ]] || partx -a "$loop" || return
	while ((number++ < $#)); do
		part=${loop}p$number
		poll 10 test -e "/sys/class/block/${part#/dev/}" || return
		poll 1 test -b "$part" || node_make "$part" || return
	done
	echo "$loop"
}

# partitions_add LOOP: the kernel knows the partitions of the table on it; partition N is LOOPpN. LOOP was made with
# --partscan: of another one they would still be there when it is gone, and when there is a next one of its name.
partitions_add() {
	local name=${1#/dev/} number part
	compgen -G "/sys/class/block/${name}p*" >/dev/null || partx -a "$1" || return
	for number in $(partx -g -o NR "$1"); do
		part=${1}p$number
		poll 10 test -e "/sys/class/block/${part#/dev/}" || return
		poll 1 test -b "$part" || node_make "$part" || return
	done
}

# tmpfs_new DIR SIZE: a file system of its own at DIR (which is made), of SIZE bytes.
tmpfs_new() {
	mkdir -p "$1" && mount -t tmpfs -o "size=$2,mode=755" kcopy-test "$1"
}

# bad_write_new NAME BYTES BAD-START BAD-BYTES [LOSETUP-ARGUMENT...]: a loop device of BYTES on which
# every write to BAD-START…BAD-START+BAD-BYTES fails, for good and exactly there (multiples of 4096),
# and every other one succeeds. Its backing file has a hole there, on a tmpfs that is full. NAME is
# the tmpfs's directory, below the scratch directory. The device holds 0x55 bytes, and zeros in the hole.
bad_write_new() {
	local dir=$1 bytes=$2 start=$3 bad=$4 loop
	shift 4
	tmpfs_new "$dir" $((bytes - bad + 4096)) || return
	truncate -s "$bytes" "$dir/image"
	fill_bytes "$dir/image" 0 "$start"
	fill_bytes "$dir/image" $((start + bad)) $((bytes - start - bad))
	# The last page that is left.
	dd if=/dev/zero of="$dir/filler" bs=4096 2>/dev/null
	loop=$(loop_new "$dir/image" "$@") || return
	# Of a request that has reached the hole half-way, the kernel's loop driver says that all went well: so
	# requests are of one page each.
	echo 4 >"/sys/block/${loop#/dev/}/queue/max_sectors_kb" && echo "$loop"
}

# fill_bytes FILE START BYTES [OCTAL]: that many bytes of one value (0x55, unless told), in place.
fill_bytes() {
	head -c "$3" /dev/zero | tr '\0' "\\${4:-125}" |
		dd of="$1" bs=1M iflag=fullblock oflag=seek_bytes seek="$2" conv=notrunc status=none
}

# nbd_file NAME NBDKIT-ARGUMENT...: a file NAME that is served by nbdkit through FUSE: every request
# to the file becomes one to nbdkit, with whatever filters it is given.
nbd_file() {
	local file=$1
	shift
	: >"$file"
	nbdkit -U "$file.socket" -P "$file.nbdkit-pid" "$@" </dev/null >"$file.nbdkit-log" 2>&1 3>&- 4>&- || return
	poll 10 test -s "$file.nbdkit-pid" || return
	# It stays in the foreground and complains of every failing request.
	nbdfuse -P "$file.nbdfuse-pid" "$file" --unix "$file.socket" \
		</dev/null >"$file.nbdfuse-log" 2>&1 3>&- 4>&- &
	poll 10 test -s "$file.nbdfuse-pid"
}

# bad_read_file NAME IMAGE START,BYTES... [-- NBDKIT-ARGUMENT...]: a read-only file NAME with IMAGE's content, but for the
# given ranges of bytes: reading any of them is EIO. IMAGE's length is a multiple of 512, and so are the ranges.
bad_read_file() {
	local file=$1 image=$2 range at=0 bytes ranges=()
	shift 2
	while (($#)) && [[ $1 != -- ]]; do
		ranges+=("$1")
		shift
	done
	bytes=$(stat -c %s "$image") || return
	{
		echo '0x0 + 1'
		for range in "${ranges[@]}"; do
			((at == ${range%,*})) || printf '0x%x 0x%x +\n' "$at" $((${range%,*} - at))
			printf '0x%x 0x%x -\n' "${range%,*}" "${range#*,}"
			at=$((${range%,*} + ${range#*,}))
		done
		((at == bytes)) || printf '0x%x 0x%x +\n' "$at" $((bytes - at))
	} >"$file.map"
	nbd_file "$file" --filter=ddrescue file "$image" ddrescue-mapfile="$file.map" "${@:2}"
}

# bad_read_new NAME IMAGE START,BYTES... [-- LOSETUP-ARGUMENT...]: the same as a loop device.
bad_read_new() {
	local file=$1 image=$2 ranges=()
	shift 2
	while (($#)) && [[ $1 != -- ]]; do
		ranges+=("$1")
		shift
	done
	bad_read_file "$file" "$image" "${ranges[@]}" && loop_new "$file" --direct-io=on "${@:2}"
}

# bad_write_file NAME IMAGE START,BYTES...: a file NAME that stores what is written to it in IMAGE; what touches one of
# the ranges of bytes fails, as often as the number in NAME.failures says, which counts down. NAME.requests has
# the offset and length of every write.
bad_write_file() {
	local file=$1 image=$2 range bad=''
	shift 2
	for range; do
		bad+="[ \$4 -ge $((${range%,*} + ${range#*,})) ] || [ \$((\$4 + \$3)) -le ${range%,*} ] || bad=yes
"
	done
	echo 1000000 >"$file.failures"
	: >"$file.requests"
	# One process for each request: for small files only. nbdkit expands none of this, its shell does.
	# shellcheck disable=SC2016
	nbd_file "$file" --filter=noparallel eval \
		get_size="stat -c %s '$image'" \
		pread="dd if='$image' iflag=skip_bytes,count_bytes skip=\$4 count=\$3 bs=1M status=none" \
		pwrite="echo \$4 \$3 >>'$file.requests'; bad=no; $bad
			left=\$(cat '$file.failures')
			if [ \$bad = yes ] && [ \$left -gt 0 ]; then echo \$((left - 1)) >'$file.failures'; echo EIO it is bad >&2; exit 1; fi
			dd of='$image' oflag=seek_bytes seek=\$4 bs=1M iflag=fullblock conv=notrunc status=none" \
		can_write='exit 0' can_flush='exit 0' flush='exit 0'
}

# bad_start_new NAME IMAGE BYTES: a loop device over IMAGE of which the first BYTES can be written, but not read.
bad_start_new() {
	local file=$1 image=$2
	# One process for each request: for small files only. nbdkit expands none of this, its shell does.
	# shellcheck disable=SC2016
	nbd_file "$file" eval \
		get_size="stat -c %s '$image'" \
		pread="if [ \$4 -lt $3 ]; then echo EIO a bad sector >&2; exit 1; fi
			dd if='$image' iflag=skip_bytes,count_bytes skip=\$4 count=\$3 bs=1M status=none" \
		pwrite="dd of='$image' oflag=seek_bytes seek=\$4 bs=1M iflag=fullblock conv=notrunc status=none" \
		can_write='exit 0' can_flush='exit 0' flush='exit 0' || return
	loop_new "$file" --direct-io=on
}

# bad_flush_file NAME IMAGE: a file that stores what is written to it in IMAGE and cannot be flushed.
bad_flush_file() {
	local file=$1 image=$2
	# One process for each request: for small files only. nbdkit expands none of this, its shell does.
	# shellcheck disable=SC2016
	nbd_file "$file" eval \
		get_size="stat -c %s '$image'" \
		pread="dd if='$image' iflag=skip_bytes,count_bytes skip=\$4 count=\$3 bs=1M status=none" \
		pwrite="dd of='$image' oflag=seek_bytes seek=\$4 bs=1M iflag=fullblock conv=notrunc status=none" \
		can_write='exit 0' can_flush='exit 0' flush='echo EIO the cache is lost >&2; exit 1'
}

# queue_default LOOP: what a new loop device has. A device keeps what was set when it is used again.
queue_default() {
	local queue=/sys/block/${1#/dev/}/queue
	{
		echo none >"$queue/scheduler"
		echo 128 >"$queue/nr_requests"
		# 0 is the default; older kernels do not know that.
		echo 0 >"$queue/max_sectors_kb" ||
			echo $(($(<"$queue/max_hw_sectors_kb") < 1280 ? $(<"$queue/max_hw_sectors_kb") : 1280)) >"$queue/max_sectors_kb"
	} 2>/dev/null
	! is_throttled "$1" || throttle "$1" 0
	return 0
}

# throttle_file: the one of our control group that limits the bytes written to a device; fails if it has none.
throttle_file() {
	local controllers path file
	while IFS=: read -r _ controllers path; do
		case ,$controllers, in
		*,blkio,*) file=/sys/fs/cgroup/blkio${path%/}/blkio.throttle.write_bps_device ;;
		,,) file=/sys/fs/cgroup${path%/}/io.max ;;
		*) continue ;;
		esac
		if [[ -w $file ]]; then
			echo "$file"
			# Without a number it would be, in a trap, the status before the trap.
			return 0
		fi
	done </proc/self/cgroup
	return 1
}

is_throttled() {
	local file number
	file=$(throttle_file) && number=$(cat "/sys/class/block/${1#/dev/}/dev") && grep -q "^$number " "$file"
}

# throttle LOOP BYTES: what we write to it, so many bytes a second; 0: as fast as it goes.
throttle() {
	local file number
	file=$(throttle_file) && number=$(cat "/sys/class/block/${1#/dev/}/dev") || return
	case $file in
	*/io.max) echo "$number wbps=$( (($2)) && echo "$2" || echo max)" ;;
	*) echo "$number $2" ;;
	esac >"$file"
}

# queue_shallow LOOP: a request queue like a USB stick's: 4 requests of 120 KiB.
queue_shallow() {
	local queue=/sys/block/${1#/dev/}/queue
	echo mq-deadline >"$queue/scheduler" && echo 4 >"$queue/nr_requests" && echo 120 >"$queue/max_sectors_kb"
}

# slow_new NAME IMAGE SECONDS: a loop device with a shallow queue that takes one request at a time and so
# long for each write (0.005, or 5ms); reads are fast.
slow_new() {
	local file=$1 image=$2 loop
	nbd_file "$file" --filter=noparallel --filter=delay file "$image" \
		serialize=all-requests delay-write="$3" || return
	loop=$(loop_new "$file" --direct-io=on) || return
	queue_shallow "$loop" && echo "$loop"
}

# throttled_new IMAGE BYTES: a loop device with a shallow queue over IMAGE that takes so many bytes a second. It is a
# device over the one that is throttled: else requests would wait before the queue, and it would never be full.
throttled_new() {
	local below loop
	throttle_file >/dev/null || return
	below=$(loop_new "$1" --direct-io=on) && throttle "$below" "$2" || return
	loop=$(loop_new "$below" --direct-io=on) && queue_shallow "$loop" && echo "$loop"
}

# devices_free DIR: everything above, wherever below DIR it was made; then DIR itself.
devices_free() {
	local dir=$1 mount swap loop pid
	[[ $dir == /*/kcopy.* && -d $dir ]] || return
	{
		while read -r swap _; do
			[[ $swap != "$dir"/* ]] || swapoff "$swap"
		done </proc/swaps
		for loop in $(loops_below "$dir"); do
			while read -r swap _; do
				[[ $swap != "$loop" ]] || swapoff "$swap"
			done </proc/swaps
			while read -r mount; do
				printf -v mount %b "$mount"
				umount "$mount" || umount -l "$mount"
			done < <(awk -v dev="$loop" '$1 == dev || index($1, dev "p") == 1 { print $2 }' /proc/mounts)
			queue_default "$loop"
			losetup -d "$loop"
		done
		poll 5 no_loops_below "$dir"
		while read -r pid; do
			poll 5 process_end "$pid" || kill -KILL "$pid"
		done < <(cat "$dir"/*.nbdfuse-pid)
		while read -r mount; do
			printf -v mount %b "$mount"
			umount "$mount" || umount -l "$mount"
		done < <(awk -v dir="$dir/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | tac)
		while read -r pid; do
			poll 5 process_end "$pid" || kill -KILL "$pid"
		done < <(cat "$dir"/*.nbdkit-pid)
	} 2>/dev/null
	rm -rf --one-file-system "$dir"
}

no_loops_below() {
	[[ -z $(loops_below "$1") ]]
}

# process_end PID: asks it to end; succeeds when it has gone.
process_end() {
	kill "$1" 2>/dev/null
	[[ ! -e /proc/$1 || $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) == Z* ]]
}
