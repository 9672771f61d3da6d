#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# What is said and where, and that nothing which becomes of it changes what is copied or the exit status.

load lib.bash

setup_test() {
	random_file source 100352
}

# -- ordinary ------------------------------------------------------------------------------------

@test "says of each destination on standard error, in the order of the operands, that it is flushed" {
	run --separate-stderr kcopy source third first second
	assert_status 0
	assert_silent
	[ "${#stderr_lines[@]}" = 3 ]
	[[ ${stderr_lines[0]} == "kcopy: third: 196 sectors ("*") written and flushed" ]]
	[[ ${stderr_lines[1]} == "kcopy: first: 196 sectors ("*") written and flushed" ]]
	[[ ${stderr_lines[2]} == "kcopy: second: 196 sectors ("*") written and flushed" ]]
}

@test "-q prints nothing when all is well, and still prints what is not" {
	run kcopy -q source copy
	assert_status 0
	assert_silent
	run kcopy --quiet --zero copy
	assert_status 0
	assert_silent
	run kcopy -q source missing/copy
	assert_status 128
	assert_said 'missing/copy'
	filled_file first 4194304
	run bash -c 'ulimit -f 1024; exec "$@"' - timeout 100 "$KCOPY" -q source first:4096 second
	assert_status 2
	assert_said 'first: FAILED'
	assert_not_said 'second'
}

@test "-v says more" {
	run kcopy -v source copy
	assert_status 0
	assert_said 'source: .*196'
	assert_said '[0-9]+ pages'
	assert_said 'copy: .*flushed'
}

@test "--help, -?, --usage and --version print on standard output and succeed" {
	local option
	run --separate-stderr kcopy --help
	assert_status 0
	[ -z "$stderr" ]
	for option in zero on-error retries pages quiet verbose version help; do
		assert_said "--$option"
	done
	assert_said 'exit status'
	run --separate-stderr kcopy '-?'
	assert_status 0
	assert_said '--on-error'
	[ -z "$stderr" ]
	for option in --version -V; do
		run --separate-stderr kcopy $option
		assert_status 0
		[[ $output =~ ^kcopy\ [0-9]+\.[0-9] ]]
		[ -z "$stderr" ]
	done
}

@test "output that was asked for and cannot be written is an error" {
	local option
	[[ -c /dev/full ]] || skip_because 'needs /dev/full'
	for option in --help --version --usage; do
		run bash -c 'exec "$@" >/dev/full' - timeout 100 "$KCOPY" $option
		[ "$status" -ne 0 ]
		assert_said 'standard output'
		run bash -c 'exec "$@" >&-' - timeout 100 "$KCOPY" $option
		[ "$status" -ne 0 ]
		assert_said 'standard output'
	done
}

@test "names that are not plain text cannot play tricks on a terminal" {
	local name=$'new\nkcopy: good\e[31m\a\tname' char
	run kcopy source "$name"
	assert_status 0
	assert_same source 0 "$name" 0 100352
	for char in $'\e' $'\a' $'\t'; do
		[[ $output != *"$char"* ]]
	done
	[ "${#lines[@]}" = 1 ]
	run kcopy "missing$name" copy
	assert_status 128
	for char in $'\e' $'\a' $'\t'; do
		[[ $output != *"$char"* ]]
	done
}

# -- descriptors that are closed, full or broken -------------------------------------------------

# Each way to have no standard output or error; $pipe is one that nobody reads.
readonly WAYS=('>&-' '2>&-' '<&-' '>&- 2>&-' '<&- >&- 2>&-' '>/dev/full' '2>/dev/full' '>/dev/full 2>&1'
	'2>&9' '>&9 2>&1')

# kcopy_with REDIRECTIONS ARGUMENT...: sets $status; SIGPIPE and SIGXFSZ are at their defaults.
kcopy_with() {
	local redirections=$1
	shift
	rm -f unread
	mkfifo unread
	# shellcheck disable=SC2094
	exec 8<>unread 9>unread 8<&-
	status=0
	# The redirections are part of the command.
	eval 'env --default-signal timeout -k 10 "$KCOPY_TIMEOUT" "$KCOPY" "$@" 3>&- 4>&- '"$redirections" || status=$?
	exec 9>&-
	rm -f unread
}

@test "a copy is complete and its status true without standard input, output or error" {
	local way
	for way in "${WAYS[@]}"; do
		rm -f first second
		kcopy_with "$way" source first second
		[ "$status" = 0 ] || fail "status $status with $way"
		assert_size first 100352
		assert_same source 0 first 0 100352
		assert_same source 0 second 0 100352
	done
}

@test "a failure's status is true without standard input, output or error, and no message goes to a destination" {
	need_loop
	local way bad
	bad=$(bad_write_new "$scratch/full" 131072 65536 65536)
	image_loop image 131072
	for way in "${WAYS[@]}"; do
		rm -f copy
		filled_file old 131072
		fill_bytes image 0 131072
		blockdev --flushbufs "$loop"
		random_file source 100352
		kcopy_with "$way" -v source "$loop" "$bad" copy old
		[ "$status" = 4 ] || fail "status $status with $way"
		assert_same source 0 "$loop" 0 100352
		assert_bytes "$loop" 100352 $((131072 - 100352))
		assert_size copy 100352
		assert_same source 0 copy 0 100352
		assert_same source 0 old 0 100352
		assert_bytes old 100352 $((131072 - 100352))
	done
}

# On ext4, direct I/O would refuse to write a message; a tmpfs takes anything.
@test "no message goes into a destination that is opened first, with every standard descriptor closed" {
	local way
	memory_dir
	for way in "${WAYS[@]}"; do
		filled_file "$memory/first" 65536
		filled_file "$memory/second" 65536
		kcopy_with "$way" -v --zero "$memory/first" "$memory/second"
		[ "$status" = 0 ] || fail "status $status with $way"
		assert_size "$memory/first" 65536
		assert_zeros "$memory/first" 0 65536
		assert_zeros "$memory/second" 0 65536
	done
}

@test "a refusal's status is 128 without standard input, output or error, and nothing changes" {
	local way
	filled_file old 100352
	for way in "${WAYS[@]}"; do
		remember
		kcopy_with "$way" source old missing/new
		[ "$status" = 128 ] || fail "status $status with $way"
		assert_unchanged
	done
}

# -- a terminal ----------------------------------------------------------------------------------

# typed PATTERN: it is on the terminal.
typed() {
	tr '\r' '\n' <typescript 2>/dev/null | grep -qE -e "$1"
}

not_typed() {
	! typed "$1" || fail "'$1' should not be in:" "$(<typescript)"
}

# terminal_start ARGUMENT...: kcopy on a terminal of its own, $columns wide if that is set; what it prints there is in
# typescript.
terminal_start() {
	local command
	printf -v command '%q ' "$KCOPY" "$@"
	script -qefc "${columns:+stty cols $columns; }exec $command" typescript </dev/null >/dev/null 2>&1 3>&- 4>&- &
	pid=$!
	started+=("$pid")
}

@test "on a terminal there is a line of progress, that is never 100 % before the flush" {
	need_loop
	need_nbd
	need_tool script
	random_file source 8388608
	filled_file image 8388608
	gate_new slow image 4194304
	: >slow-flush.gate
	rm -f slow-flush.reached # by the kernel, when the loop device was set up
	terminal_start --pages=512 source "$loop" copy
	gate_wait slow
	poll "$KCOPY_TIMEOUT" typed '^[^a-z]*[1-9][0-9]? %  .* of 8 MiB'
	# At most what is before the gate is written.
	not_typed '(5[1-9]|[6-9][0-9]|100) %'
	gate_open slow
	gate_wait slow-flush
	poll "$KCOPY_TIMEOUT" typed 'flushing'
	not_typed '100 %'
	not_typed 'written and flushed'
	gate_open slow-flush
	: >err
	kcopy_wait
	assert_status 0
	typed "$loop: 16384 sectors .*written and flushed"
}

@test "on a narrow terminal the line of progress has less in it, and nothing of it is cut off" {
	need_tool script stty
	local columns line size='[0-9.]+ [KM]?i?B' left='[0-9]+:[0-9]{2} left'
	for columns in 80 42 30 12 5; do
		terminal_start --limit=100KB source copy
		: >err
		kcopy_wait
		assert_status 0
		tr '\r' '\n' <typescript | sed -n 's/\x1b\[K//; /%/p' >lines
		while read -r line; do
			((${#line} < columns)) || fail "wider than $columns: $line"
			grep -qxE " ?[0-9]+ %(  $size of $size)?(,? +$size/s)?(,? +($left|flushing))?" <<<"$line" ||
				fail "cut off at $columns: $line"
		done < <(sed 's/^ *//' lines)
		case $columns in
		80) grep -qE "% +$size of $size, $size/s, $left$" lines ;;
		42) grep -qE "% +$size of $size, $left$" lines ;;
		30) grep -qE "% +$left$" lines ;;
		12) grep -qE '^ *[0-9]+ %$' lines ;;
		5) ! grep -q . lines || fail 'it cannot fit' ;;
		esac || fail "not what fits into $columns:" "$(<lines)"
		rm copy
	done
}

@test "behind an interrupt the line of progress does not say how long it takes" {
	need_loop
	need_nbd
	need_tool script pgrep
	random_file source 8388608
	filled_file image 8388608
	gate_new slow image 4194304
	terminal_start --pages=512 source "$loop"
	gate_wait slow
	poll "$KCOPY_TIMEOUT" typed ' left$'
	kill -TERM "$(pgrep -P "$pid")"
	poll "$KCOPY_TIMEOUT" typed '%  .* of 8 MiB, ending$'
	sed '1,/ending in order/d' typescript >behind
	gate_open slow
	: >err
	kcopy_wait
	assert_status 143
	! grep -q left behind || fail 'it goes on counting:' "$(<behind)"
}

@test "the line of progress of a list of jobs counts what is under way" {
	need_loop
	need_nbd
	need_tool script pgrep
	random_file source 8388608
	filled_file image 8388608
	gate_new slow image 4194304
	echo "source $loop" >list
	terminal_start --pages=512 --jobs=list
	gate_wait slow
	poll "$KCOPY_TIMEOUT" typed '[1-9][0-9] %  [34][0-9.]* MiB of 8 MiB'
	gate_open slow
	: >err
	kcopy_wait
	assert_status 0
}

@test "what a map had before is not taken for a rate" {
	need_tool script pgrep
	random_file source 67108864
	run kcopy -q --map=map source copy
	assert_status 0
	# As if the last quarter were missing.
	sed -i 's/^\(0x0*\) .*+$/\1  0x03000000  +\n0x03000000  0x01000000  ?/' map
	terminal_start --limit=4M --map=map source copy
	poll "$KCOPY_TIMEOUT" typed ' of 64 MiB, .*/s, '
	kill -TERM "$(pgrep -P "$pid")"
	: >err
	kcopy_wait
	not_typed ', [1-9][0-9][0-9.]* MiB/s'
}

@test "there is no line of progress while kcopy is in the background of its terminal" {
	local command
	need_tool script
	printf -v command '%q ' "$KCOPY" --limit=100KB source copy
	printf 'set -m\n%s' "$command & wait \$!" >job
	script -qefc 'bash job' typescript </dev/null >/dev/null 2>&1 3>&- 4>&- &
	pid=$!
	started+=("$pid")
	: >err
	kcopy_wait
	assert_status 0
	typed 'copy: 196 sectors'
	not_typed '%'
	printf '%s' "$command" >job
	script -qefc 'bash job' typescript </dev/null >/dev/null 2>&1 3>&- 4>&-
	typed '^[^a-z]*[1-9][0-9]? %  .* of 98 KiB'
}

@test "there is no line of progress with --quiet or without a terminal" {
	need_tool script
	run kcopy source copy
	assert_not_said '%'
	terminal_start --quiet source copy
	: >err
	kcopy_wait
	assert_status 0
	not_typed '%'
	assert_same source 0 copy 0 100352
}
