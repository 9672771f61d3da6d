# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Helpers of the scripts in tests/vm. These run as root in a machine of scripts/vm-run, which is theirs: they own all
# its devices and leave them as they are at the end. Every check is one line of TAP; what goes wrong in between fails
# the checks that follow. Never to be sourced anywhere else: it overwrites disks.

export ASAN_OPTIONS=${ASAN_OPTIONS:-exitcode=255}
export TSAN_OPTIONS=${TSAN_OPTIONS:-exitcode=255}

[[ -c /dev/vport0p3 && $$ -ne 1 ]] || {
	echo 'this is no machine of scripts/vm-run'
	exit 1
}

number=0       # of checks
disks=()       # what a refused copy must leave alone
missing=''     # why the checks of this scene cannot run
broken=''      # what went wrong when it was set
is_done=''
KCOPY_TIMEOUT=60

# -- checks --------------------------------------------------------------------------------------

# check SENTENCE COMMAND...: in a subshell that ends at the first command that fails (and, as in any shell, not at one
# with '&&' behind it).
check() {
	local sentence=$1 status
	shift
	number=$((number + 1))
	if [[ -n $missing ]]; then
		echo "ok $number - $sentence # skip needs $missing"
		return
	fi
	if [[ -n $broken ]]; then
		echo "not ok $number - $sentence: $broken"
		return
	fi
	(
		set -e
		"$@"
	) >/tmp/check.log 2>&1
	status=$?
	if ((status == 0)); then
		echo "ok $number - $sentence"
	else
		echo "not ok $number - $sentence"
		sed 's/^/# /' /tmp/check.log
	fi
}

# known SENTENCE COMMAND...: a check that is known to fail; HACKING.md says why. It is not run, and counted as skipped.
known() {
	number=$((number + 1))
	echo "ok $number - $1 # skip a known fault: see HACKING.md"
}

# The last line of a script. One that ends before it has failed.
done_checking() {
	scene
	echo "1..$number"
	is_done=yes
}
trap '[[ -n $is_done ]] || echo "not ok $((number + 1)) - ended before its end"' EXIT

# scene: takes down all that stands on disks; the next checks need nothing yet.
scene() {
	missing='' broken='' disks=()
	take_down >/tmp/scene.log 2>&1
}

# need COMMAND|'MODULE PARAMETER...'...: the checks up to the next scene are skipped if one of them is not there; modules
# are loaded.
need() {
	local what words
	for what; do
		read -ra words <<<"$what"
		command -v "$what" >/dev/null || modprobe "${words[@]}" 2>/dev/null ||
			missing=${missing:-${words[0]}$(without "${words[0]}")}
	done
}

# without MODULE: why it is not there, if it was to be built
without() {
	[[ ! -s /vm/without-$1 ]] || echo ": $(</vm/without-"$1")"
}

# arrange COMMAND...: sets the scene, unless something is missing.
arrange() {
	[[ -z $missing && -z $broken ]] || return
	forget
	"$@" >/tmp/arrange.log 2>&1 || {
		broken="'$*' failed: $(tail -n 1 /tmp/arrange.log)"
		sed 's/^/# /' /tmp/arrange.log
	}
}

# -- disks ---------------------------------------------------------------------------------------

# ramdisks NUMBER MIB: /dev/ram0 ..., watched; each is full of other data.
ramdisks() {
	local disk
	modprobe brd rd_nr="$1" rd_size=$(($2 * 1024)) || return
	for ((disk = 0; disk < $1; disk++)); do
		[[ -s /tmp/random$disk ]] || head -c $(($2 << 20)) /dev/urandom >"/tmp/random$disk"
		waitfor "/dev/ram$disk" && cat "/tmp/random$disk" >"/dev/ram$disk" || return
		disks+=("/dev/ram$disk")
	done
}

# fill DEVICE: random data up to its end.
fill() {
	dd if=/dev/urandom of="$1" bs=64K count="$(blockdev --getsize64 "$1")" iflag=fullblock,count_bytes conv=fsync status=none
}

# What is on disks is seen, not what caches remember.
fresh() {
	sync
	echo 1 >/proc/sys/vm/drop_caches
}

# content DEVICE|FILE SECTOR COUNT FILE: that part of it, into a file.
content() {
	fresh
	dd if="$1" of="$4" bs=1M iflag=skip_bytes,count_bytes skip=$(($2 * 512)) count=$(($3 * 512)) status=none
}

# dm NAME 'START COUNT TARGET ...'...: a device-mapper device with these lines.
dm() {
	local name=$1
	shift
	printf '%s\n' "$@" | dmsetup create "$name" && waitfor "/dev/mapper/$name"
}

# linear NAME DEVICE SECTOR COUNT
linear() {
	dm "$1" "0 $4 linear $2 $3"
}

# gated NAME DEVICE SECTOR COUNT: the first COUNT sectors of DEVICE, of which those from SECTOR on do not answer until
# 'hangs_no_more NAME-gate'.
gated() {
	linear "$1-gate" "$2" "$3" $(($4 - $3)) && hangs "$1-gate" &&
		dm "$1" "0 $3 linear $2 0" "$3 $(($4 - $3)) linear /dev/mapper/$1-gate 0"
}

# hangs NAME: a device-mapper device answers nothing any more, until it does again.
hangs() {
	dmsetup suspend --noflush --nolockfs "$1"
}

hangs_no_more() {
	dmsetup resume "$1"
}

# attach FILE|DEVICE [LOSETUP-ARGUMENT...]: a loop device over it, as $loop.
attach() {
	loop=$(losetup -f --show "${@:2}" "$1") && waitfor "$loop"
}

# scsi_disk: the disk of scsi_debug, which stands in for a real one, as $sd.
scsi_disk() {
	local block
	waitfor /sys/bus/pseudo/drivers/scsi_debug/adapter0 || return
	for block in /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*:*/block/*; do
		sd=${block##*/}
	done
	waitfor "/dev/$sd" && disks+=("/dev/$sd")
}

# scsi_set PARAMETER VALUE: of scsi_debug
scsi_set() {
	echo "$2" >"/sys/bus/pseudo/drivers/scsi_debug/$1"
}

# pulled: as scsi_disk, to be pulled out by pull; each command takes a while, so that there is a middle.
pulled() {
	scsi_disk && fill "/dev/$sd" && scsi_set ndelay 50000000
}
pull() {
	echo 1 >"/sys/block/$sd/device/delete"
}

# null_disk NAME KEY=VALUE...: a disk /dev/NAME of null_blk, with these settings.
null_disk() {
	local dir=/sys/kernel/config/nullb/$1 setting
	mkdir "$dir" || return
	for setting in memory_backed=1 "${@:2}" power=1; do
		echo "${setting#*=}" >"$dir/${setting%%=*}" || return
	done
	waitfor "/dev/$1"
}

# transfers DEVICE read|write|flush: how many of them it has ended since it is there; ramdisks do not count
transfers() {
	local -A column=([read]=0 [write]=4 [flush]=15)
	local stat
	read -ra stat <"/sys/dev/block/$(printf '%d:%d' "0x$(stat -Lc %t "$1")" "0x$(stat -Lc %T "$1")")/stat"
	echo "${stat[${column[$2]}]}"
}

# more_transfers DEVICE KIND NUMBER: is it more than so many by now?
more_transfers() {
	(($(transfers "$1" "$2") > $3))
}

# -- bad sectors, of a disk of $SECTORS ------------------------------------------------------------

# scatter NUMBER MOST: bad=(START+COUNT ...), so many areas of up to MOST sectors anywhere on the disk, never two adjacent
# ones.
scatter() {
	local room=$((SECTORS / $1)) area count
	bad=()
	for ((area = 0; area < $1; area++)); do
		count=$((1 + RANDOM % $2))
		bad+=("$((area * room + RANDOM % (room - count - 1) + 1))+$count")
	done
}

# failing NAME DEVICE: a device-mapper device that has only errors in the areas of bad, and is DEVICE elsewhere.
failing() {
	local area at=0 start count table=()
	for area in "${bad[@]}"; do
		start=${area%+*} count=${area#*+}
		((start == at)) || table+=("$at $((start - at)) linear $2 $at")
		table+=("$start $count error")
		at=$((start + count))
	done
	((at == SECTORS)) || table+=("$at $((SECTORS - at)) linear $2 $at")
	dm "$1" "${table[@]}"
}

# null_bad +|-: the disk nullb0 fails in the areas of bad from now on, or does not any more.
null_bad() {
	local area
	for area in "${bad[@]}"; do
		echo "$1${area%+*}-$((${area%+*} + ${area#*+} - 1))" >/sys/kernel/config/nullb/nullb0/badblocks || return
	done
}

# how_many: sectors of bad
how_many() {
	local area sum=0
	for area in "${bad[@]}"; do
		((sum += ${area#*+}))
	done
	echo $sum
}

# leave_out FILE: the areas of bad in /tmp/expected become what FILE has there.
leave_out() {
	local area
	for area in "${bad[@]}"; do
		dd if="$1" of=/tmp/expected bs=512 skip="${area%+*}" seek="${area%+*}" count="${area#*+}" conv=notrunc status=none
	done
}

# Whatever stands on what: mounts and swap first, then what holds nothing of another, as often as it takes.
take_down() {
	local device
	for device in /sys/block/dm-*/dm/name; do
		[[ ! -e $device ]] || hangs_no_more "$(<"$device")"
	done
	while read -r device _; do
		[[ $device != /dev/* ]] || swapoff "$device"
	done </proc/swaps
	while read -r device _; do
		[[ $device != /dev/* ]] || umount "$device"
	done </proc/mounts
	for _ in 1 2 3 4 5; do
		is_standing || break
		dmsetup remove_all
		for device in /sys/block/md*; do
			[[ ! -e $device ]] || mdadm --stop "/dev/${device##*/}"
		done
		losetup -D
	done
	for device in /sys/kernel/config/nullb/*/; do
		[[ ! -d $device ]] || rmdir "$device"
	done
	rmmod scsi_debug
	rmmod brd
	forget
}

is_standing() {
	compgen -G '/sys/block/dm-*' || compgen -G '/sys/block/md*' || compgen -G '/sys/block/loop*/loop/backing_file'
}

# -- running kcopy -------------------------------------------------------------------------------

# run COMMAND...: its $status; all that it said is in $output.
run() {
	status=0
	output=$(timeout -k 5 "$KCOPY_TIMEOUT" "$@" 2>&1 </dev/null) || status=$?
	echo "\$ $*"
	echo "$output"
	echo "status $status"
}

# begin COMMAND...: the same, beside what follows; finish waits for its end. One at a time.
begin() {
	timeout -k 5 "$KCOPY_TIMEOUT" "$@" >/tmp/said 2>&1 </dev/null &
	begun=$!
	echo "\$ $* &"
}

finish() {
	status=0
	wait "$begun" || status=$?
	output=$(</tmp/said)
	echo "$output"
	echo "status $status"
}

# ended: has what was begun?
ended() {
	! kill -0 "$begun" 2>/dev/null
}

# until_true SECONDS COMMAND...: fails if that long has passed and the command has never succeeded.
until_true() {
	local end=$((SECONDS + $1 + 1))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || {
			cat /tmp/said
			fail "not within the time: $*" || return
		}
		usleep 20000
	done
}

fail() {
	echo "$*"
	return 1
}

assert_status() {
	[[ $status -eq $1 ]] || fail "expected status $1"
}

# assert_said PATTERN: an extended regular expression, any case, within one line.
assert_said() {
	is_said "$1" || fail "nowhere '$1'"
}

assert_not_said() {
	! is_said "$1" || fail "'$1' should not be there"
}

is_said() {
	local line
	shopt -s nocasematch
	while read -r line; do
		[[ ! $line =~ $1 ]] || return 0
	done <<<"$output"
	return 1
}

# What all disks hold, as /tmp/remembered has it until something is said to change it.
everything() {
	fresh
	sha256sum -- "${disks[@]}"
}

remember() {
	[[ -s /tmp/remembered ]] || everything >/tmp/remembered
}

forget() {
	rm -f /tmp/remembered
}

assert_unchanged() {
	everything >/tmp/now
	[[ $(</tmp/now) == "$(</tmp/remembered)" ]] || fail 'it changed something:' "$(diff /tmp/remembered /tmp/now)"
}

# refuses PATTERN ARGUMENT...: kcopy with these arguments does, says this, and changes nothing.
refuses() {
	local pattern=$1
	shift
	remember
	run kcopy "$@"
	assert_status 128 && assert_said "$pattern" && assert_unchanged
}

# assert_holds DEVICE SECTOR COUNT: it holds what is in /tmp/expected.
assert_holds() {
	content "$1" "$2" "$3" /tmp/found
	cmp /tmp/found /tmp/expected || fail "$1 does not hold it"
}

# copies SOURCE SECTOR COUNT DEST SECTOR [ARGUMENT...]: kcopy does, the destination holds it, the source still does.
copies() {
	content "$1" "$2" "$3" /tmp/expected
	forget
	run kcopy "${@:6}" "$1:$2+$3" "$4:$5"
	assert_status 0 && assert_holds "$4" "$5" "$3" && assert_holds "$1" "$2" "$3"
}
