#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What a RAID with parity is to write it gets in whole stripes, so that it reads nothing from its disks to compute the
# parity: from the start of the copy, or from where its first whole stripe begins. Runs in a machine of scripts/vm-run;
# owns all its disks.
# vm-run: --cpus 1 -m 768 -M raid456

# shellcheck source=lib.bash
. "${0%/*}/lib.bash"

CHUNK=1024 # sectors of each disk's part of a stripe
STRIPE=$((3 * CHUNK))
COUNT=$((40 * STRIPE)) # of the source
NUMBER=4               # of disks

# raid: /dev/md0, of disks that count their transfers, as ramdisks do not. Its cache holds all that kcopy has in flight: a RAID
# that runs out of it handles what it has got of a stripe, whole or not.
raid() {
	local disk members=()
	for ((disk = 0; disk < NUMBER; disk++)); do
		null_disk "nullb$disk" size=32 || return
		members+=("/dev/nullb$disk")
	done
	mdadm --create /dev/md0 --run --assume-clean --metadata=1.2 --level=5 --chunk=$((CHUNK / 2)) \
		--raid-devices=$NUMBER "${members[@]}" || return
	waitfor /dev/md0 && echo 2048 >/sys/block/md0/md/stripe_cache_size
}

says_stripes() {
	(($(</sys/block/md0/queue/optimal_io_size) == STRIPE * 512))
}

# sectors_read DISK
sectors_read() {
	local stat
	read -ra stat <"/sys/block/$1/stat"
	echo "${stat[2]}"
}

# read_for_parity: sectors that the disks were read for nobody who reads the RAID.
read_for_parity() {
	local disk sum=0
	for ((disk = 0; disk < NUMBER; disk++)); do
		((sum += $(sectors_read "nullb$disk")))
	done
	echo $((sum - $(sectors_read md0)))
}

# writes_stripes MOST DEST SECTOR [ARGUMENT...]: the source is copied, and the RAID reads no more than so many sectors.
writes_stripes() {
	local most=$1 before after
	fresh
	before=$(read_for_parity)
	run kcopy "${@:4}" /tmp/source "$2:$3"
	after=$(read_for_parity)
	assert_status 0
	assert_holds "$2" "$3" $COUNT
	echo "read $((after - before)) sectors for the parity"
	((after - before <= most)) || fail "more than $most"
}

# Of a stripe that is written in part, the RAID reads what is not written, or what was there and the parity: here, as the
# source is whole stripes long, as much as a stripe for the first and the last one together.
PARTS=$STRIPE

scene
need mdadm md-mod raid456 'null_blk nr_devices=0'
arrange raid
arrange dd if=/dev/urandom of=/tmp/source bs=512 count=$COUNT iflag=fullblock status=none
arrange ln -s /tmp/source /tmp/expected
check 'says how long its stripes are' says_stripes
check 'reads nothing for stripes that are written from their start' writes_stripes 0 /dev/md0 0
check 'reads nothing for stripes behind the first' writes_stripes 0 /dev/md0 $((5 * STRIPE))
check 'reads no more than the first and the last stripe, of which it gets parts' writes_stripes $PARTS /dev/md0 2048
check 'the same from anywhere' writes_stripes $PARTS /dev/md0 $((STRIPE + 1000))
check 'the same with a larger reserve' writes_stripes $PARTS /dev/md0 2048 --pages=8192
check 'and with a smaller one' writes_stripes $PARTS /dev/md0 2048 --pages=1536

need dmsetup
arrange linear upper /dev/md0 $((STRIPE + 1496)) $((COUNT + STRIPE))
check 'knows where stripes are below a device-mapper device' writes_stripes $PARTS /dev/mapper/upper 8
arrange dmsetup remove upper

need sfdisk
arrange sfdisk -q /dev/md0 <<<"label: gpt
start=$((STRIPE + 2048)), size=$((COUNT + 2048))"
arrange waitfor /dev/md0p1
check 'knows where stripes are below a partition' writes_stripes $PARTS /dev/md0p1 0

done_checking
