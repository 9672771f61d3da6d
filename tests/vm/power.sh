#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Power cuts. A copy with --map runs in a machine whose disks, the map's own too, lose what was not flushed; the machine
# is killed at a random moment and started again with the same disks and the same command line, until the copy ends.
# After each cut the maps are looked at from outside: what they claim is on the disks. Unlike the other files here this
# one runs on the host, and needs no root.
#
#   KCOPY               the program (default: the one in PATH)
#   KCOPY_POWER_CUTS    so many of them (default 3); if 10 or more, one of them when a map was saved by the clock
#   KCOPY_TEST_SEED     for the same moments again, as far as a machine is as fast again
set -u

vm_run=$(cd "${0%/*}/../../scripts" && pwd)/vm-run
cuts=${KCOPY_POWER_CUTS:-3}
SIZE=$((24 << 20))
RATE=$((6 << 20)) # bytes a second that a destination takes: what is cut has to last for a while
PATH+=:/usr/sbin:/sbin

skip() {
	echo "1..0 # SKIP $*"
	exit 0
}
for tool in mkfs.ext4 e2fsck debugfs python3; do
	command -v $tool >/dev/null || skip "$tool is not installed (scripts/install-deps vm)"
done

dir=$(mktemp -d "${TMPDIR:-/var/tmp}/kcopy-power.XXXXXX")
child=
cleanup() {
	[[ -z $child ]] || kill "$child" 2>/dev/null
	wait
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 143' TERM INT HUP

RANDOM=${KCOPY_TEST_SEED:=$((RANDOM % 32768))}
echo "# KCOPY_TEST_SEED=$KCOPY_TEST_SEED"
number=0

# verdict STATUS SENTENCE: one line of TAP; what $dir/log holds explains a failure.
verdict() {
	number=$((number + 1))
	if [[ $1 -eq 0 ]]; then
		echo "ok $number - $2"
	else
		echo "not ok $number - $2"
		sed 's/^/# /' "$dir/log"
	fi
}

# new_disks: the source, two destinations with other data, and a file system for the maps.
new_disks() {
	local name
	for name in source first second; do
		head -c $SIZE /dev/urandom >"$dir/$name" || return
	done
	rm -f "$dir/maps"
	truncate -s 8M "$dir/maps" && mkfs.ext4 -q -F -b 1024 -J size=1 "$dir/maps"
}

# What runs in the machine: kcopy, and in short turns a signal ends it and it is started again, so that maps are saved.
# ext4 does nothing for files that are replaced by a rename.
guest() {
	cat <<-'END'
		mount -t ext4 -o noauto_da_alloc /dev/vda /mnt || exit 99
		RANDOM=$1 turn=$2
		[ $turn = short ] || {
			until grep -q '^0x.*+$' /mnt/map.1; do sleep 1; done 2>/dev/null
			echo "the map has something"
		} &
		while :; do
			kcopy -p 64 --map=/mnt/map /dev/vdb /dev/vdc /dev/vdd &
			[ $turn = long ] || {
				usleep $((RANDOM % 1000 + 300))000
				kill -TERM $!
			}
			wait $!
			status=$?
			echo "ended with $status"
			[ $status -eq 143 ] || break
		done
		[ $status -ne 0 ] || sleep 60
		exit $status
	END
}

# machine MODE DISK-OPTIONS TURN VM-RUN-OPTION...: 137 if the power was cut. What was said is in the log.
machine() {
	local mode=$1 options=$2 turn=$3 seed=$RANDOM
	shift 3
	[[ $mode = all ]] || mode+=:$seed
	guest >"$dir/guest"
	echo "-- disks lose: $mode; $*" >"$dir/log"
	"$vm_run" --cpus 1 --bin "${KCOPY:-kcopy}:/bin/kcopy" -d "$dir/maps,volatile=$mode" -d "$dir/source,snapshot" \
		-d "$dir/first,volatile=$mode$options" -d "$dir/second,volatile=$mode$options" "$@" \
		"$dir/guest" "$seed" "$turn" >>"$dir/log" 2>&1 </dev/null &
	child=$!
	wait "$child"
	status=$?
	child=
	if [[ $status -eq 77 ]]; then
		grep '^1\.\.0' "$dir/log"
		exit 0
	fi
}

# Whatever the maps on their disk claim is on the destinations' disks; the bytes that are claimed, as $claimed.
check_maps() {
	cp "$dir/maps" "$dir/maps.now"
	e2fsck -fy "$dir/maps.now" >"$dir/e2fsck" 2>&1 # replays its journal, as a mount would
	if [[ $? -ge 4 ]]; then
		cat "$dir/e2fsck" >>"$dir/log"
		return 1
	fi
	rm -f "$dir"/map.?
	debugfs -R "dump /map.1 $dir/map.1" "$dir/maps.now" >/dev/null 2>&1
	debugfs -R "dump /map.2 $dir/map.2" "$dir/maps.now" >/dev/null 2>&1
	python3 - "$dir" "$SIZE" >"$dir/claimed" 2>>"$dir/log" <<-'END' || return
		import os
		import sys

		directory, size = sys.argv[1], int(sys.argv[2])
		claimed = 0
		source = open(directory + "/source", "rb").read()
		for name, disk in (("map.1", "first"), ("map.2", "second")):
		    path = directory + "/" + name
		    if not os.path.exists(path):
		        continue
		    data, at = open(directory + "/" + disk, "rb").read(), 0
		    with open(path, encoding="ascii") as file:
		        lines = [line.split() for line in file if line.strip() and not line.startswith("#")]
		    if not lines:
		        sys.exit("%s is empty" % name)
		    for start, count, status in lines[1:]:
		        start, count = int(start, 0), int(count, 0)
		        if start != at or status not in "+?":
		            sys.exit("%s: a block that cannot be: %#x %#x %s" % (name, start, count, status))
		        at = start + count
		        if status == "+":
		            claimed += count
		            if source[start:at] != data[start:at]:
		                sys.exit("%s claims %#x bytes at %#x, which the %s destination does not hold" % (name, count, start, disk))
		    if at != size:
		        sys.exit("%s ends at %#x" % (name, at))
		print(claimed)
	END
	claimed=$(<"$dir/claimed")
}

# cut LEAST SECONDS TURN RATE [VM-RUN-OPTION...]: cuts the power so long after the machine began; the maps have to claim
# LEAST bytes. False if the copy ended before.
cut() {
	local mode=${modes[count % 3]} result least=${1#0}
	machine "$mode" ",rate=$4" "$3" --kill-after "$2" "${@:5}"
	if grep -q 'ended with 0' "$dir/log"; then
		echo "# the copy ended before cut $((count + 1))"
		return 1
	fi
	count=$((count + 1))
	[[ $status -eq 137 ]] && check_maps && echo "the maps claim $claimed bytes" >>"$dir/log" && ((claimed >= $1))
	result=$?
	verdict $result "power cut $count (lost: $mode): what the maps claim is on the disks${least:+, and it is something}"
	sed -n "s|^vm-run: \($dir/\)\?|# |p" "$dir/log"
	[[ $result -ne 0 ]] || echo "# the maps claim $claimed bytes"
}

# finish: without haste, and the power is cut when it has ended with 0.
finish() {
	local result
	machine all '' long --kill-on 'ended with 0' --timeout 90
	[[ $status -eq 137 ]] && cmp "$dir/source" "$dir/first" >>"$dir/log" 2>&1 &&
		cmp "$dir/source" "$dir/second" >>"$dir/log" 2>&1 && check_maps && [[ $claimed -eq $((2 * SIZE)) ]]
	result=$?
	verdict $result "resumed after $count cuts it ends with 0, and with the power cut then the disks are identical"
}

modes=(all rand prefix)
count=0
while ((count < cuts)); do
	new_disks >"$dir/log" 2>&1 || {
		verdict 1 'there are disks'
		break
	}
	# After 30 s it is saved by the clock.
	if ((cuts >= 10 && count == 0)); then
		cut 1 "$((RANDOM % 5)).$((RANDOM % 10))" long $((SIZE / 45)) --kill-on 'the map has something'
	fi
	# The first when there is a map; the others whenever it may be.
	cut 1 "$((RANDOM % 2)).$((RANDOM % 10))" short $RATE --kill-on 'ended with 143' &&
		((count < cuts)) && cut 0 "$((RANDOM % 3)).$((RANDOM % 6 + 4))" short $RATE &&
		((count < cuts)) && cut 0 "$((RANDOM % 3)).$((RANDOM % 6 + 4))" short $RATE
	finish
done
echo "1..$number"
