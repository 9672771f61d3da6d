#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# Ended at random times, again and again, each time the same command, until it ends with 0: then every destination is
# the source. And the maps that are saved every half a minute while a copy runs. Takes minutes: 'make check-long'.
#
#   KCOPY_TEST_SEED   again what a run printed its seed for (the times are random still)
#   KCOPY_LONG_KILLS  how many times SIGKILL has to hit, in each test (default 100)

load ../lib.bash

readonly MIB=1048576

setup_test() {
	need_loop
	need_nbd
	seed=${KCOPY_TEST_SEED:-$((RANDOM << 15 | RANDOM))}
	RANDOM=$((seed % 32768))
	echo "# seed $seed" >&3
}

# claims MAP SOURCE DEST: what the map claims is on the destination.
claims() {
	local pos size status
	while read -r pos size status; do
		[[ $status != + ]] || assert_same "$2" $((pos)) "$3" $((pos)) $((size)) || return
	done < <(grep -v '^#' "$1" | tail -n +2)
}

safe() {
	local pos size status sum=0
	while read -r pos size status; do
		[[ $status != + ]] || sum=$((sum + size))
	done < <(grep -v '^#' "$1" | tail -n +2)
	echo $sum
}

# has_claims MAP: it claims something.
has_claims() {
	(($(safe "$1") > 0))
}

now_ms() {
	echo $(($(date +%s%N) / 1000000))
}

# Signals are harder on a copy than they are on its map: a map is saved at INT, and lost work at KILL.
# end_it MILLISECONDS: one run, which is ended after a random part of these by a random signal, if it is not over.
end_it() {
	local signal=KILL delay=$((RANDOM % ($1 + 10)))
	((RANDOM % 2)) || signal=INT
	kcopy_start "${command[@]}"
	sleep "$(printf '0.%03d' $((delay < 1000 ? delay : 999)))"
	kill -$signal "$pid" 2>/dev/null || true
	kcopy_wait
	case $status in
	137) kills=$((kills + 1)) ;;
	130) ints=$((ints + 1)) ;;
	0 | 1) ended=$((ended + 1)) ;;
	*) fail "status $status after $signal" "$output" ;;
	esac
}

# trials SOURCE IMAGE DEST-IMAGE...: until there were enough kills. $1 the source's device, $2 what it holds.
trials() {
	local source=$1 image=$2 most=${KCOPY_LONG_KILLS:-100} kills=0 ints=0 ended=0 rounds=0 number took begin name
	shift 2
	begin=$(now_ms)
	run kcopy "${command[@]}"
	took=$(($(now_ms) - begin))
	((status < 2)) || fail "status $status" "$output"
	while ((kills < most)); do
		rm -f map map.[0-9] new
		random_file fresh "$(stat -c %s "$image")"
		dd if=fresh of="$image" bs=1M conv=notrunc status=none
		fresh "$source"
		[[ ! -e can-break ]] || : >source.broken
		rounds=$((rounds + 1))
		for ((number = RANDOM % 6; number >= 0; number--)); do
			end_it "$took"
			name=1
			for file; do
				[[ ! -e map.$name ]] || claims map.$name "$image" "$file" || return
				name=$((name + 1))
			done
		done
		rm -f source.broken
		run kcopy "${command[@]}"
		assert_status 0 || return
		for file; do
			assert_same "$image" 0 "$file" 0 "$(stat -c %s "$image")" || return
		done
	done
	echo "# $rounds copies, $kills times KILL, $ints times INT, $ended runs that ended before" >&3
}

@test "KILL and INT at random times, 100 times KILL: two disks and a new file" {
	local source first
	random_file image $((48 * MIB))
	source=$(loop_new "$scratch/image" --direct-io=on)
	filled_file copy1 $((48 * MIB))
	first=$(loop_new "$scratch/copy1" --direct-io=on)
	filled_file copy2 $((48 * MIB))
	loop=$(loop_new "$scratch/copy2" --sector-size 4096)
	command=(--map=map "$source" "$first" "$loop" new)
	trials "$source" image copy1 copy2 new
}

@test "KILL and INT at random times, 100 times KILL, with ignore and a source that cannot be read everywhere at first" {
	local source first
	random_file image $((8 * MIB))
	# nbdkit expands none of this, its shell does.
	# shellcheck disable=SC2016
	nbd_file "$scratch/source" eval get_size="stat -c %s '$scratch/image'" \
		pread="if [ -e '$scratch/source.broken' ] && [ \$4 -lt $((3 * MIB + 5 * 512)) ] && [ \$((\$4 + \$3)) -gt $((3 * MIB)) ]; then
				echo EIO it is bad >&2; exit 1
			fi
			dd if='$scratch/image' iflag=skip_bytes,count_bytes skip=\$4 count=\$3 bs=1M status=none"
	: >can-break
	source=$(loop_new "$scratch/source" --direct-io=on)
	filled_file copy1 $((8 * MIB))
	first=$(loop_new "$scratch/copy1" --direct-io=on)
	filled_file copy2 $((8 * MIB))
	loop=$(loop_new "$scratch/copy2" --sector-size 4096)
	command=(--on-error=ignore --retries=0 --pages=512 --map=map "$source" "$first" "$loop" new)
	: >source.broken
	trials "$source" image copy1 copy2 new
}

@test "half a minute into a copy its maps claim what was flushed beside it, and KILL takes nothing of that" {
	local held
	random_file source $((8 * MIB))
	filled_file image $((8 * MIB))
	loop=$(slow_new "$scratch/slow" "$scratch/image" 800ms)
	kcopy_start --pages=512 --map=map source "$loop" copy
	poll 100 has_claims map.1
	# It was not over by then.
	kill -KILL "$pid"
	kcopy_wait
	assert_status 137
	held=$(safe map.1)
	((held < 8 * MIB))
	has_claims map.2
	claims map.1 source image
	claims map.2 source copy
	run kcopy --map=map source "$loop" copy
	assert_status 0
	assert_said "$loop: 16384 sectors .*written and flushed, $((held / 512)) of them before"
	assert_same source 0 image 0 $((8 * MIB))
	assert_same source 0 copy 0 $((8 * MIB))
}

@test "INT while the maps' flush waits beside the copy: it is finished or done again, and the maps are true" {
	random_file source $((8 * MIB))
	filled_file image $((8 * MIB))
	gate_new slow image $((4 * MIB))
	rm -f slow-flush.reached
	: >slow-flush.gate
	kcopy_start --pages=512 --map=map source "$loop" copy
	gate_wait slow
	# The file system below may hold the flush back behind the write that waits; then it is not seen.
	poll 35 test -e slow-flush.reached || true
	# The other one does not wait for it.
	poll 20 has_claims map.2
	[[ -e slow.gate && -e slow-flush.gate ]]
	kill -INT "$pid"
	poll "$KCOPY_TIMEOUT" signal_taken "$pid" 2
	gate_open slow
	gate_open slow-flush
	kcopy_wait
	assert_status 130
	has_claims map.1
	claims map.1 source image
	claims map.2 source copy
	run kcopy --map=map source "$loop" copy
	assert_status 0
	assert_same source 0 image 0 $((8 * MIB))
}

@test "a flush beside the copy that fails: the destination has failed, and nothing more of it is claimed" {
	random_file source $((8 * MIB))
	filled_file image1 $((8 * MIB))
	filled_file image2 $((8 * MIB))
	loop=$(slow_new "$scratch/slow" "$scratch/image1" 800ms)
	bad_flush_file "$scratch/bad" "$scratch/image2"
	kcopy_start --pages=512 --map=map source "$loop" bad
	kcopy_wait
	assert_status 4
	assert_said 'bad: FAILED: flush: [^;]*; wrote'
	(($(safe map.1) == 8 * MIB))
	(($(safe map.2) == 0))
	# It was dropped then: nothing more was written to it.
	assert_bytes image2 $((7 * MIB)) $MIB
}
