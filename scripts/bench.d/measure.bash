# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154
#
# How scripts/bench measures and what it makes of it: times of contestants in interleaved rounds, medians, the lines of
# the table and their JSON. Sourced by scripts/bench, which has set $missed, $child and what json_all tells; knows no peer
# and no row.
#
# A contestant NAME is a function run_NAME, which does the work once, and what people call it: contestant NAME LABEL.
# took_NAME, if there is one, prints how many microseconds of the run count, for one that tells it better than a clock.

declare -A label times cpu
contestants=()
lines=()
results=()

# row_begin: nothing is left of the row before.
row_begin() {
	local name
	for name in "${contestants[@]}"; do
		unset -f "run_$name" "took_$name"
	done
	contestants=()
	label=() times=() cpu=()
	prepare() { :; }
}

# contestant NAME LABEL
contestant() {
	contestants+=("$1")
	label[$1]=$2
}

# -- running -------------------------------------------------------------------------------------

now() {
	printf -v "$1" %s "${EPOCHREALTIME/[.,]/}"
}

# work COMMAND...: runs it in a process group of its own, which a signal to this script ends. Its output is in
# $scratch/stdout and stderr, its user and system time in $scratch/cpu.
work() {
	local status=0
	set -m
	{
		TIMEFORMAT='%U %S'
		{ time "$@" >"$scratch/stdout" 2>"$scratch/stderr" </dev/null 3>&-; } 2>"$scratch/cpu"
	} &
	child=$!
	set +m
	wait "$child" || status=$?
	child=
	return "$status"
}

failed() {
	cat "$scratch/stderr" >&2
	die "row '$row': it failed: $*"
}

# memory_warm: in a virtual machine, memory that nobody has used for long is the host's first: who gets such pages pays
# for it, 30 ms for 16 MiB. So a run finds pages, huge ones, that were in use just now.
memory_warm() {
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1 dd if=/dev/zero of=/dev/null bs=128M count=1 status=none
}

# run_once NAME: sets $elapsed (microseconds) and $used (the same of the processor).
run_once() {
	local begin end
	memory_warm
	now begin
	work "run_$1" || failed "${label[$1]}"
	now end
	elapsed=$((end - begin))
	used=$(awk '{ printf "%d", ($1 + $2) * 1e6 }' "$scratch/cpu")
	declare -F "took_$1" >/dev/null || return 0
	elapsed=$("took_$1")
	[[ $elapsed =~ ^[1-9][0-9]*$ ]] || die "row '$row': no time from ${label[$1]}"
}

# run_short NAME: the same for what takes milliseconds: without a process group, and without warm memory, since that
# leaves cold processor caches.
run_short() {
	local begin end
	now begin
	"run_$1" >"$scratch/stdout" 2>"$scratch/stderr" </dev/null 3>&- || failed "${label[$1]}"
	now end
	elapsed=$((end - begin))
	used=0
}

# contest ROUNDS [RUNNER]: each round is of every contestant once. It begins with another one than the round before, and
# goes the other way round, so that nobody always comes after the same one. prepare, which a row may define, is called
# before each run and not measured; then the disk below has a moment to finish what the last one has left it.
contest() {
	local n=$1 runner=${2:-run_once} round i at name count=${#contestants[@]}
	for ((round = 0; round < n; round++)); do
		for ((i = 0; i < count; i++)); do
			((at = (round % 2 ? 2 * count - 1 - i : i) + round))
			name=${contestants[at % count]}
			prepare "$name"
			[[ $runner != run_once ]] || sleep 0.3
			"$runner" "$name"
			times[$name]+=" $elapsed"
			cpu[$name]+=" $used"
		done
	done
}

# -- numbers -------------------------------------------------------------------------------------

median() {
	printf '%s\n' "$@" | sort -g | awk '{ v[NR] = $1 } END { printf "%.9g", (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

# scaled FACTOR VALUE...: each of them times that.
scaled() {
	local factor=$1
	shift
	printf '%s\n' "$@" | awk -v f="$factor" '{ printf "%s%.9g", (NR > 1 ? " " : ""), $1 * f }'
}

json_string() {
	local text=${1//\\/\\\\}
	text=${text//\"/\\\"}
	text=${text//$'\t'/ }
	printf '"%s"' "${text//$'\n'/ }"
}

json_list() {
	local IFS=' '
	# shellcheck disable=SC2048,SC2086 # words
	set -- $*
	IFS=,
	printf '[%s]' "$*"
}

json_all() {
	local i
	printf '{"kcopy": %s, "linux": %s, "processors": %s, "date": "%s", "rounds": %s, "mib": %s, "missing": %s, "rows": [\n' \
		"$(json_string "$version")" "$(json_string "$(uname -r)")" "$(nproc)" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
		"$rounds" "$mib" "$(missing_json)"
	for ((i = 0; i < ${#results[@]}; i++)); do
		printf '  %s%s\n' "${results[i]}" "$( ((i + 1 == ${#results[@]})) || echo ,)"
	done
	echo ']}'
}

# -- the table -----------------------------------------------------------------------------------

# line WHAT VALUE RATIO TARGET VERDICT: one of the table; the row's name is before its first one only.
line() {
	local name=$row
	[[ ${#lines[@]} -eq 0 || ${lines[-1]%%$'\t'*} != "$row" ]] || name=
	lines+=("$row"$'\t'"$1"$'\t'"$2"$'\t'"$3"$'\t'"$4"$'\t'"$5")
	printf '%-9s %-84s %12s %7s  %-8s %s\n' "$name" "$1" "$2" "$3" "$4" "$5"
}

# markdown: the same as in README.md.
markdown() {
	local text value ratio goal verdict
	echo '| what, and what it is compared with | median | ratio | target | reached |'
	echo '| --- | --- | --- | --- | --- |'
	for text in "${lines[@]}"; do
		IFS=$'\t' read -r _ text value ratio goal verdict <<<"$text"
		[[ $ratio$goal != -- || $value == - ]] || text="**$text**"
		printf '| %s | %s | %s | %s | %s |\n' "$text" "$value" "$ratio" "${goal/>=/≥}" "${verdict/MISSED/**missed**}"
	done | sed 's/<=/≤/; s/| - /|  /g; s/| - |$/|  |/'
}

# judge KCOPY OTHER RELATION TARGET: prints ratio, target and verdict. RELATION: 'faster' (other / kcopy is at least the
# target), 'atmost' (kcopy / other is at most the target), 'value' (kcopy's is at most the target), 'shown' (other / kcopy;
# there is no target), 'told' (nothing to compare with, no target).
judge() {
	awk -v k="$1" -v o="${2:-0}" -v r="$3" -v t="$4" 'BEGIN {
		x = r == "faster" || r == "shown" ? (k > 0 ? o / k : 0) : (o > 0 ? k / o : 0)
		ok = r == "faster" ? x >= t : (r == "atmost" ? x <= t : k <= t)
		ratio = r == "value" || r == "told" ? "-" : sprintf("%.3f", x)
		goal = r == "shown" || r == "told" || r == "share" ? "-" : (r == "faster" ? ">= " : "<= ") t
		print ratio "\t" goal "\t" (goal == "-" ? "-" : (ok ? "yes" : "MISSED"))
	}'
}

# result WHAT UNIT KCOPY-VALUES PEER PEER-VALUES RELATION TARGET: one line of the table, one object of the JSON. The
# values are separated by blanks. The line shows the peer's value, or kcopy's if there is no peer.
result() {
	local what=$1 unit=$2 peer=$4 relation=$6 target=$7 ours theirs=0 ratio goal verdict shown
	# shellcheck disable=SC2086 # words
	ours=$(median $3)
	# shellcheck disable=SC2086
	[[ -z $5 ]] || theirs=$(median $5)
	IFS=$'\t' read -r ratio goal verdict < <(judge "$ours" "$theirs" "$relation" "$target")
	[[ $verdict != MISSED ]] || missed=$((missed + 1))
	shown=$ours
	[[ -z $peer ]] || shown=$theirs
	line "${peer:-$what}" "$(printf '%.3f %s' "$shown" "$unit")" "$ratio" "$goal" "$verdict"
	results+=("$(printf '{"row": %s, "what": %s, "unit": %s, "kcopy": %s, "kcopy_all": %s, "peer": %s, "peer_median": %s, "peer_all": %s, "relation": %s, "ratio": %s, "target": %s, "reached": %s}' \
		"$(json_string "$row")" "$(json_string "$what")" "$(json_string "$unit")" "$ours" "$(json_list "$3")" \
		"$(json_string "$peer")" "$theirs" "$(json_list "$5")" "$(json_string "$relation")" \
		"$([[ $ratio == - ]] && echo null || echo "$ratio")" "${target:-null}" \
		"$(case $verdict in yes) echo true ;; MISSED) echo false ;; *) echo null ;; esac)")")
}

# heading WHAT: kcopy's own time, first line of a contest.
heading() {
	heading=$1
	# shellcheck disable=SC2086
	result "$1" s "$(scaled 1e-6 ${times[kcopy]})" '' '' told ''
}

# claim NAME [RELATION TARGET]: kcopy's times against that contestant's, if it took part.
claim() {
	[[ -n ${times[$1]:-} ]] || return 0
	# shellcheck disable=SC2086
	result "$heading" s "$(scaled 1e-6 ${times[kcopy]})" "${label[$1]}" "$(scaled 1e-6 ${times[$1]})" \
		"${2:-shown}" "${3:-}"
}

# claim_best RELATION TARGET NAME...: the target is for the best of them; the others are shown.
claim_best() {
	local relation=$1 target=$2 name best='' least='' this
	shift 2
	for name; do
		[[ -n ${times[$name]:-} ]] || continue
		# shellcheck disable=SC2086
		this=$(median ${times[$name]})
		if [[ -z $best ]] || awk -v a="$this" -v b="$least" 'BEGIN { exit a >= b }'; then
			best=$name least=$this
		fi
	done
	for name; do
		if [[ $name == "$best" ]]; then
			claim "$name" "$relation" "$target"
		else
			claim "$name"
		fi
	done
}

# skipped REASON [WHAT]: what cannot be measured here.
skipped() {
	line "${2:+$2: }not measured: $1" - - - -
	results+=("{\"row\": $(json_string "$row"), \"what\": $(json_string "${2:-}"), \"skipped\": $(json_string "$1")}")
}
