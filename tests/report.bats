#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# The report as JSON: it says what the exit status and the messages say, and all that they have no room for.

load lib.bash

readonly MIB=1048576

setup_test() {
	need_tool jq
	random_file source $((2 * MIB))
}

# report ARGUMENT...: kcopy's report, in $output; what it said is in $stderr.
report() {
	run --separate-stderr kcopy --json "$@"
}

# assert_report FILTER...: jq says that each of these is true of the report.
assert_report() {
	local filter
	for filter; do
		jq -e "$filter" >/dev/null <<<"$output" || fail "not so: $filter" "$output" || return
	done
}

# read_report FILE
read_report() {
	output=$(<"$1")
}

# -- copies --------------------------------------------------------------------------------------

@test "a copy in which all is well" {
	report source first second:8
	assert_status 0
	[[ $stderr == *"first: 4096 sectors"*"second: 4096 sectors"* ]]
	assert_report '.dry_run == false and .status == 0 and .signal == null and .interrupted == false' \
		'.reasons == [] and .read_err == 0 and .write_err == 0 and .failed == []' \
		'(.kcopy | type) == "string" and .elapsed_seconds > 0 and .elapsed_seconds < 120' \
		'.written_bytes == 4194304' \
		'.source | .operand == "source" and .path == "source" and .number == 0 and .size_bytes == 2097152' \
		'.source | .region == { "sector": 0, "count": 4096, "bytes": 2097152 } and .unreadable_sectors == 0' \
		'.source | .errors == [] and .untold_sectors == 0 and .read_sectors == 4096 and .hole_sectors == 0' \
		'.limit_bytes_per_second == null and .throttle_percent == 100' \
		'[.destinations[] | .number, .operand, .kind, .region.sector] == [1, "first", "new-file", 0, 2, "second", "new-file", 8]' \
		'[.destinations[] | .state, .flushed] | unique == [true, "complete"]' \
		'[.destinations[] | [0, .written_seconds, .flushed_seconds] | . == sort] | all' \
		'([.destinations[].flushed_seconds] | max) <= .elapsed_seconds' \
		'[.destinations[] | .written_sectors, .contiguous_sectors] | unique == [4096]' \
		'[.destinations[] | .resumed_sectors, .zeroed_sectors, .failed_sectors, .untold_sectors] | unique == [0]' \
		'[.destinations[] | .dropped, .stalled, .abandoned, .refused] | unique == [false]' \
		'[.destinations[] | .errors, .reasons] | unique == [[]]' \
		'[.destinations[] | .first_bad_sector, .map] | unique == [null]'
	# Every key is always there.
	local keys
	keys=$(jq -c '[keys, (.source | keys), (.destinations[0] | keys)]' <<<"$output")
	report source:1 source
	assert_status 128
	[[ $(jq -c '[keys, (.source | keys), (.destinations[0] | keys)]' <<<"$output") == "$keys" ]]
}

@test "zeros have no source" {
	report --quiet --zero new:0+8 other:8+16
	assert_status 0
	[[ -z $stderr ]]
	assert_report '.source == null and .written_bytes == 12288' \
		'[.destinations[] | .state, .written_sectors] == ["complete", 8, "complete", 16]'
}

@test "what was read, what was a hole, and what was zeroed without sending zeros" {
	truncate -s $((16 * MIB)) sparse
	dd if=source of=sparse bs=$MIB seek=4 conv=notrunc status=none
	# Zeros that are data.
	dd if=/dev/zero of=sparse bs=$MIB count=1 seek=10 conv=notrunc status=none
	sync sparse
	(($(du -k sparse | cut -f1) == 3072)) || skip_because 'needs a file system with holes'
	report sparse copy
	assert_status 0
	assert_same sparse 0 copy 0 $((16 * MIB))
	assert_report '.source | .read_sectors == 6144 and .hole_sectors == 26624 and .unreadable_sectors == 0' \
		'.destinations[0] | .written_sectors == 32768 and .zeroed_sectors == 28672'
	report --sparse=never --force sparse copy
	assert_status 0
	assert_report '.source | .read_sectors == 32768 and .hole_sectors == 0' '.destinations[0].zeroed_sectors == 0'
	report --zero zeros:8+64
	assert_status 0
	assert_report '.destinations[0].zeroed_sectors == 64'
	# Of what a map says is missing only.
	report --map=map sparse first
	assert_status 0
	sed -i 's/^0x00000000  0x01000000  +$/0x00000000  0x00500000  +\n0x00500000  0x00700000  ?\n0x00C00000  0x00400000  +/' map
	report --map=map sparse first
	assert_status 0
	assert_report '.source | .read_sectors == 4096 and .hole_sectors == 10240' \
		'.destinations[0] | .written_sectors == 32768 and .resumed_sectors == 18432 and .zeroed_sectors == 12288'
	report --map=map sparse first
	assert_report '.source | .read_sectors == 0 and .hole_sectors == 0'
}

@test "errors of every kind, with their places" {
	need_loop
	need_nbd
	local bad full
	bad=$(bad_read_new "$scratch/bad" "$scratch/source" 4096,1024 8192,512 $MIB,512 $((2 * MIB - 512)),512)
	full=$(bad_write_new "$scratch/full" $((2 * MIB)) $((MIB / 2)) 8192)
	filled_file image $((2 * MIB))
	bad_flush_file "$scratch/lost" "$scratch/image"
	report --on-error=ignore --retries=0 "$bad" "$full" copy lost
	assert_status $((1 + 2 + 8))
	assert_report '.status == 11 and .read_err == 1 and .write_err == 5 and .failed == [0, 1, 3]' \
		'.source.unreadable_sectors == 5 and .source.untold_sectors == 0' \
		'.source.read_sectors == 4091 and .source.hole_sectors == 0' \
		'[.source.errors[] | [.op, .sector, .count, .errno, .error, .message]] ==
			[["read", 8, 2], ["read", 16, 1], ["read", 2048, 1], ["read", 4095, 1]
			| . + [5, "EIO", "Input/output error"]]' \
		'[.destinations[].state] == ["failed", "incomplete", "failed"]' \
		'[.destinations[].dropped] == [false, false, false]' \
		'[.destinations[].flushed] == [false, true, false]' \
		'.destinations[0] | .failed_sectors == 16 and .first_bad_sector == 1024 and .written_sectors == 4080 and
			.contiguous_sectors == 1024 and .errors == [{ "op": "write", "sector": 1024, "count": 16,
			"errno": 28, "error": "ENOSPC", "message": "No space left on device" }]' \
		'.destinations[1] | .failed_sectors == 0 and .contiguous_sectors == 4096 and .errors == []' \
		'.destinations[2] | .failed_sectors == 0 and .first_bad_sector == null and .errors == [{ "op": "flush",
			"sector": null, "count": null, "errno": 5, "error": "EIO", "message": "Input/output error" }]'
	# What ends there.
	report --retries=0 "$bad" "$full" new
	assert_status 1
	assert_report '.read_err == 1 and .write_err == 0 and .failed == [0] and .source.unreadable_sectors == .source.errors[0].count' \
		'[.source.errors[].sector] == [8]' '.source.hole_sectors == null' \
		'[.destinations[] | .state, .contiguous_sectors] == ["incomplete", 8, "incomplete", 8]'
	report --retries=0 source "$full" new
	assert_status 2
	assert_report '.destinations[0] | .state == "failed" and .dropped and .contiguous_sectors == 1024 and
		.first_bad_sector == 1024' '.destinations[1].state == "complete"'
}

@test "the whole mask, where the exit status has no bits left" {
	need_loop
	local first second
	first=$(bad_write_new "$scratch/full1" $((2 * MIB)) 0 4096)
	second=$(bad_write_new "$scratch/full2" $((2 * MIB)) 0 4096)
	report --retries=0 source 1 2 3 4 5 6 "$first" 8 "$second"
	assert_status 64
	assert_report '.status == 64 and .write_err == 320 and .failed == [7, 9]' \
		'[.destinations[] | select(.state != "complete") | .number] == [7, 9]'
}

@test "maps: what was there before, and which is not saved" {
	need_root
	tmpfs_new "$scratch/small" 16384
	report --map=small/map source first second
	assert_status 0
	assert_report '[.destinations[].map | .path, .saved, .error] ==
		["small/map.1", true, null, "small/map.2", true, null]'
	dd if=/dev/zero of=small/filler bs=4096 2>/dev/null || :
	rm second small/map.2
	report --map=small/map source first second
	assert_status 0
	# The first one's stands there as it is.
	[[ $stderr != *"small/map.1 is NOT saved"* ]]
	[[ $stderr == *"second: its map small/map.2 is NOT saved: No space left on device"* ]]
	[[ $stderr != *'the same command goes on'* ]]
	assert_report '.written_bytes == 2097152' \
		'[.destinations[] | .state, .written_sectors, .resumed_sectors] == ["complete", 4096, 4096, "complete", 4096, 0]' \
		'[.destinations[].map | .saved, .error] == [true, null, false, "No space left on device"]'
}

@test "after an interruption the report is complete, and what to do next is said" {
	need_loop
	need_nbd
	local options held
	filled_file image $((2 * MIB))
	gate_new slow image $MIB
	for options in --quiet --map=map '--stall-timeout=1000 --map=map'; do
		rm -f slow.reached
		: >slow.gate
		# shellcheck disable=SC2086
		kcopy_start --json=report --pages=32 $options source "$loop" copy
		gate_wait slow
		kill -INT "$pid"
		poll "$KCOPY_TIMEOUT" grep -q 'ending in order' err
		gate_open slow
		kcopy_wait
		assert_status 130
		[[ $options == *map=* ]] || assert_not_said 'the same command'
		[[ $options != *map=* ]] || assert_said 'the same command goes on where this one ended, by its maps'
		held=$(holds "$loop")
		read_report report
		assert_report '.status == 130 and .signal == "SIGINT" and .interrupted and .write_err == 0' \
			'[.destinations[] | .state] == ["interrupted", "interrupted"]' \
			'[.destinations[] | .flushed] == [true, true]' ".destinations[0].written_sectors == $held" \
			'.source.hole_sectors == null and .source.read_sectors > 0' \
			'[.destinations[] | .written_seconds] == [null, null]' \
			'all(.destinations[]; .flushed_seconds > 0)'
		rm -f map.*
	done
}

@test "a destination that hangs to the end is in the report" {
	need_loop
	need_nbd
	filled_file image $((2 * MIB))
	gate_new slow image $MIB
	kcopy_start --json=report --pages=32 --stall-timeout=1 source "$loop" copy
	# Written though the child cannot end.
	poll "$KCOPY_TIMEOUT" grep -q '"status"' report
	read_report report
	gate_open slow
	assert_report '.status == 2 and .destinations[1].state == "complete"' \
		'.destinations[0] | .state == "failed" and .dropped and .stalled and .abandoned and
			.errors[0].error == "ETIMEDOUT"'
	kcopy_wait
	assert_status 2
	jq -e . report >/dev/null
}

# -- refusals ------------------------------------------------------------------------------------

@test "a refusal's reasons are in the report and in the plan, and with their operands" {
	local option
	filled_file old $((2 * MIB))
	remember
	for option in --quiet --dry-run; do
		report $option --expect=7:size=1 missing source nowhere/new old:1x old
		assert_status 128
		assert_unchanged
		# What was printed, but for the summary.
		[[ $(sed 's/^kcopy: //; /^nothing was written$/d' <<<"$stderr") == $(jq -r '.reasons[]' <<<"$output") ]]
		assert_report '.status == 128 and (.reasons | length) == 4'
	done
	report missing source nowhere/new
	assert_report '.source.reasons == ["does not exist"] and .destinations[0].reasons == []' \
		'.destinations[1] | .reasons == ["cannot be created: its directory: No such file or directory"] and .refused' \
		'[.destinations[].state] == ["untouched", "untouched"] and .written_bytes == 0 and .write_err == 0' \
		'.source.read_sectors == 0 and .source.hole_sectors == null and .destinations[0].zeroed_sectors == 0'
	report --dry-run missing source nowhere/new
	assert_report '[.operands[].reasons | length] == [1, 0, 1]'
}

@test "a command line that makes no sense is in the report, too" {
	report --pages=none source new
	assert_status 128
	assert_report '.status == 128 and .source == null and .destinations == [] and (.reasons | length) == 1' \
		'.reasons[0] | test("--pages=none: not a number")'
	report --nonsense
	assert_status 128
	assert_report '.reasons == ["--nonsense: unknown option; try '"'kcopy --help'"'"]'
	report
	assert_status 128
	assert_report '.reasons[0] | test("no operands")'
	run kcopy --pages=none --json=report source new
	assert_status 128
	read_report report
	assert_report '.reasons | length == 1'
	: >new
	refuses 'new: is named on the command line, too' --pages=none --json=new source new
	refuses 'new: is named on the command line, too' --pages=none --json=new source new:8
	run kcopy --pages=none -- --json=report source new
	assert_status 128
	assert_not_said '"kcopy"'
}

@test "a reserve that cannot be had is a refusal with a report" {
	need_plain_build
	run --separate-stderr bash -c 'ulimit -v 300000; exec "$@"' - timeout 100 "$KCOPY" --json --pages=1000000 source new
	assert_status 128
	assert_report '.status == 128 and (.reasons[0] | test("a reserve of 1000000 pages")) and .destinations[0].state == "untouched"'
	[[ ! -e new ]]
}

# -- where it goes -------------------------------------------------------------------------------

@test "--json=FILE: an older report is replaced, and nothing else is overwritten" {
	local file
	filled_file old $((2 * MIB))
	filled_file precious 4096
	ln old hard
	run kcopy --json=report source one two three
	assert_status 0
	run kcopy --json=report source one
	assert_status 0
	read_report report
	assert_report '.destinations | length == 1'
	# A plan's place may be a report's, and the other way round.
	run kcopy -n --json=report source one
	assert_status 0
	run kcopy --json=report source one
	assert_status 0
	for file in old hard source ./one; do
		refuses 'is an operand' --json="$file" source old one
	done
	refuses 'new: is an operand' --json=new source new
	refuses 'precious: exists and is no plan or report' --json=precious source old
	refuses 'regular files only' --json=/dev/null source old
	refuses 'nowhere/report: the report cannot be written: No such file' --json=nowhere/report source old
	refuses 'map: is a map, too' --json=map --map=map source old
	refuses 'map.2: is a map, too' --json=map.2 --map=map source old one
	run bash -c 'exec "$@" >>old' - timeout 100 "$KCOPY" --json source old
	assert_status 128
	assert_said 'old: standard output goes there too'
}

@test "a report that could not be written has its own status, and never hides a failure" {
	need_root
	[[ -c /dev/full ]] || skip_because 'needs /dev/full'
	run bash -c 'exec "$@" >/dev/full' - timeout 100 "$KCOPY" --json source new
	assert_status 200
	assert_said 'standard output: No space left'
	assert_said 'new: 4096 sectors .*written and flushed'
	assert_same source 0 new 0 $((2 * MIB))
	run bash -c 'exec "$@" >&-' - timeout 100 "$KCOPY" --json source new
	assert_status 200
	assert_said 'standard output'
	# shellcheck disable=SC2016
	run bash -c 'env --default-signal "$@" | :; exit ${PIPESTATUS[0]}' - timeout 100 "$KCOPY" --json source new:8
	assert_status 200
	assert_said 'standard output: Broken pipe'
	run bash -c 'exec "$@" >/dev/full' - timeout 100 "$KCOPY" --json --stall-timeout=1000 source new
	assert_status 200
	tmpfs_new "$scratch/full" 4096
	: >full/report
	dd if=/dev/zero of=full/filler bs=4096 2>/dev/null || :
	run kcopy --json=full/report source new
	assert_status 200
	assert_said 'full/report: the report cannot be written: No space left on device'
	# The failure is worse, and so is a refusal.
	run bash -c 'ulimit -f 1024; exec "$@" >/dev/full' - timeout 100 "$KCOPY" --json source other
	assert_status 128
	need_loop
	local bad
	bad=$(bad_write_new "$scratch/bad" $((2 * MIB)) 0 4096)
	run bash -c 'exec "$@" >/dev/full' - timeout 100 "$KCOPY" --json --retries=0 source new "$bad"
	assert_status 4
	assert_said 'standard output: No space left'
}
