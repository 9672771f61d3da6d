#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Disks that fail in a real kernel: unreadable and unwritable sectors, errors that go away and errors that stay, disks
# that are pulled out. What kcopy says is bad is exactly what is; all else is copied. Runs in a machine of
# scripts/vm-run; owns all its disks.
# vm-run: --cpus 1

# shellcheck source=lib.bash
. "${0%/*}/lib.bash"

M=/dev/mapper
SECTORS=8192 # of every disk here: 4 MiB
RANDOM=${KCOPY_TEST_SEED:=$((RANDOM % 32768))}
echo "# KCOPY_TEST_SEED=$KCOPY_TEST_SEED"

# -- bad sectors ---------------------------------------------------------------------------------

# assert_bad_reads ERROR: one line for each area of bad, with this error, in order, and no other line; and the sum.
assert_bad_reads() {
	local area line lines=''
	for area in "${bad[@]}"; do
		lines+="read of ${area#*+} sector$([[ ${area#*+} -eq 1 ]] || echo s) at sector ${area%+*}: $1"$'\n'
	done
	while read -r line; do
		[[ ! $line =~ (read of .*) ]] || echo "${BASH_REMATCH[1]}"
	done <<<"$output" >/tmp/lines
	diff - /tmp/lines <<<"${lines%$'\n'}" || fail 'these are not the sectors that are bad'
	assert_said "READ ERROR: $(how_many) sectors? could not be read"
}

# reads_past SOURCE CONTENT ERROR [ARGUMENT...]: with --on-error=ignore all that is not bad is copied to two disks, and the
# rest is zeros. CONTENT: a file of what is on SOURCE.
reads_past() {
	run kcopy --on-error=ignore "${@:4}" "$1" /dev/ram1 /dev/ram2
	assert_status 1
	assert_bad_reads "$3"
	cp "$2" /tmp/expected
	leave_out /dev/zero
	assert_holds /dev/ram1 0 $SECTORS
	assert_holds /dev/ram2 0 $SECTORS
}

# reads_up_to SOURCE CONTENT ERROR SECTOR [ARGUMENT...]: all before this sector is copied, and that is what is said.
reads_up_to() {
	fill /dev/ram1
	content "$2" 0 "$4" /tmp/expected
	run kcopy "${@:5}" "$1" /dev/ram1
	assert_status 1
	assert_said "read of 1 sector at sector $4: $3"
	assert_said "INCOMPLETE: $4 of $SECTORS sectors.* flushed"
	assert_holds /dev/ram1 0 "$4"
}

# healed BELOW: null_blk's own bad sectors are gone.
healed() {
	[[ $1 != /dev/nullb0 ]] || null_bad -
}

# writes_past DEST BELOW ERROR [ARGUMENT...]: with --on-error=ignore all is written but what is bad. BELOW is read back.
writes_past() {
	content "$2" 0 $SECTORS /tmp/before
	[[ $2 != /dev/nullb0 ]] || null_bad +
	cp /tmp/random0 /tmp/expected
	leave_out /tmp/before
	run kcopy --force --on-error=ignore "${@:4}" /dev/ram0 /dev/ram3 "$1"
	assert_status 4
	assert_said "FAILED: write of ${bad[0]#*+} sectors? at sector ${bad[0]%+*}: $3"
	[[ ${#bad[@]} -eq 1 ]] || assert_said "more errors \\($(how_many) sectors in all\\)"
	assert_said "wrote ${bad[0]%+*} of $SECTORS sectors"
	healed "$2"
	assert_holds "$2" 0 $SECTORS
	cp /tmp/random0 /tmp/expected
	assert_holds /dev/ram3 0 $SECTORS
}

# writes_up_to DEST BELOW ERROR [ARGUMENT...]: all that lies before the first bad sector, and the other disk has all.
writes_up_to() {
	run kcopy --force "${@:4}" /dev/ram0 "$1" /dev/ram3
	assert_status 2
	assert_said "FAILED: write of 1 sector at sector ${bad[0]%+*}: $3; wrote ${bad[0]%+*} of $SECTORS sectors"
	healed "$2"
	head -c $((${bad[0]%+*} * 512)) /tmp/random0 >/tmp/expected
	assert_holds "$2" 0 "${bad[0]%+*}"
	cp /tmp/random0 /tmp/expected
	assert_holds /dev/ram3 0 $SECTORS
}

# -- a disk with medium errors -------------------------------------------------------------------

# What is on the disk, as /tmp/medium; its errors are on from here on.
medium() {
	scsi_disk && fill "/dev/$sd" && content "/dev/$sd" 0 $SECTORS /tmp/medium && scsi_set opts 2
}

# An error of this kind reaches a program as ENODATA.
NO_DATA='No data available'

scene
need sd_mod 'scsi_debug dev_size_mb=4 delay=0 medium_error_start=4660 medium_error_count=7'
sd=
arrange ramdisks 4 4
arrange medium
bad=(4660+7)
check 'medium errors: exactly the unreadable sectors are listed and zeros, without retries' \
	reads_past "/dev/$sd" /tmp/medium "$NO_DATA" --retries=0
check 'medium errors: and with retries' reads_past "/dev/$sd" /tmp/medium "$NO_DATA"
check 'medium errors: and with a reserve of one page' reads_past "/dev/$sd" /tmp/medium "$NO_DATA" --retries=0 -p 1
check 'medium errors: all is copied up to the first, without retries' \
	reads_up_to "/dev/$sd" /tmp/medium "$NO_DATA" 4660 --retries=0
check 'medium errors: and with retries' reads_up_to "/dev/$sd" /tmp/medium "$NO_DATA" 4660

beside() {
	content /tmp/medium 0 4660 /tmp/expected
	run kcopy "/dev/$sd:0+4660" /dev/ram1:100
	assert_status 0
	assert_holds /dev/ram1 100 4660
	content /tmp/medium 4667 1000 /tmp/expected
	run kcopy "/dev/$sd:4667+1000" /dev/ram1
	assert_status 0
	assert_holds /dev/ram1 0 1000
}
check 'medium errors: a region that ends before them is copied, and so is one that begins behind them' beside

read_again() {
	local before
	before=$(transfers "/dev/$sd" read)
	begin kcopy --retries=50 "/dev/$sd:4600+100" /dev/ram1
	# All of it, halves, the sector alone, and that again.
	until_true 20 more_transfers "/dev/$sd" read $((before + 10))
	scsi_set opts 0
	finish
	assert_status 0
	assert_not_said 'error'
	content /tmp/medium 4600 100 /tmp/expected
	assert_holds /dev/ram1 0 100
}
check 'medium errors: those that go away while it is tried again are none' read_again

# -- scattered errors ----------------------------------------------------------------------------

scene
need 'null_blk nr_devices=0'
arrange ramdisks 4 4
scattered() {
	scatter 24 12
	null_disk nullb0 size=4 blocksize=512 && cat /tmp/random0 >/dev/nullb0 && fresh && null_bad +
}
arrange scattered
check 'scattered errors: exactly the unreadable sectors are listed and zeros' \
	reads_past /dev/nullb0 /tmp/random0 'Input/output error' --retries=0
check 'scattered errors: and in small chunks' \
	reads_past /dev/nullb0 /tmp/random0 'Input/output error' --retries=0 -p 15
check 'scattered errors: all is copied up to the first' \
	reads_up_to /dev/nullb0 /tmp/random0 'Input/output error' "${bad[0]%+*}" --retries=1
arrange fill /dev/ram0
arrange content /dev/ram0 0 $SECTORS /tmp/random0
arrange null_bad -
check 'scattered errors: exactly the unwritable sectors are left out' \
	writes_past /dev/nullb0 /dev/nullb0 'Input/output error' --retries=0
arrange null_bad +
check 'scattered errors: with drop all is written up to the first' \
	writes_up_to /dev/nullb0 /dev/nullb0 'Input/output error' --retries=1

larger_blocks() {
	rmdir /sys/kernel/config/nullb/nullb0
	null_disk nullb0 size=4 blocksize=4096
	cat /tmp/random0 >/dev/nullb0
	fresh
	bad=(4001+1)
	null_bad +
	bad=(4000+8)
	reads_past /dev/nullb0 /tmp/random0 'Input/output error' --retries=1
}
check 'an unreadable sector in a block of 4096 bytes is the whole block' larger_blocks

scene
need dmsetup dm-mod dm-dust
arrange ramdisks 4 4
dust() {
	local area sector
	scatter 24 12
	dm dust "0 $SECTORS dust /dev/ram0 0 512" || return
	for area in "${bad[@]}"; do
		for ((sector = ${area%+*}; sector < ${area%+*} + ${area#*+}; sector++)); do
			dmsetup message dust 0 addbadblock $sector || return
		done
	done
	dmsetup message dust 0 enable
}
arrange dust
check 'dust: exactly the unreadable sectors are listed and zeros' \
	reads_past $M/dust /tmp/random0 'Input/output error' --retries=0
check 'dust: all is copied up to the first' reads_up_to $M/dust /tmp/random0 'Input/output error' "${bad[0]%+*}" --retries=1

# bad_in_map FILE: its bad areas, as bad has them
bad_in_map() {
	local start count status
	while read -r start count status; do
		[[ $status != - ]] || echo "$((start / 512))+$((count / 512))"
	done < <(grep -v '^#' "$1")
}

# safe_in_map FILE: sectors
safe_in_map() {
	local start count status sum=0
	while read -r start count status; do
		[[ $status != + ]] || ((sum += count / 512))
	done < <(grep -v '^#' "$1")
	echo $sum
}

# What was bad is tried again by the next run, and only that. A disk that was written to has healed.
maps_of_dust() {
	local map
	reads_past $M/dust /tmp/random0 'Input/output error' --retries=0 --map=/tmp/map
	for map in /tmp/map.1 /tmp/map.2; do
		diff <(printf '%s\n' "${bad[@]}") <(bad_in_map $map) || fail "$map has other sectors"
		[[ $(safe_in_map $map) -eq $((SECTORS - $(how_many))) ]]
	done
	dmsetup message dust 0 disable
	run kcopy --on-error=ignore --retries=0 --map=/tmp/map $M/dust /dev/ram1 /dev/ram2
	dmsetup message dust 0 enable
	assert_status 0
	cp /tmp/random0 /tmp/expected
	assert_holds /dev/ram1 0 $SECTORS
	assert_holds /dev/ram2 0 $SECTORS
	[[ $(bad_in_map /tmp/map.1) = '' && $(safe_in_map /tmp/map.2) -eq $SECTORS ]]
}
check 'dust: maps have exactly these, and the next run asks for no other' maps_of_dust

scene
need dmsetup dm-mod
arrange ramdisks 4 4
segments() {
	scatter 24 40
	failing segments /dev/ram0
}
arrange segments
check 'segments of errors: exactly the unreadable sectors are listed and zeros' \
	reads_past $M/segments /tmp/random0 'Input/output error' --retries=0
arrange dmsetup remove segments
segments() {
	scatter 24 40
	failing segments /dev/ram1
}
arrange segments
check 'segments of errors: exactly the unwritable sectors are left out' \
	writes_past $M/segments /dev/ram1 'Input/output error' --retries=0

# -- errors in the middle of a destination -------------------------------------------------------

middle() {
	bad=("$1")
	failing "middle$1" /dev/ram1 || return
}
arrange middle 5001+3
check 'an error in the middle of a destination: all is written up to it, without retries' \
	writes_up_to $M/middle5001+3 /dev/ram1 'Input/output error' --retries=0
check 'an error in the middle of a destination: and with retries' \
	writes_up_to $M/middle5001+3 /dev/ram1 'Input/output error'

# Of a chunk that fails a part may be written, and the next one was under way: 512 KiB each.
nothing_behind() {
	fill /dev/ram1
	content /dev/ram1 6144 2048 /tmp/expected
	run kcopy -p 256 --retries=1 /dev/ram0 $M/middle5001+3 /dev/ram3
	assert_status 2
	assert_holds /dev/ram1 6144 2048
}
check 'an error in the middle of a destination: nothing behind it is written, but where requests were under way' nothing_behind
arrange fill /dev/ram1
check 'an error in the middle of a destination: with ignore exactly that is left out' \
	writes_past $M/middle5001+3 /dev/ram1 'Input/output error'
arrange dmsetup remove middle5001+3
arrange middle 8191+1
check 'an error in the last sector of a destination is none of all others' \
	writes_past $M/middle8191+1 /dev/ram1 'Input/output error' --retries=0
arrange dmsetup remove middle8191+1
arrange middle 0+16
check 'an error at the start of a destination: and of that one' \
	writes_past $M/middle0+16 /dev/ram1 'Input/output error' --retries=0

both() {
	bad=(3000+2 7000+1)
	failing bad-source /dev/ram2
	cat /dev/ram2 >/tmp/image
	cp /tmp/image /tmp/expected
	leave_out /dev/zero
	content /dev/ram1 0 16 /tmp/before
	dd if=/tmp/before of=/tmp/expected conv=notrunc status=none
	run kcopy --force --on-error=ignore --retries=0 $M/bad-source $M/middle0+16 /dev/ram3
	assert_status 3
	assert_bad_reads 'Input/output error'
	assert_said 'FAILED: write of 16 sectors at sector 0: Input/output error'
	assert_holds /dev/ram1 0 $SECTORS
	dd if=/tmp/image of=/tmp/expected bs=512 count=16 conv=notrunc status=none
	assert_holds /dev/ram3 0 $SECTORS
}
check 'errors of the source and of a destination at once are kept apart' both

# -- errors that come and go ---------------------------------------------------------------------

scene
need dmsetup dm-mod dm-flakey dm-delay
arrange ramdisks 4 4

# slow MILLISECONDS: the device-mapper device slow is ram0, and each read takes so long.
slow() {
	dm slow "0 $SECTORS delay /dev/ram0 0 $1"
}
# becomes NAME TARGET...: another table, while it is in use. before: how much was written until then.
becomes() {
	dmsetup suspend --nolockfs "$1" && dmsetup reload "$1" --table "0 $SECTORS ${*:2}" || return
	before=$(transfers "$M/$1" write)
	dmsetup resume "$1"
}
arrange slow 60
arrange linear weak /dev/ram1 0 $SECTORS

# fails_for_a_while RETRIES: its writes fail from the first MiB or so on, and from then on until one did so.
fails_for_a_while() {
	begin kcopy -p 64 --retries="$1" $M/slow $M/weak /dev/ram2
	before=$(transfers $M/weak write)
	until_true 20 more_transfers $M/weak write "$before"
	becomes weak flakey /dev/ram1 0 0 1000 1 error_writes
	until_true 20 more_transfers $M/weak write $((before + 3))
}

# Its own errors do not last longer than the retries, which are enough for minutes.
survives() {
	local before
	fails_for_a_while 30
	becomes weak linear /dev/ram1 0
	finish
	assert_status 0
	assert_not_said 'error'
	cp /tmp/random0 /tmp/expected
	assert_holds /dev/ram1 0 $SECTORS
	assert_holds /dev/ram2 0 $SECTORS
}
check 'a destination that fails for a while is complete, if there are retries enough' survives

up_and_down() {
	local before
	fill /dev/ram1
	becomes weak flakey /dev/ram1 0 1 1 1 error_writes
	run kcopy -p 128 --retries=30 $M/slow $M/weak /dev/ram2
	becomes weak linear /dev/ram1 0
	assert_status 0
	assert_not_said 'error'
	cp /tmp/random0 /tmp/expected
	assert_holds /dev/ram1 0 $SECTORS
}
check 'a destination that goes down and up each second is complete, too' up_and_down

lasts() {
	local before wrote
	fill /dev/ram1
	content /dev/ram1 0 $SECTORS /tmp/before
	fails_for_a_while 1
	finish
	becomes weak linear /dev/ram1 0
	assert_status 2
	assert_said 'weak: FAILED: write of .*: Input/output error; wrote [0-9]+ of'
	[[ $output =~ 'weak: FAILED: '.*'wrote '([0-9]+)' of' ]]
	wrote=${BASH_REMATCH[1]}
	((wrote < SECTORS)) || fail 'it was too late'
	cp /tmp/random0 /tmp/expected
	assert_holds /dev/ram2 0 $SECTORS
	cp /tmp/before /tmp/expected
	dd if=/tmp/random0 of=/tmp/expected bs=512 count="$wrote" conv=notrunc status=none
	assert_holds /dev/ram1 0 $SECTORS
}
check 'a destination that goes on failing has its bit, holds what was said, and the others are complete' lasts

# -- disks that are pulled out -------------------------------------------------------------------

GONE='(No such device|No such device or address|Input/output error|No space left on device)'

scene
need sd_mod 'scsi_debug dev_size_mb=4 delay=0'
arrange ramdisks 4 4
arrange pulled

# pulled_destination DISK|PARTITION ERROR. Retried sector by sector it would take hours.
pulled_destination() {
	local before wrote
	begin kcopy --retries=1000 -p 64 /dev/ram0 /dev/ram1 "/dev/$1" /dev/ram2
	before=$(transfers "/dev/$1" write)
	until_true 20 more_transfers "/dev/$1" write $((before + 1))
	pull
	finish
	assert_status 4
	assert_said "$1: FAILED: write of [0-9]+ sectors at sector [0-9]+: $2"
	[[ $output =~ FAILED:.*'wrote '([0-9]+)' of' ]]
	wrote=${BASH_REMATCH[1]}
	((0 < wrote && wrote < SECTORS)) || fail 'it was not in the middle'
	cp /tmp/random0 /tmp/expected
	assert_holds /dev/ram1 0 $SECTORS
	assert_holds /dev/ram2 0 $SECTORS
}
check 'a destination that is pulled out is dropped at once, and the others are complete' pulled_destination "$sd" "$GONE"

# A partition of a disk that is gone keeps its size, and answers everything with EIO.
scene
need sd_mod 'scsi_debug dev_size_mb=8 delay=0 num_parts=1'
arrange ramdisks 4 4
arrange pulled
arrange waitfor "/dev/${sd}1"
check 'a destination that is a partition of a disk that is pulled out is dropped at once, too' \
	pulled_destination "${sd}1" 'No such device;'

scene
need sd_mod 'scsi_debug dev_size_mb=8 delay=0 num_parts=1'
arrange ramdisks 4 4
arrange pulled
arrange waitfor "/dev/${sd}1"

pulled_partition() {
	local before
	begin kcopy --retries=1000 -p 64 "/dev/${sd}1:0+$SECTORS" /dev/ram1
	before=$(transfers "/dev/${sd}1" read)
	until_true 20 more_transfers "/dev/${sd}1" read $((before + 4))
	pull
	finish
	assert_status 1
	assert_said "${sd}1: read of [0-9]+ sectors at sector [0-9]+: No such device$"
	assert_said "ram1: INCOMPLETE: [0-9]+ of $SECTORS sectors.* flushed"
}
check 'and a source that is one ends the copy at once' pulled_partition

scene
need sd_mod 'scsi_debug dev_size_mb=4 delay=0'
arrange ramdisks 4 4
arrange pulled

pulled_source() {
	local before wrote
	content "/dev/$sd" 0 $SECTORS /tmp/image
	content /dev/ram1 0 $SECTORS /tmp/expected
	begin kcopy --retries=1000 -p 64 "/dev/$sd" /dev/ram1
	before=$(transfers "/dev/$sd" read)
	until_true 20 more_transfers "/dev/$sd" read $((before + 4))
	pull
	finish
	assert_status 1
	assert_said "$sd: read of [0-9]+ sectors at sector [0-9]+: $GONE"
	assert_said "ram1: INCOMPLETE: [0-9]+ of $SECTORS sectors.* flushed"
	[[ $output =~ INCOMPLETE:' '([0-9]+)' of' ]]
	wrote=${BASH_REMATCH[1]}
	((0 < wrote && wrote < SECTORS)) || fail 'it was not in the middle'
	dd if=/tmp/image of=/tmp/expected bs=512 count="$wrote" conv=notrunc status=none
	assert_holds /dev/ram1 0 $SECTORS
}
check 'a source that is pulled out ends the copy at once, and what was read before is there' pulled_source

scene
need sd_mod 'scsi_debug dev_size_mb=4 delay=0'
arrange ramdisks 4 4
arrange pulled

pulled_source_ignored() {
	local before first
	content "/dev/$sd" 0 $SECTORS /tmp/expected
	begin kcopy --on-error=ignore --retries=1000 -p 64 "/dev/$sd" /dev/ram1
	before=$(transfers "/dev/$sd" read)
	until_true 20 more_transfers "/dev/$sd" read $((before + 4))
	pull
	finish
	assert_status 1
	[[ $output =~ 'read of '([0-9]+)' sectors at sector '([0-9]+) ]]
	first=${BASH_REMATCH[2]}
	((0 < first && first < SECTORS)) || fail 'it was not in the middle'
	assert_said "READ ERROR: $((SECTORS - first)) sectors could not be read"
	bad=("$first+$((SECTORS - first))")
	leave_out /dev/zero
	assert_holds /dev/ram1 0 $SECTORS
}
check 'and with ignore all that it did not give is told, and zeros' pulled_source_ignored

done_checking
