# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Helpers of the bats suite. A test file loads it and has the devices of devices.bash, a scratch directory of
# its own for every test (the current directory, too), and a teardown that frees all of it whatever happens.
#
# Waiting is always for a condition and with a deadline, never for a time.

bats_require_minimum_version 1.5.0

# shellcheck source-path=SCRIPTDIR
. "${BASH_SOURCE[0]%/*}/devices.bash"

# No test needs this long, not even with a sanitizer on a busy machine: what does hangs.
KCOPY_TIMEOUT=${KCOPY_TIMEOUT:-120}

# A sanitizer's report is never a status of kcopy's.
export ASAN_OPTIONS=${ASAN_OPTIONS:-exitcode=255}
export TSAN_OPTIONS=${TSAN_OPTIONS:-exitcode=255}
export LC_ALL=C

setup() {
	KCOPY=$(realpath "${KCOPY:-${BATS_TEST_DIRNAME}/../kcopy}")
	[[ -x $KCOPY ]] || {
		echo "no kcopy at $KCOPY: build it, or say where it is (KCOPY=PATH)"
		return 1
	}
	scratch=$(scratch_new)
	started=()
	cd "$scratch" || return
	if declare -F setup_test >/dev/null; then
		setup_test
	fi
}

teardown() {
	local pid
	cd / || return
	gates_open
	for pid in "${started[@]}"; do
		kill -KILL "$pid" 2>/dev/null
	done
	devices_free "$scratch"
	[[ -z ${memory:-} ]] || devices_free "$memory"
}

# -- what a test needs ---------------------------------------------------------------------------

skip_because() {
	skip "SKIP: $*"
}

need_root() {
	((EUID == 0)) || skip_because 'needs root'
}

need_tool() {
	local tool
	for tool; do
		command -v "$tool" >/dev/null || skip_because "needs $tool"
	done
}

# Loop devices: root, and a kernel and a container that have them.
need_loop() {
	need_root
	need_tool losetup blockdev
	[[ -c /dev/loop-control ]] || skip_because 'needs loop devices'
}

need_nbd() {
	need_tool nbdkit nbdfuse
	[[ -c /dev/fuse ]] || skip_because 'needs FUSE'
}

# memory_dir: a directory $memory on a tmpfs. An ordinary user can have it, too.
memory_dir() {
	[[ $(stat -f -c %T /dev/shm 2>/dev/null) == tmpfs && -w /dev/shm ]] || skip_because 'needs a tmpfs at /dev/shm'
	memory=$(TMPDIR=/dev/shm scratch_new)
}

# A sanitizer needs memory of its own and reacts in its own way to what the kernel does to a process.
need_plain_build() {
	[[ -z ${KCOPY_SANITIZERS:-} ]] || skip_because 'not with a sanitizer'
	! grep -qaE '__(asan|tsan)_init' "$KCOPY" || skip_because 'not with a sanitizer'
}

# -- running kcopy -------------------------------------------------------------------------------

# guarded COMMAND...: the status is the command's, exactly; 250 and a line if it hung.
guarded() {
	local begin=$SECONDS status=0
	timeout -k 10 "$KCOPY_TIMEOUT" "$@" 3>&- 4>&- || status=$?
	if ((status == 124 || status == 137)) && ((SECONDS - begin >= KCOPY_TIMEOUT)); then
		echo "it hung and was killed: $*"
		status=250
	fi
	return "$status"
}

# For run: run kcopy ARGUMENT...
kcopy() {
	guarded "$KCOPY" "$@" </dev/null
}

# kcopy as an ordinary user. With 'run' as the test's own.
kcopy_as_nobody() {
	guarded setpriv --reuid 65534 --regid 65534 --clear-groups "$KCOPY" "$@" </dev/null
}

# nobody must be able to reach the program, too.
need_nobody() {
	need_root
	need_tool setpriv
	setpriv --reuid 65534 --regid 65534 --clear-groups "$KCOPY" --version >/dev/null 2>&1 ||
		skip_because "nobody may not run $KCOPY"
}

# kcopy_start ARGUMENT...: in the background, with every signal at its default (a shell without job control starts
# background processes with SIGINT ignored). Its process is $pid, its output is in out and err.
kcopy_start() {
	env --default-signal "$KCOPY" "$@" </dev/null >"$scratch/out" 2>"$scratch/err" 3>&- 4>&- &
	pid=$!
	started+=("$pid")
}

# kcopy_wait: $status is what the shell sees, $output what it printed on standard error.
kcopy_wait() {
	poll "$KCOPY_TIMEOUT" process_gone "$pid" || {
		echo 'it hung'
		return 1
	}
	status=0
	wait "$pid" || status=$?
	output=$(<"$scratch/err")
}

# A zombie has ended; its status is still there for wait.
process_gone() {
	local state
	state=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || return 0
	[[ $state == Z* ]]
}

# signal_taken PID NUMBER: it is not pending any more, for the process or any of its threads.
signal_taken() {
	local mask
	while read -r mask; do
		((!(16#$mask >> ($2 - 1) & 1))) || return
	done < <(sed -n 's/^S[ih][gd]Pnd:[[:space:]]*//p' /proc/"$1"/task/*/status 2>/dev/null)
}

# -- data ----------------------------------------------------------------------------------------

# random_file NAME BYTES
random_file() {
	head -c "$2" /dev/urandom >"$1"
}

# filled_file NAME BYTES [OCTAL]: every byte is 0x55, unless told.
filled_file() {
	: >"$1"
	fill_bytes "$1" 0 "$2" "${3:-125}"
}

# image_loop NAME BYTES [LOSETUP-ARGUMENT...]: a loop device over a new file NAME of 0x55 bytes; $loop.
image_loop() {
	local name=$1 bytes=$2
	shift 2
	filled_file "$name" "$bytes"
	loop=$(loop_new "$scratch/$name" "$@")
}

# gate_new NAME IMAGE LIMIT: a loop device $loop over IMAGE; writes from byte LIMIT on wait until gate_open
# NAME. The first one that waits makes the file NAME.reached. Flushes wait while there is a file
# NAME-flush.gate, and make NAME-flush.reached.
gate_new() {
	local file=$scratch/$1 image=$scratch/$2
	# One process for each request: for small files only. nbdkit expands none of this, its shell does.
	# shellcheck disable=SC2016
	nbd_file "$file" eval \
		get_size="stat -c %s '$image'" \
		pread="dd if='$image' iflag=skip_bytes,count_bytes skip=\$4 count=\$3 bs=1M status=none" \
		pwrite="if [ \$(( \$4 + \$3 )) -gt $3 ]; then : >'$file.reached'; while [ -e '$file.gate' ]; do sleep 0.02; done; fi
			dd of='$image' oflag=seek_bytes seek=\$4 bs=1M iflag=fullblock conv=notrunc status=none" \
		can_write='exit 0' can_flush='exit 0' flush=": >'$file-flush.reached'; while [ -e '$file-flush.gate' ]; do sleep 0.02; done"
	: >"$file.gate"
	loop=$(loop_new "$file" --direct-io=on)
}

gate_open() {
	rm -f "$scratch/$1.gate"
}

gates_open() {
	rm -f "$scratch"/*.gate
}

# gate_wait NAME: until a write waits at the gate, or kcopy has gone.
gate_wait() {
	poll "$KCOPY_TIMEOUT" test -e "$scratch/$1.reached"
}

# -- assertions ----------------------------------------------------------------------------------

fail() {
	printf '%s\n' "$@"
	return 1
}

assert_status() {
	[[ $status -eq $1 ]] || fail "status $status, expected $1; it said:" "$output"
}

# assert_said PATTERN: an extended regular expression, any case, within one line of $output.
assert_said() {
	grep -qiE -e "$1" <<<"$output" || fail "nowhere '$1' in:" "$output"
}

assert_silent() {
	[[ -z $output ]] || fail 'expected no output, there is:' "$output"
}

assert_not_said() {
	! grep -iE -e "$1" <<<"$output" || fail "'$1' should not be in:" "$output"
}

# fresh FILE...: reads of a block device go to the device, not to what the page cache remembers.
fresh() {
	local file
	for file; do
		[[ ! -b $file ]] || blockdev --flushbufs "$file"
	done
}

# assert_same FILE1 OFFSET1 FILE2 OFFSET2 BYTES
assert_same() {
	fresh "$1" "$3"
	cmp -n "$5" -i "$2:$4" -- "$1" "$3" || fail "$1 at $2 and $3 at $4 differ within $5 bytes"
}

# assert_bytes FILE OFFSET BYTES [OCTAL]: all of them have this value (0x55 unless told).
assert_bytes() {
	fresh "$1"
	head -c "$3" /dev/zero | tr '\0' "\\${4:-125}" | cmp -n "$3" -i "$2:0" -- "$1" - ||
		fail "$1: not all of the $3 bytes from $2 on are octal ${4:-125}"
}

assert_zeros() {
	assert_bytes "$1" "$2" "$3" 000
}

# assert_size FILE BYTES
assert_size() {
	[[ $(stat -c %s -- "$1") -eq $2 ]] || fail "$1 has $(stat -c %s -- "$1") bytes, expected $2"
}

# holds NAME: how many sectors without a gap it said that this destination holds.
holds() {
	grep -F "kcopy: $1: " <<<"$output" | grep -oE '[0-9]+ (of [0-9]+ )?sectors \([^)]*\) (without a gap|written)' |
		tail -n 1 | grep -oE '^[0-9]+'
}

# assert_prefix SOURCE DEST MOST: it holds what it said, that is MOST sectors or less.
assert_prefix() {
	local sectors
	sectors=$(holds "$2")
	[[ $sectors =~ ^[0-9]+$ ]] || fail "it did not say how far $2 got:" "$output" || return
	((sectors <= $3)) || fail "$2 got further than $3 sectors?" "$output" || return
	((sectors == 0)) || assert_same "$1" 0 "$2" 0 $((sectors * 512))
}

# is_swapping LOOP...: does the kernel swap to something of the test's, and so write to it whenever it likes?
is_swapping() {
	grep -qF -e "$scratch/" "${@/#/-e}" /proc/swaps
}

# everything: each file below the scratch directory with its kind, mode, size, time and content, and the
# content of each loop device. What kcopy's own run writes is left out. With active swap no times and contents.
everything() {
	local loop loops
	loops=$(loops_below "$scratch")
	for loop in $loops; do
		blockdev --flushbufs "$loop"
	done
	# shellcheck disable=SC2086
	if is_swapping $loops; then
		find "$scratch" -xdev -printf '%P %y %m %l\n' | grep -avE '^(out|err|before|[^ ]*\.losetup) ' | LC_ALL=C sort
		return
	fi
	find "$scratch" -xdev -type d -printf '%P %y %m\n' -o -printf '%P %y %m %s %T@ %l\n' |
		grep -avE '^(out|err|before|[^ ]*\.nbd[a-z]*-log|[^ ]*\.losetup) ' | LC_ALL=C sort
	find "$scratch" -xdev -type f -size -64M ! -name '*.nbd*' ! -name out ! -name err ! -name before -print0 |
		LC_ALL=C sort -z | xargs -0r b2sum --
	# shellcheck disable=SC2086
	[[ -z $loops ]] || b2sum $loops
}

# remember: what there is now, for assert_unchanged.
remember() {
	everything >"$scratch/before"
}

# assert_unchanged: nothing that there is has changed, nothing is new, nothing is gone.
assert_unchanged() {
	diff -a "$scratch/before" <(everything) || fail 'it changed something'
}

# assert_refused PATTERN...: status 128, each of them was said, and nothing that remember saw has changed.
assert_refused() {
	local pattern
	assert_status 128 || return
	for pattern; do
		assert_said "$pattern" || return
	done
	assert_unchanged
}

# refuses PATTERN ARGUMENT...: kcopy with these arguments is refused, says the pattern, and changes nothing.
refuses() {
	local pattern=$1
	shift
	remember
	run kcopy "$@"
	assert_refused "$pattern"
}

# times: of each file and directory below the scratch directory, and of the nodes of the loop devices there.
times() {
	local loop node
	find "$scratch" -xdev -type d -printf '%P %T@ %C@\n' -o -printf '%P %A@ %T@ %C@\n' |
		grep -vE '^(out|err|before) ' | sort
	for loop in $(loops_below "$scratch"); do
		for node in "$loop" "$loop"p*; do
			[[ ! -b $node ]] || stat -c '%n %x %y %z' "$node"
		done
	done
}

# times_age: from now on, each read of a file or of a loop device's node shows as its time of access; not so of what
# backs a loop device, which the kernel reads.
times_age() {
	local loop loops
	# Where udev runs, it looks at what is new.
	! command -v udevadm >/dev/null || udevadm settle 2>/dev/null || :
	loops=$(loops_below "$scratch")
	find "$scratch" -xdev -type f -exec touch -cad @1 {} +
	for loop in $loops; do
		touch -cad @1 "$loop" "$loop"p*
	done
	for loop in $loops; do
		touch -cad tomorrow "$(</sys/block/"${loop#/dev/}"/loop/backing_file)"
	done
}

# assert_lines LINE...: it said these lines, less 'kcopy: ', and nothing else.
assert_lines() {
	local expected
	expected=$(printf 'kcopy: %s\n' "$@")
	[[ $output == "$expected" ]] || diff <(echo "$expected") <(echo "$output") ||
		fail 'it should have said the lines with <'
}

# refuses_saying LINE... -- ARGUMENT...: kcopy with these arguments is refused in exactly these lines and a last one
# that says so; nothing has changed, not even a time of a file or of a device's node.
refuses_saying() {
	local said=() try times
	while [[ $1 != -- ]]; do
		said+=("$1")
		shift
	done
	shift
	remember
	# Another program may look at all devices just then; several times it will not.
	for ((try = 0; try < 5; try++)); do
		times_age
		times=$(times)
		run kcopy "$@"
		assert_status 128 || return
		assert_lines "${said[@]}" 'nothing was written' || return
		[[ $(times) != "$times" ]] || break
	done
	((try < 5)) || diff <(echo "$times") <(times) || fail 'it changed a time' || return
	assert_unchanged
}

# hold FLOCK-ARGUMENT... FILE: flock(1) holds a lock on FILE, as process $holder, until release.
hold() {
	# shellcheck disable=SC2016 # for the inner shell
	setsid flock "$@" sh -c ': >"$1" && exec sleep 1000' - "$scratch/held" 3>&- 4>&- &
	holder=$!
	started+=("-$holder")
	poll 30 test -e "$scratch/held" && rm "$scratch/held"
}

# release [PID]: the last one that holds a lock, or this one, does no longer.
release() {
	kill -KILL -- "-${1:-$holder}"
	wait "${1:-$holder}" 2>/dev/null || :
}

# record_lock FILE COMMAND TYPE: a program called perl locks it, by fcntl's COMMAND; $pid.
record_lock() {
	# struct flock as 64-bit machines have it
	perl -MFcntl -e '
		open my $file, "+<", $ARGV[0] or die;
		my $lock = pack "s s x![q] q q l x![q]", $ARGV[2], 0, 100, 8, 0;
		fcntl $file, $ARGV[1], $lock or die "$!\n";
		open my $ready, ">", "ready";
		sleep 1000' "$@" 3>&- 4>&- &
	pid=$!
	started+=("$pid")
	poll 30 eval "[[ -e ready ]] || process_gone $pid"
	rm ready
}

record_unlock() {
	kill -KILL "$pid"
	wait "$pid" || :
}
