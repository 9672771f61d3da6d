#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# --limit, --throttle, and --remote, which changes them while a copy runs. No time is measured: with a limit of one byte
# a second a copy ends when that is taken away, and not before.

load lib.bash

readonly BYTES=$((3 * 1048576 + 5 * 512))

setup_test() {
	random_file source $BYTES
}

# slow_start ARGUMENT...: a copy that can be asked, and does not end by itself.
slow_start() {
	kcopy_start --limit=1 "$@"
	poll "$KCOPY_TIMEOUT" is_listening
}

is_listening() {
	"$KCOPY" --remote="$pid" >/dev/null 2>&1 3>&- 4>&-
}

# -- values --------------------------------------------------------------------------------------

@test "copies everything, whatever the limit and the throttle" {
	local option
	for option in --limit=none --limit=9223372036854775807 --limit=1P --limit=200MB --throttle=100 --throttle=99 --throttle=50; do
		run kcopy -q $option source copy
		assert_status 0
		assert_silent
		assert_same source 0 copy 0 $BYTES
		rm copy
	done
	run kcopy -q --limit=400M --throttle=30 --pages=1 source copy second
	assert_status 0
	assert_same source 0 copy 0 $BYTES
	assert_same source 0 second 0 $BYTES
	run kcopy -q --zero --force --throttle=50 copy
	assert_status 0
	assert_zeros copy 0 $BYTES
}

@test "refuses a limit that is none, and says why" {
	local text
	for text in 0 0M '' -5 +5 50X 1.5M '5 M' 50M/s ' 5' 9223372036854775808 8192P 99999999999999999999; do
		run kcopy --limit="$text" source copy
		assert_status 128
		assert_said "--limit=.*: "
		[ ! -e copy ]
	done
	run kcopy --limit=0 source copy
	assert_said 'write none for no limit'
	run kcopy --zero --limit=5M copy
	assert_status 128
	assert_said 'use --throttle'
	[ ! -e copy ]
}

@test "refuses a throttle that is no percentage" {
	local text
	for text in 0 101 '' -1 1.5 50% x 4294967297; do
		run kcopy --throttle="$text" source copy
		assert_status 128
		assert_said '--throttle=.*: not a percentage; write a whole number from 1 to 100'
		[ ! -e copy ]
	done
}

@test "-v says the limit and the throttle" {
	run kcopy -v --limit=50M --throttle=99 source copy
	assert_status 0
	assert_said 'kcopy: limit 50 MiB/s, throttle 99 %$'
	run kcopy -v --limit=7MB source copy
	assert_said 'kcopy: limit 7 MB/s, throttle 100 %$'
	run kcopy -v source copy
	assert_not_said 'limit'
}

# -- a copy that runs ----------------------------------------------------------------------------

@test "--remote changes what holds for a copy that runs, and prints it" {
	slow_start -v source copy
	run --separate-stderr kcopy --remote="$pid"
	assert_status 0
	[ "$output" = 'limit 1 B/s, throttle 100 %' ]
	[ -z "$stderr" ]
	run kcopy -R "$pid" --throttle=50
	assert_status 0
	assert_silent
	run kcopy -R "$pid"
	[ "$output" = 'limit 1 B/s, throttle 50 %' ]
	run kcopy -v --remote="$pid" --limit=2 --throttle=100
	assert_status 0
	[ "$output" = "kcopy: process $pid: limit 2 B/s, throttle 100 %" ]
	run kcopy -R "$pid" --limit=none
	assert_status 0
	kcopy_wait
	assert_status 0
	assert_said '^kcopy: limit 1 B/s, throttle 50 %, as process [0-9]+ asks$'
	assert_said '^kcopy: limit 2 B/s, throttle 100 %, as process [0-9]+ asks$'
	assert_said '^kcopy: limit none, throttle 100 %, as process [0-9]+ asks$'
	assert_same source 0 copy 0 $BYTES
}

@test "the report has what held last" {
	need_tool jq
	slow_start --json=report source copy
	run kcopy -R "$pid" --throttle=50
	run kcopy -R "$pid" --limit=100MB
	kcopy_wait
	assert_status 0
	[ "$(jq -c '[.limit_bytes_per_second, .throttle_percent]' report)" = '[100000000,50]' ]
	run kcopy -q --json=report --limit=1G source copy
	assert_status 0
	[ "$(jq -c '[.limit_bytes_per_second, .throttle_percent]' report)" = '[1073741824,100]' ]
	run kcopy -q --json=report --throttle=20 source missing/copy
	assert_status 128
	[ "$(jq -c '[.limit_bytes_per_second, .throttle_percent]' report)" = '[null,20]' ]
}

@test "a copy in a process of its own, for --stall-timeout, is reached by its parent's number" {
	slow_start --stall-timeout=3600 source copy
	run kcopy --remote="$pid" --limit=1P
	assert_status 0
	kcopy_wait
	assert_status 0
	assert_same source 0 copy 0 $BYTES
}

@test "a limit does not keep a signal from ending a copy in order" {
	slow_start source copy second
	poll "$KCOPY_TIMEOUT" cmp -s -n 4096 source copy
	poll "$KCOPY_TIMEOUT" cmp -s -n 4096 source second
	kill -TERM "$pid"
	kcopy_wait
	assert_status 143
	assert_said 'copy: interrupted: 8 of [0-9]+ sectors'
	assert_said 'second: interrupted: 8 of [0-9]+ sectors'
	assert_same source 0 copy 0 4096
}

@test "a list of jobs has one limit, which can be changed while it runs" {
	need_tool seq
	seq 0 99 | while read -r line; do echo "source:$((line * 8))+8 copy$line"; done >list
	slow_start --jobs=list
	run kcopy --remote="$pid" --limit=none
	assert_status 0
	kcopy_wait
	assert_status 0
	assert_said '100 jobs complete'
	assert_same source $((99 * 4096)) copy99 0 4096
}

# -- who may ask what ----------------------------------------------------------------------------

@test "--remote says what is wrong with the process" {
	local number
	run kcopy --remote=$$ --limit=5M
	assert_status 128
	assert_said "--remote: process $$ is not a kcopy that is copying"
	run kcopy --remote=4194305 # more than the kernel has
	assert_status 128
	assert_said '--remote: process 4194305 does not exist'
	for number in 0 -1 x '' 1.5 99999999999; do
		run kcopy --remote="$number"
		assert_status 128
		assert_said '--remote=.*: not the number of a process'
	done
}

@test "--remote refuses what it cannot change" {
	slow_start source copy
	run kcopy --remote="$pid" --limit=none source other
	assert_status 128
	assert_said 'only --limit and --throttle'
	run kcopy --remote="$pid" --limit=none --force
	assert_status 128
	run kcopy --remote="$pid" --limit=none --pages=5
	assert_status 128
	run kcopy --remote="$pid" --limit=0
	assert_status 128
	run kcopy --remote="$pid" --limit=none --jobs=list
	assert_status 128
	assert_said 'only --limit and --throttle'
	[ ! -e other ]
	run kcopy --remote="$pid"
	[ "$output" = 'limit 1 B/s, throttle 100 %' ]
	kill -INT "$pid"
	kcopy_wait
	assert_status 130
}

@test "only root and the user that a copy belongs to can change it" {
	need_nobody
	slow_start source copy
	run kcopy_as_nobody --remote="$pid" --limit=none
	assert_status 128
	assert_said "--remote: process $pid copies for somebody else"
	run kcopy_as_nobody --remote="$pid"
	assert_status 128
	run kcopy --remote="$pid"
	[ "$output" = 'limit 1 B/s, throttle 100 %' ]
	run kcopy --remote="$pid" --limit=none
	assert_status 0
	kcopy_wait
	assert_status 0
}

@test "root can change an ordinary user's copy" {
	need_nobody
	mkdir -m 777 open
	chmod 755 .
	setpriv --reuid 65534 --regid 65534 --clear-groups env --default-signal \
		"$KCOPY" --limit=1 source open/copy </dev/null >out 2>err 3>&- 4>&- &
	pid=$!
	started+=("$pid")
	poll "$KCOPY_TIMEOUT" is_listening
	run kcopy_as_nobody --remote="$pid"
	assert_status 0
	run kcopy --remote="$pid" --limit=none
	assert_status 0
	kcopy_wait
	assert_status 0
	assert_same source 0 open/copy 0 $BYTES
}

@test "--remote fails if what it was asked for cannot be printed" {
	[ -e /dev/full ] || skip_because 'needs /dev/full'
	slow_start source copy
	run bash -c '"$@" >/dev/full' - "$KCOPY" --remote="$pid"
	assert_status 128
	assert_said 'standard output'
	run kcopy --remote="$pid" --limit=none
	assert_status 0
	kcopy_wait
	assert_status 0
}
