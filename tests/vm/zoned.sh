#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Zoned disks as destinations: a sequential zone takes writes at its write pointer and nowhere else, and what it did
# not take is never called copied. Runs in a machine of scripts/vm-run; owns all its disks.
# vm-run: --cpus 1

# shellcheck source=lib.bash
. "${0%/*}/lib.bash"

ZONE=2048 # sectors: 1 MiB
RANDOM=${KCOPY_TEST_SEED:=$((RANDOM % 32768))}
echo "# KCOPY_TEST_SEED=$KCOPY_TEST_SEED"

# zoned NAME KEY=VALUE...: a new disk /dev/NAME of 16 zones, the first two of them conventional.
zoned() {
	null_disk "$1" size=16 zoned=1 zone_size=1 zone_nr_conv=2 "${@:2}" && blkzone report -c 1 "/dev/$1"
}

# pointer DEVICE ZONE: how many sectors of it are written
pointer() {
	blkzone report -o $(($2 * ZONE)) -c 1 "$1" | sed -n 's/.*wptr 0x\([0-9a-f]*\).*/\1/p' | {
		read -r hex
		echo $((16#$hex))
	}
}

# fails STATUS PATTERN ARGUMENT...: with this status, saying this, and changes nothing.
fails() {
	remember
	run kcopy "${@:3}"
	assert_status "$1" && assert_said "$2" && assert_unchanged
}

# writes ZONE SECTORS [OPTION...]: from the zone's start, which is where its write pointer is then, behind what was written
writes() {
	local zone=$1 sectors=$2
	copies /tmp/image 0 "$sectors" /dev/nullb0 $((zone * ZONE)) "${@:3}"
	[[ $sectors -ge $ZONE || $(pointer /dev/nullb0 "$zone") -eq $sectors ]] || fail "the write pointer is at $(pointer /dev/nullb0 "$zone")"
}

scene
need 'null_blk nr_devices=0' blkzone
arrange ramdisks 2 4
arrange dd if=/dev/urandom of=/tmp/image bs=1M count=4
arrange zoned nullb0
disks+=(/tmp/image)

check 'copies a file to a sequential zone' writes 2 512
check 'copies on from where the zone is written to' copies /tmp/image 512 1024 /dev/nullb0 $((2 * ZONE + 512))
check 'copies a whole zone' writes 3 $ZONE
check 'copies across zones' writes 4 $((2 * ZONE + 1000))
check 'copies across zones in small chunks' writes 7 $((2 * ZONE)) -p 50
check 'copies with a reserve of one page' writes 9 1024 -p 1
check 'copies with a reserve of three pages' writes 10 1032 -p 3
check 'copies a few sectors that are no whole page' writes 11 9
check 'copies from a disk' copies /dev/ram0 0 $ZONE /dev/nullb0 $((12 * ZONE))
check 'copies to conventional zones, and over what is there' copies /dev/ram1 0 $((2 * ZONE)) /dev/nullb0 0
check 'copies from conventional zones into sequential ones' copies /dev/nullb0 100 512 /dev/nullb0 $((11 * ZONE + 9)) -p 1
check 'copies from zones to a disk' copies /dev/nullb0 $((4 * ZONE)) $((2 * ZONE)) /dev/ram1 8

# Zones 13 to 15 are empty.
disks+=(/dev/nullb0)
check 'fails with bit 1 where a zone is not written up to there' \
	fails 2 nullb0 /tmp/image:0+64 /dev/nullb0:$((13 * ZONE + 64))
check 'fails far behind the write pointer, with much data' \
	fails 2 nullb0 /dev/ram0:0+$((ZONE / 2)) /dev/nullb0:$((13 * ZONE + ZONE / 2))
check 'fails with bit 1 in a zone that is full' fails 2 nullb0 /tmp/image:2048+64 /dev/nullb0:$((3 * ZONE))
check 'fails with bit 1 over what a zone holds' fails 2 nullb0 /dev/ram0:0+64 /dev/nullb0:$((11 * ZONE))
check 'fails with bit 1 with --on-error=ignore, too' \
	fails 2 nullb0 --on-error=ignore /tmp/image:0+1024 /dev/nullb0:$((13 * ZONE + 64))

# They cannot be written, and need not be: whoever wrote them, they are there.
there_already() {
	remember
	run kcopy /tmp/image:100+1000 /dev/nullb0:$((3 * ZONE + 100))
	assert_status 0
	assert_unchanged
}
check 'what a zone holds already is there' there_already
there_in_part() {
	content /tmp/image 0 700 /tmp/expected
	run kcopy /tmp/image:0+500 /dev/nullb0:$((15 * ZONE))
	run kcopy /tmp/image:0+700 /dev/nullb0:$((15 * ZONE))
	assert_status 0
	assert_holds /dev/nullb0 $((15 * ZONE)) 700
	# One sector is another one.
	cp /tmp/image /tmp/other
	dd if=/dev/ram1 of=/tmp/other bs=512 seek=650 count=1 conv=notrunc status=none
	forget
	fails 2 "at sector $((15 * ZONE + 650)):.*wrote 650 of 900" /tmp/other:0+900 /dev/nullb0:$((15 * ZONE))
	blkzone reset -o $((15 * ZONE)) -c 1 /dev/nullb0
	forget
}
check 'what a zone holds of it in part is there, and the rest is written' there_in_part

beside() {
	content /dev/nullb0 $((13 * ZONE)) $ZONE /tmp/before
	content /tmp/image 0 1024 /tmp/expected
	forget
	run kcopy /tmp/image:0+1024 /dev/ram0:16 /dev/nullb0:$((13 * ZONE + 8)) /dev/ram1:24
	assert_status 4
	assert_said 'nullb0'
	assert_holds /dev/ram0 16 1024
	assert_holds /dev/ram1 24 1024
	mv /tmp/before /tmp/expected
	assert_holds /dev/nullb0 $((13 * ZONE)) $ZONE
}
check 'fails with its own bit, and the other destinations hold everything' beside

# What stops in the middle holds what was said, up to there, and the status says that it is not all.
into_the_full_zone() {
	content /tmp/image 0 $((ZONE + 1000)) /tmp/expected
	forget
	run kcopy /tmp/image:0+$((ZONE + 1000)) /dev/nullb0:$((14 * ZONE))
	assert_status 0
	run kcopy /dev/ram0:0+$((2 * ZONE)) /dev/nullb0:$((13 * ZONE))
	assert_status 2
	assert_said "nullb0.*wrote $ZONE of $((2 * ZONE)) sectors"
	content /dev/ram0 0 $ZONE /tmp/first
	content /dev/nullb0 $((13 * ZONE)) $ZONE /tmp/found
	cmp /tmp/first /tmp/found
	assert_holds /dev/nullb0 $((14 * ZONE)) $((ZONE + 1000))
}
check 'fails in the middle, at the next zone, and says how far it got' into_the_full_zone

reset() {
	blkzone reset -o $((13 * ZONE)) -c 3 /dev/nullb0
	forget
	copies /dev/ram1 0 $((3 * ZONE)) /dev/nullb0 $((13 * ZONE))
}
check 'copies to zones that were reset' reset

zeros() {
	blkzone reset -o $((13 * ZONE)) -c 3 /dev/nullb0
	forget
	run kcopy --zero /dev/nullb0:$((13 * ZONE))+$((2 * ZONE))
	assert_status 0
	dd if=/dev/zero of=/tmp/expected bs=512 count=$((2 * ZONE)) status=none
	assert_holds /dev/nullb0 $((13 * ZONE)) $((2 * ZONE))
	[[ $(pointer /dev/nullb0 14) -ge $ZONE || $(blkzone report -o $((14 * ZONE)) -c 1 /dev/nullb0) == *fu* ]] ||
		fail 'nothing was written'
	run kcopy --zero /dev/nullb0:$((3 * ZONE))+64
	assert_status 2
}
check 'zeros zones, and not those that are full' zeros

# -- in order ------------------------------------------------------------------------------------

scene
need 'null_blk nr_devices=0' blkzone dmsetup dm-mod
arrange ramdisks 1 4
arrange zoned nullb0
disks=(/dev/nullb0)

# A write that is not at the write pointer fails, so whatever ends well was in order. Here what comes first is read last.
first_read_last() {
	local reads writes
	linear gate /dev/ram0 0 512
	dm source '0 512 linear /dev/mapper/gate 0' '512 7680 linear /dev/ram0 512'
	hangs gate
	begin kcopy -p 320 /dev/mapper/source:0+$((2 * ZONE)) /dev/nullb0:$((2 * ZONE))
	writes=$(transfers /dev/nullb0 write) reads=$(transfers /dev/mapper/source read)
	until_true 20 more_transfers /dev/mapper/source read "$reads"
	[[ $(transfers /dev/nullb0 write) -eq $writes && $(pointer /dev/nullb0 2) -eq 0 ]] || fail 'what was read first was written first'
	hangs_no_more gate
	finish
	assert_status 0
	content /tmp/random0 0 $((2 * ZONE)) /tmp/expected
	assert_holds /dev/nullb0 $((2 * ZONE)) $((2 * ZONE))
	[[ $(pointer /dev/nullb0 4) -eq 0 ]] || fail 'more was written'
}
check 'writes in order what was not read in order' first_read_last

# failing START-END: these sectors of the disk cannot be written
failing() {
	echo "$1$2" >/sys/kernel/config/nullb/nullb0/badblocks
}

# fails_at ZONE SECTOR POLICY: the zone's sector SECTOR and some behind it cannot be written.
fails_at() {
	local start=$(($1 * ZONE)) at=$(($1 * ZONE + $2))
	failing + $at-$((at + 2))
	run kcopy --on-error="$3" --retries=1 /dev/ram0:0+$ZONE /dev/nullb0:$start /tmp/copy
	failing - $at-$((at + 2))
	assert_status 2
	assert_said "nullb0: FAILED: write of [0-9]+ sectors? at sector $at: .*; wrote $2 of $ZONE sectors"
	[[ $(pointer /dev/nullb0 "$1") -eq $2 ]] || fail "the write pointer is at $(pointer /dev/nullb0 "$1")"
	content /tmp/random0 0 "$2" /tmp/expected
	assert_holds /dev/nullb0 $start "$2"
	[[ $3 = stop ]] || cmp -n $((ZONE * 512)) /tmp/random0 /tmp/copy
}

# kcopyd (Linux 6.1) answers read_err=1 as well, though nothing was wrong with the source.
write_error() {
	fails_at 5 100 drop
	fails_at 6 100 ignore
	fails_at 7 100 stop
}
check 'a write error ends it where the zone is written to, with its own bit only, whatever the policy' write_error

# The kernel makes several requests of one write here (127 KiB each), and some were carried out when one failed.
check 'a write error in the middle of a write, too' fails_at 8 333 drop

is_begun() {
	[[ $(pointer /dev/nullb0 "$1") -gt 0 ]]
}

# goes_away ZONE SECTOR: the sector can be written when the whole has failed.
goes_away() {
	local at=$(($1 * ZONE + $2))
	failing + $at-$((at + 2))
	begin kcopy --retries=7 /dev/ram0:0+$ZONE /dev/nullb0:$(($1 * ZONE))
	until_true 20 is_begun "$1"
	failing - $at-$((at + 2))
	finish
	assert_status 0
	content /tmp/random0 0 $ZONE /tmp/expected
	assert_holds /dev/nullb0 $(($1 * ZONE)) $ZONE
}
check 'a write error that goes away is none, and all is in order' goes_away 9 200
check 'one in the middle of a write that goes away is none' goes_away 12 333

# crosses ZONE SECTOR: one write goes to two zones, and this sector of the second one fails.
crosses() {
	local first=$(($1 * ZONE)) at=$((($1 + 1) * ZONE + $2))
	run kcopy /dev/ram0:0+1000 /dev/nullb0:$first
	failing + $at-$at
	run kcopy --retries=0 /dev/ram0:1000+$((ZONE + 500)) /dev/nullb0:$((first + 1000))
	failing - $at-$at
	assert_status 2
	assert_said "write of [0-9]+ sectors? at sector $at: .*; wrote $((at - first - 1000)) of"
	[[ $(pointer /dev/nullb0 $(($1 + 1))) -eq $2 ]] || fail "the write pointer is at $(pointer /dev/nullb0 $(($1 + 1)))"
	content /tmp/random0 0 $((at - first)) /tmp/expected
	assert_holds /dev/nullb0 $first $((at - first))
}
check 'and one in a write that crosses into the next zone' crosses 13 300

# zeros_up_to ZONE SECTOR
zeros_up_to() {
	local start=$(($1 * ZONE)) at=$((($1 + 1) * ZONE + $2))
	blkzone reset -o $start -c 2 /dev/nullb0
	failing + $at-$at
	run kcopy --zero --retries=0 --on-error=ignore /dev/nullb0:$start+$((2 * ZONE))
	failing - $at-$at
	assert_status 2
	assert_said "FAILED: zeroing of [0-9]+ sectors? at sector $at: .*; wrote $((at - start)) of"
	[[ $(pointer /dev/nullb0 $(($1 + 1))) -eq $2 ]] || fail "the write pointer is at $(pointer /dev/nullb0 $(($1 + 1)))"
	# What is zeros already need not be zeroed again.
	run kcopy --zero /dev/nullb0:$start+$((2 * ZONE))
	assert_status 0
	dd if=/dev/zero of=/tmp/expected bs=512 count=$((2 * ZONE)) status=none
	assert_holds /dev/nullb0 $start $((2 * ZONE))
}
check 'and one in the middle of zeroing' zeros_up_to 13 999

# Conventional zones are written anywhere, and failures in them are narrowed down as ever.
conventional() {
	failing + 400-402
	run kcopy --retries=0 --on-error=ignore /dev/ram0:0+3000 /dev/nullb0:100
	failing - 400-402
	assert_status 2
	content /tmp/random0 0 300 /tmp/expected
	assert_holds /dev/nullb0 100 300
}
check 'a write error in a conventional zone' conventional

# kcopyd (Linux 6.1) never comes to an end here.
read_error() {
	dm unreadable '0 3172 linear /dev/ram0 0' '3172 1 error' '3173 5019 linear /dev/ram0 3173'
	run kcopy --retries=0 /dev/mapper/unreadable:2048+2048 /dev/nullb0:$((10 * ZONE))
	assert_status 1
	assert_said 'INCOMPLETE: 1124 of 2048 sectors'
	content /tmp/random0 2048 1124 /tmp/expected
	assert_holds /dev/nullb0 $((10 * ZONE)) 1124
	[[ $(pointer /dev/nullb0 10) -eq 1124 ]] || fail "the write pointer is at $(pointer /dev/nullb0 10)"
	run kcopy --retries=0 --on-error=ignore /dev/mapper/unreadable:2048+2000 /dev/nullb0:$((11 * ZONE))
	assert_status 1
	content /tmp/random0 2048 2000 /tmp/expected
	dd if=/dev/zero of=/tmp/expected bs=512 seek=1124 count=1 conv=notrunc status=none
	assert_holds /dev/nullb0 $((11 * ZONE)) 2000
	[[ $(pointer /dev/nullb0 11) -eq 2000 ]] || fail "the write pointer is at $(pointer /dev/nullb0 11)"
}
check 'a read error ends it there, and with ignore it goes on' read_error

# -- resumed -------------------------------------------------------------------------------------

scene
need 'null_blk nr_devices=0' blkzone dmsetup dm-mod dm-delay
arrange ramdisks 1 4
arrange zoned nullb0

# has_zones ZONE SECTORS: what the source has from its start on, and the write pointers are behind that.
has_zones() {
	content /tmp/random0 0 "$2" /tmp/expected
	assert_holds /dev/nullb0 $(($1 * ZONE)) "$2"
	[[ $(($2 % ZONE)) -eq 0 || $(pointer /dev/nullb0 $(($1 + $2 / ZONE))) -eq $(($2 % ZONE)) ]] || fail 'more was written'
}

# broken_off ZONE SIGNAL: a copy of three zones ends so when it has written the first 3000 sectors.
broken_off() {
	rm -f /tmp/map
	gated slow /dev/ram0 3000 8192
	begin kcopy --map=/tmp/map -p 64 /dev/mapper/slow:0+$((3 * ZONE)) /dev/nullb0:$(($1 * ZONE))
	until_true 20 wrote "$1" $((3000 / 256 * 256))
	kill "-$2" "$(pidof kcopy)"
	[[ $2 = KILL ]] || until_true 20 grep -q 'ending in order' /tmp/said
	hangs_no_more slow-gate
	finish
	dmsetup remove slow
	dmsetup remove slow-gate
	linear slow /dev/ram0 0 8192
	[[ $(pointer /dev/nullb0 $(($1 + 2))) -eq 0 ]] || fail 'it was not in the middle'
}

# wrote ZONE SECTORS, or more: so many are a whole zone and a part of the next
wrote() {
	(($(pointer /dev/nullb0 $(($1 + 1))) >= $2 - ZONE))
}

# resumes ZONE: where it was broken off
resumes() {
	run kcopy --map=/tmp/map -p 64 /dev/mapper/slow:0+$((3 * ZONE)) /dev/nullb0:$(($1 * ZONE))
	assert_status 0
	has_zones "$1" $((3 * ZONE))
	assert_said "nullb0: $((3 * ZONE)) sectors .*written and flushed, [0-9]+ of them before"
	dmsetup remove slow
}

interrupted() {
	broken_off 2 TERM
	assert_status 143
	grep -q ' +$' /tmp/map
	resumes 2
}
check 'an interrupted copy goes on at the write pointer' interrupted

# Of what was written nothing was flushed; it is compared.
killed() {
	broken_off 5 KILL
	! grep -q ' +$' /tmp/map || fail 'it was flushed'
	resumes 5
}
check 'one that was killed, behind what its map knows, too' killed

# cannot_resume PATTERN ZONE
cannot_resume() {
	cp /tmp/map /tmp/map.before
	disks=(/dev/nullb0)
	forget
	refuses "$1" --map=/tmp/map -p 64 /dev/mapper/slow:0+$((3 * ZONE)) /dev/nullb0:$(($2 * ZONE))
	cmp /tmp/map /tmp/map.before
	assert_said 'reset its zones .blkzone reset. and remove the map'
}

other_source() {
	broken_off 8 KILL
	dd if=/dev/urandom of=/dev/ram0 bs=512 seek=2500 count=1 oflag=direct status=none
	cannot_resume "sector $((8 * ZONE + 2500)) was written after its map was saved, and is not what the source holds" 8
	cat /tmp/random0 >/dev/ram0
	fresh
	resumes 8
}
check 'but not behind what the source does not hold' other_source

reset_zone() {
	broken_off 11 TERM
	blkzone reset -o $((12 * ZONE)) -c 1 /dev/nullb0
	cannot_resume "goes on at sector [0-9]+, but the zone there is written up to $((12 * ZONE)) only" 11
	rm /tmp/map
	blkzone reset -o $((11 * ZONE)) -c 1 /dev/nullb0
	run kcopy --map=/tmp/map /dev/mapper/slow:0+$((3 * ZONE)) /dev/nullb0:$((11 * ZONE))
	assert_status 0
	has_zones 11 $((3 * ZONE))
	dmsetup remove slow
}
check 'and not into a zone that has lost what its map claims' reset_zone

unreadable() {
	local start=$((2 * ZONE))
	blkzone reset -o $start -c 14 /dev/nullb0
	rm -f /tmp/map
	dm slow '0 3172 linear /dev/ram0 0' '3172 1 error' '3173 5019 linear /dev/ram0 3173'
	run kcopy --map=/tmp/map --retries=0 /dev/mapper/slow:0+$((3 * ZONE)) /dev/nullb0:$start
	assert_status 1
	[[ $(pointer /dev/nullb0 3) -eq $((3172 - ZONE)) ]] || fail "the write pointer is at $(pointer /dev/nullb0 3)"
	# What could not be read comes first, as it must.
	run kcopy --map=/tmp/map --retries=0 --on-error=ignore /dev/mapper/slow:0+$((3 * ZONE)) /dev/nullb0:$start
	assert_status 1
	cat /tmp/random0 >/tmp/image
	dd if=/dev/zero of=/tmp/image bs=512 seek=3172 count=1 conv=notrunc status=none
	content /tmp/image 0 $((3 * ZONE)) /tmp/expected
	assert_holds /dev/nullb0 $start $((3 * ZONE))
	cannot_resume "sector $((start + 3172)), which could not be read, cannot be written again" 2
	# Where nothing was written behind it, it can be.
	blkzone reset -o $start -c 3 /dev/nullb0
	rm /tmp/map
	run kcopy --map=/tmp/map --retries=0 /dev/mapper/slow:0+$((3 * ZONE)) /dev/nullb0:$start
	assert_status 1
	dmsetup remove slow
	linear slow /dev/ram0 0 8192
	resumes 2
}
check 'what could not be read is written at the write pointer, and nowhere else' unreadable

# The disk takes nothing that is not in order, so whatever ends well was.
at_random() {
	local turn
	blkzone reset -o $((5 * ZONE)) -c 3 /dev/nullb0
	rm -f /tmp/map
	dm slow '0 8192 delay /dev/ram0 0 40'
	for turn in 1 2 3 4; do
		begin kcopy --map=/tmp/map -p 32 /dev/mapper/slow:0+$((3 * ZONE)) /dev/nullb0:$((5 * ZONE))
		usleep $((RANDOM * 20))
		kill -KILL "$(pidof kcopy)" || true
		finish
		echo "turn $turn: $(blkzone report -o $((5 * ZONE)) -c 3 /dev/nullb0)"
	done
	resumes 5
}
check 'killed at any time, again and again, it ends complete' at_random

# -- through device-mapper, with smaller zones, with larger blocks -------------------------------

scene
need 'null_blk nr_devices=0' blkzone dmsetup dm-mod
arrange dd if=/dev/urandom of=/tmp/image bs=1M count=4
arrange zoned nullb0
arrange linear zones /dev/nullb0 $((4 * ZONE)) $((4 * ZONE))
disks=(/dev/nullb0)
check 'copies through device-mapper' copies /tmp/image 0 $((2 * ZONE + 100)) /dev/mapper/zones $ZONE

# through_dm ZONE SECTOR: of the disk; the device has it 4 zones before.
through_dm() {
	local at=$(($1 * ZONE + $2))
	echo "+$at-$at" >/sys/kernel/config/nullb/nullb0/badblocks
	run kcopy --retries=0 /tmp/image:0+$ZONE /dev/mapper/zones:$((($1 - 4) * ZONE))
	assert_status 2
	assert_said "zones: FAILED: write of [0-9]+ sectors? at sector $((at - 4 * ZONE)): .*; wrote $2 of"
	[[ $(pointer /dev/nullb0 "$1") -eq $2 ]] || fail "the write pointer is at $(pointer /dev/nullb0 "$1")"
	echo "-$at-$at" >/sys/kernel/config/nullb/nullb0/badblocks
	run kcopy /tmp/image:"$2"+$((ZONE - $2)) /dev/mapper/zones:$((at - 4 * ZONE))
	assert_status 0
	content /tmp/image 0 $ZONE /tmp/expected
	assert_holds /dev/mapper/zones $((($1 - 4) * ZONE)) $ZONE
}
check 'a write error in the middle of a write, through device-mapper' through_dm 4 777
check 'fails through device-mapper' fails 2 'mapper/zones' /tmp/image:0+64 /dev/mapper/zones:$((3 * ZONE + 808))

scene
need 'null_blk nr_devices=0' blkzone
arrange dd if=/dev/urandom of=/tmp/image bs=1M count=4
ZONE=4096 # sectors: 2 MiB, of which it can take one
arrange zoned nullb0 size=32 zone_size=2 zone_capacity=1
disks=(/dev/nullb0)

capacity() {
	copies /tmp/image 0 2048 /dev/nullb0 $((2 * ZONE))
	forget
	run kcopy /tmp/image:0+$((2 * ZONE)) /dev/nullb0:$((3 * ZONE))
	assert_status 2
	assert_said "nullb0.*wrote 2048 of $((2 * ZONE)) sectors"
	content /tmp/image 0 2048 /tmp/expected
	assert_holds /dev/nullb0 $((3 * ZONE)) 2048
}
check "copies what a zone can take, and fails behind that" capacity

scene
need 'null_blk nr_devices=0' blkzone
arrange dd if=/dev/urandom of=/tmp/image bs=1M count=4
ZONE=2048
arrange zoned nullb0 blocksize=4096
disks=(/dev/nullb0)
check 'copies to zones of 4 KiB blocks' writes 2 1024

# Nine sectors are no whole number of its blocks: copied or not, but never called copied if not.
never_both() {
	content /tmp/image 0 9 /tmp/expected
	run kcopy /tmp/image:0+9 "/dev/nullb0:$((3 * ZONE))"
	[[ $status -ne 0 ]] || assert_holds /dev/nullb0 $((3 * ZONE)) 9
}
check 'does not call copied what does not fit its blocks' never_both

scene
done_checking
