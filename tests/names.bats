#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# Whatever a file, a directory or a link to a device may be called: that file is what is read and written, no other comes to be,
# and what is said of it is one line that harms no terminal.

load lib.bash

# Of every kind that a file system takes and somebody trips over.
# shellcheck disable=SC2016 # it is what they are called
names=(
	'two words' ' blank before' 'blank behind ' ' ' $'new\nline' $'\nfirst' $'last\n' $'tab\there' $'\r'
	'disk:1' 'disk:1+2' 'disk:' 'usb-0:0' 'usb-0:0:' '0:0+0' 'a:b:c' ':1' ':' '::' 'x:1+' 'x:-1' 'x: 1' '1x:1s' '1' '1+2' 12:30.img
	'+' '+8' '=' 'LABEL=x' 'UUID=' 'PARTLABEL=a:1' 'key=value' '-x' '-' '--' '--zero' '--pages=1'
	'back\slash' '\n' "single'quote" 'double"quote' "'" '"' '$(touch made)' '`touch made`' '${x}' ';touch made' '|' '&' '>made'
	'*' '?' '[a-z]' '{a,b}' '~' '#' '!!' '%s%n%s' '%' '...' '..x'
	# not UTF-8: Latin-1, a cut character, overlong, a surrogate, an 8-bit escape sequence
	$'\xe4\xf6\xfc' $'cut\xe2\x82' $'\xc0\xaf' $'\xed\xa0\x80' $'\x9b31m' $'\xff:\xfe'
	# wide, a picture, several joined to one, right to left
	例え.img 💾 $'\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb' שלום
	# what turns the line round (override, mark, isolate), a line separator, a C1 control, a mark that is not seen
	$'\xe2\x80\xaegmi.nur' $'\xe2\x80\x8f' $'\xe2\x81\xa6x' $'\xe2\x80\xa8' $'\xc2\x9b31m' $'\xef\xbb\xbf'
	# escape sequences and other controls
	$'\e[31mred\e[0m' $'\e]0;title\a' $'\e[2J\e[H' $'\b\b\b\b' $'\x01' $'\x7f'
)

setup_test() {
	# Text, so that bash itself can compare it: there are many names.
	printf -v content '%-512s' first second third
	printf -v filling '%-4096s' ''
	filling=${filling// /U}
	printf %s "$content" >plain
}

# everything of lib.bash, for names of more than one line and paths that are too long to be opened at once.
everything() {
	local loop
	find "$scratch" -xdev ! -path "$scratch/before" -printf '%P %y %m %s %l' \( -type d -o -printf ' %T@' \) -printf '\0' | sort -z
	find "$scratch" -xdev -type f ! -path "$scratch/before" -execdir sha256sum -z -- {} + | sort -z
	for loop in $(loops_below "$scratch"); do
		sha256sum <"$loop"
	done
}

# assert_harmless: nothing in what was said is obeyed by a terminal.
assert_harmless() {
	local text=${output//$'\n'/}
	[[ $text != *[[:cntrl:]]* ]] || fail 'control characters in:' "${output@Q}" || return
	# C1 controls; marks, line separators, embeddings and overrides; isolates
	[[ $text != *$'\xc2'[$'\x80'-$'\x9f']* && $text != *$'\xe2\x80'[$'\x8e\x8f\xa8'-$'\xae']* &&
		$text != *$'\xe2\x81'[$'\xa6'-$'\xa9']* ]] || fail 'it may be shown as something else:' "${output@Q}" || return
	said+=$output$'\n'
}

# assert_clean [LINES]: nor is there a line that is not kcopy's own.
assert_clean() {
	local text=$'\n'$output
	assert_harmless || return
	[[ $text == *$'\nkcopy: '* && ${text//$'\nkcopy: '/} != *$'\n'* ]] || fail 'a line that is not its own:' "${output@Q}" || return
	text=${output//[!$'\n']/}
	[[ -z ${1:-} || $((${#text} + 1)) -eq $1 ]] || fail "$((${#text} + 1)) lines, expected $1:" "$output"
}

# assert_utf8: all that these two saw.
assert_utf8() {
	[[ -n $said ]] && iconv -f UTF-8 -t UTF-8 <<<"$said" >said.utf8 || fail 'no UTF-8:' "${said@Q}" || return
	rm said.utf8
}

# assert_text FILE TEXT: this is what it holds.
assert_text() {
	local found
	IFS= read -r -d '' found <"$1" || :
	[[ $found == "$2" ]] || fail "${1@Q} holds:" "$found" 'expected:' "$2"
}

# assert_only DIRECTORY NAME...: this, in the order of the C locale, is all that is in it.
assert_only() {
	local found expected=("${@:2}")
	shopt -s dotglob nullglob
	found=("$1"/*)
	shopt -u dotglob nullglob
	found=("${found[@]#"$1"/}")
	[[ ${found[*]@Q} == "${expected[*]@Q}" ]] || fail "$1 holds ${found[*]@Q}, expected ${expected[*]@Q}"
}

# make_all DIRECTORY [TEXT]: a file with this text of each name: number I is DIRECTORY/I/NAME.
make_all() {
	local i
	mkdir "$1"
	(cd "$1" && seq 0 $((${#names[@]} - 1)) | xargs mkdir)
	for i in "${!names[@]}"; do
		printf %s "${2:-}" >"$1/$i/${names[i]}"
	done
}

# many BYTES CHARACTER: so many of them.
many() {
	head -c "$1" /dev/zero | tr '\0' "$2"
}

# path_of BYTES: a path of so many, in directories that are made.
path_of() {
	local left=$1 path='' component
	component=$(many 200 n)
	while ((left > 255)); do
		path+=$component/
		left=$((left - 201))
	done
	(cd "$scratch" && mkdir -p "$path")
	path+=$(many "$left" n)
	echo "$path"
}

# refused PATTERN ARGUMENT...: as refuses does it, in clean words; that nothing has changed is for the test to see, once.
refused() {
	run kcopy "${@:2}"
	assert_status 128 && assert_said "$1" && assert_clean
}

# bare NAME: $operand, that file of the current directory. A tag has to say that it is a file, and so has the dash.
bare() {
	operand=$1
	case $1 in
	- | LABEL=* | UUID=* | PARTLABEL=*) operand=./$1 ;;
	esac
}

# there PATH NAME: $operand, that file, which exists, in that directory. For two of them, what is before the ':' exists, too.
there() {
	operand=$1/$2
	case $2 in
	: | :1) operand+=: ;;
	esac
}

# copy_to OPERAND...: plain to all of them, 32 at once.
copy_to() {
	while (($#)); do
		run kcopy -- plain "${@:1:32}"
		assert_status 0 || return
		assert_clean $(($# < 32 ? $# : 32)) || return
		shift $(($# < 32 ? $# : 32))
	done
}

# -- any name ------------------------------------------------------------------------------------

@test "a file of any name is copied, all of it and a range" {
	local i operand text
	make_all in
	for i in "${!names[@]}"; do
		printf -v text '%-512d' "$i" $((i + 1000)) $((i + 2000))
		cd "in/$i"
		printf %s "$text" >"./${names[i]}"
		bare "${names[i]}"
		run kcopy -- "$operand" ../../copy
		assert_status 0
		assert_clean 1
		# What could be mistaken for another range.
		if [[ ${names[i]} == *[:+0-9]* ]]; then
			run kcopy -- "$operand:1+1" ../../part:0s
			assert_status 0
			assert_clean 1
			assert_text ../../part "${text:512:512}"
		fi
		assert_text "./${names[i]}" "$text"
		assert_only . "${names[i]}"
		cd ../..
		assert_text copy "$text"
	done
	assert_only . copy in part plain
	assert_utf8
}

@test "a file of any name is written, old and new, all of it and a range" {
	local i operand operands=()
	make_all old "$filling"
	make_all range "$filling"
	make_all new
	for i in "${!names[@]}"; do
		rm -- "new/$i/${names[i]}"
		there "old/$i" "${names[i]}"
		# What is new needs a ':' behind it, lest its end be a range.
		operands+=("$operand" "new/$i/${names[i]}:" "range/$i/${names[i]}:4s")
	done
	copy_to "${operands[@]}"
	for i in "${!names[@]}"; do
		assert_text "old/$i/${names[i]}" "$content${filling:1536}"
		assert_text "new/$i/${names[i]}" "$content"
		assert_text "range/$i/${names[i]}" "${filling:0:2048}$content${filling:3584}"
		assert_only "old/$i" "${names[i]}"
		assert_only "new/$i" "${names[i]}"
		assert_only "range/$i" "${names[i]}"
	done
	assert_only . new old plain range
	assert_utf8
}

@test "a new file of any name in the current directory" {
	local name operand operands=()
	mkdir in
	for name in "${names[@]}"; do
		bare "$name"
		# Each colon of another name's end would be an ambiguity.
		[[ $name == *: ]] || operands+=("$operand:")
	done
	cd in
	cp ../plain .
	copy_to "${operands[@]}"
	for name in "${names[@]}"; do
		[[ $name == *: ]] || {
			assert_text "./$name" "$content"
			rm -- "./$name"
		}
	done
	assert_only . plain
}

@test "files in directories of any name" {
	local i operands=()
	mkdir in
	for i in "${!names[@]}"; do
		mkdir -- "in/${names[i]}"
		printf %s "$filling" >"in/${names[i]}/old"
		operands+=("in/${names[i]}/old" "./in/${names[i]}/../${names[i]}//new")
	done
	copy_to "${operands[@]}"
	for i in "${!names[@]}"; do
		assert_text "in/${names[i]}/old" "$content${filling:1536}"
		assert_text "in/${names[i]}/new" "$content"
		assert_only "in/${names[i]}" new old
	done
	assert_only . in plain
	assert_utf8
}

@test "links of any name to files of any name: what they lead to is written, and they stay" {
	local i operand operands=()
	make_all files "$filling"
	make_all links
	for i in "${!names[@]}"; do
		ln -sf -- "../../files/$i/${names[i]}" "links/$i/${names[i]}"
		there "links/$i" "${names[i]}"
		operands+=("$operand")
	done
	copy_to "${operands[@]}"
	for i in "${!names[@]}"; do
		assert_text "files/$i/${names[i]}" "$content${filling:1536}"
		[[ -L links/$i/${names[i]} ]]
		assert_only "links/$i" "${names[i]}"
		assert_only "files/$i" "${names[i]}"
	done
	assert_only . files links plain
}

@test "links of any name to a device, as udev makes them" {
	need_loop
	local i operand after=${filling:0:2560}$content
	image_loop image 4096
	# shellcheck disable=SC2016 # it is what it is called
	names=('usb-Disk_4C53000-0:0' 'pci-0000:00:14.0-usb-0:2:1.0-scsi-0:0:0:0' 'nvme-Disk\x20of\x20mine_1' 'disk:1+2' 'usb-0:0:'
		'LABEL=x' '-x' 'two words' $'new\nline' $'\e[31mred' $'\xff' $'\xe2\x80\xaegmi.nur' 💾 '$(touch made)' '*' ':1')
	make_all links
	printf %s "$filling" >filling
	for i in "${!names[@]}"; do
		ln -sf "$loop" "links/$i/${names[i]}"
		there "links/$i" "${names[i]}"
		run kcopy -- filling "$operand"
		assert_status 0
		assert_clean 1
		run kcopy -- plain "links/$i/${names[i]}:5"
		assert_status 0
		assert_clean 1
		run kcopy -- "$operand" copy
		assert_status 0
		assert_clean 1
		assert_text copy "$after"
		[[ -L links/$i/${names[i]} ]]
		assert_only "links/$i" "${names[i]}"
	done
	blockdev --flushbufs "$loop"
	assert_text image "$after"
	assert_utf8
}

@test "one line for each problem, whatever the name, and nothing has changed" {
	local i left operands=()
	make_all in
	make_all directories
	for i in "${!names[@]}"; do
		rm -- "directories/$i/${names[i]}"
		mkdir -- "directories/$i/${names[i]}"
		operands+=("directories/$i/${names[i]}:" "missing/${names[i]}/file" "in/$i/${names[i]}:99999999999999999999"
			"in/$i/${names[i]}:" "in/$i/${names[i]}:")
	done
	remember
	# Five operands of each name, and four problems: there is one to overlap with.
	for ((i = 0; i < ${#operands[@]}; i += 30)); do
		left=$(((${#operands[@]} - i) / 5))
		run kcopy -- plain "${operands[@]:i:30}"
		assert_status 128
		assert_clean $((4 * (left < 6 ? left : 6) + 1))
		assert_said 'is a directory'
		assert_said 'its directory: No such file'
		assert_said 'wrong at character [0-9]+, .9999'
		assert_said 'overlaps destination'
	done
	assert_unchanged
	assert_utf8
}

@test "one line for options and values of any name" {
	local name
	for name in "${names[@]}"; do
		[[ $name == *[![:print:]]* || $name == *[%=-]* ]] || continue
		run kcopy "--on-error=$name" plain copy
		assert_status 128
		assert_clean 1
		run kcopy "---$name" plain copy
		assert_status 128
		assert_clean 1
	done
	assert_only . plain
	assert_utf8
}

@test "what an operand is expected to be may be any text" {
	need_loop
	local name
	image_loop image 4096
	remember
	for name in "${names[@]}"; do
		[[ $name == *[![:print:]]* || $name == *[%=\"]* ]] || continue
		run kcopy "--expect=0:serial=$name" "--expect=1:model=$name" "--expect=1:wwn=$name" plain "$loop"
		assert_status 128
		assert_clean 4
		run kcopy "--expect=$name" plain "$loop"
		assert_status 128
		assert_clean 1
	done
	assert_unchanged
	assert_utf8
}

@test "the plan shows any name and makes no file" {
	local i operands=()
	make_all old "$filling"
	mkdir new
	for i in "${!names[@]}"; do
		operands+=("old/$i/${names[i]}:" "new/${names[i]}:1")
	done
	remember
	for ((i = 0; i < ${#operands[@]}; i += 32)); do
		run kcopy --dry-run -- plain "${operands[@]:i:32}"
		assert_status 0
		assert_harmless
		[[ $(grep -c '^Destination ' <<<"$output") -eq $((${#operands[@]} - i < 32 ? ${#operands[@]} - i : 32)) ]]
		# For programs: what JSON allows to stand as it is does.
		run kcopy --dry-run --json -- plain "${operands[@]:i:32}"
		assert_status 0
		[[ ${output//[$'\n\x7f']/} != *[[:cntrl:]]* ]]
		said+=$output
		[[ $(grep -c '^ *"role": "destination"' <<<"$output") -eq $((${#operands[@]} - i < 32 ? ${#operands[@]} - i : 32)) ]]
		assert_said '^\}$'
	done
	assert_unchanged
	assert_utf8
}

@test "names are shown so that they can be told apart, and typed" {
	local name shown
	while IFS= read -r name && IFS= read -r shown; do
		printf -v name %b. "$name"
		run kcopy -- "${name%.}:" copy
		assert_status 128
		[[ ${lines[0]} == "kcopy: $shown: does not exist" ]] || fail "shown as: ${lines[0]}" "expected: $shown"
	done <<-'END'
		two words
		two words
		new\nline
		new\nline
		a\\nb
		a\\nb
		\e[31mred
		\x1b[31mred
		\xe4 \xc3\xa4
		\xe4 ä
		\xc2\x9b31m
		\xc2\x9b31m
		\xe2\x80\xaegmi.nur
		\xe2\x80\xaegmi.nur
		\xf0\x9f\x92\xbe \xed\xa0\x80
		💾 \xed\xa0\x80
		$(touch made)
		$(touch made)
		a:1
		a:1
	END
	assert_only . plain
}

# -- what is a range, and what is a name ---------------------------------------------------------

@test "a new file's name that ends like a range is a range; with a ':' it is the name" {
	run kcopy plain disk:2+3
	assert_status 0
	assert_size disk 2560
	assert_same plain 0 disk 1024 1536
	assert_only . disk plain
	run kcopy plain other:2+3: backup-12:30: usb-0:0::
	assert_status 0
	assert_only . backup-12:30 disk other:2+3 plain usb-0:0:
	cmp plain other:2+3
	cmp plain backup-12:30
	cmp plain usb-0:0:
	# There it is, so it needs no colon any more.
	run kcopy other:2+3 backup-12:30
	assert_status 0
	assert_only . backup-12:30 disk other:2+3 plain usb-0:0:
	run kcopy disk:2 usb-0:0:
	assert_status 0
	cmp plain usb-0:0:
}

@test "links to devices that could be a range of one another: refused, and either way to write it works" {
	need_loop
	local first second
	image_loop first.img 4096
	first=$loop
	image_loop second.img 4096
	second=$loop
	ln -s "$first" usb-Disk_1-0
	ln -s "$second" usb-Disk_1-0:0
	refuses "ambiguous.*'usb-Disk_1-0:0:' for the first, 'usb-Disk_1-0:0s'" plain usb-Disk_1-0:0
	refuses "ambiguous" usb-Disk_1-0:0 copy
	run kcopy plain usb-Disk_1-0:0:
	assert_status 0
	assert_same plain 0 "$second" 0 1536
	assert_bytes "$first" 0 4096
	run kcopy plain usb-Disk_1-0:1s
	assert_status 0
	assert_same plain 0 "$first" 512 1536
	assert_bytes "$first" 0 512
	assert_same plain 0 "$second" 0 1536
	assert_bytes "$second" 1536 2560
}

@test "a tag's name is a tag, and a file's with ./ before it" {
	local tag
	for tag in LABEL UUID PARTLABEL PARTUUID; do
		cp plain $tag=kcopy-none
	done
	remember
	for tag in LABEL UUID PARTLABEL PARTUUID; do
		refused "$tag=kcopy-none: no device carries it" $tag=kcopy-none copy
		refused "$tag=kcopy-none: no device carries it" plain $tag=kcopy-none:
		refused 'the tag has no value' plain $tag=
	done
	assert_unchanged
	rm before
	for tag in LABEL UUID PARTLABEL PARTUUID; do
		run kcopy "./$tag=kcopy-none" "./$tag="
		assert_status 0
		assert_text $tag= "$content"
		rm $tag=kcopy-none $tag=
	done
	run kcopy plain label=x Label=x "$scratch/LABEL=x"
	assert_status 0
	assert_only . LABEL=x Label=x label=x plain
}

@test "no name at all is refused, and what can only be a directory" {
	mkdir directory
	remember
	refused 'place is missing' '' copy
	refused 'place is missing' plain ''
	refused 'place is missing' plain copy ''
	refused 'place is missing' plain :
	refused 'place is missing' --zero :0+8
	refused 'place is missing' --zero ''
	cd directory
	refused 'place is missing' ../plain ''
	refused 'is a directory' ../plain ./
	refused 'is a directory' ../plain .:
	refused 'is a directory' ../plain ..:0
	refused 'is a directory' ../plain ../directory/
	refused 'is a directory' .. copy
	refused 'copy/: ' ../plain copy/
	refused 'copy/\.: ' ../plain copy/.
	refused 'copy/\.\.: ' ../plain copy/..
	refused 'plain/: .*Not a directory' ../plain/ copy
	refused 'plain/: .*Not a directory' ../plain ../plain/
	refused 'plain/\.\./plain: .*Not a directory' ../plain/../plain copy
	assert_unchanged
}

@test "dots and slashes on the way lead where they lead" {
	local path
	mkdir -p a/b
	for path in ./copy .//copy a/../copy a/b/../../copy ././/./copy "$scratch/copy" "/.$scratch/a/..//copy" "//$scratch//copy"; do
		run kcopy "${path%copy}plain" "$path"
		assert_status 0
		assert_clean 1
		assert_only . a copy plain
		assert_text copy "$content"
		refused 'overlaps the source' plain "${path%copy}plain"
		refused 'destination 2' plain copy "$path"
		assert_text plain "$content"
		rm copy
		refused 'copy' plain copy "$path"
		assert_only . a plain
	done
}

# -- length --------------------------------------------------------------------------------------

@test "names of 255 bytes, and one too many" {
	local long name
	long=$(many 255 n)
	for name in "$long" "${long:3}:10" "${long:5}"$'\e[1m\n' "$(printf '💾%.0s' {1..63})abc" "$(printf '\xff%.0s' {1..255})"; do
		mkdir in out
		cp -- plain "in/$name"
		run kcopy "in/$name" "out/$name:"
		assert_status 0
		assert_clean 1
		assert_text "out/$name" "$content"
		run kcopy "in/$name" "out/$name"
		assert_status 0
		assert_only out "$name"
		remember
		refused 'File name too long' plain "in/x$name:"
		refused 'File name too long' "in/x$name:" copy
		refused 'File name too long' plain "x$name/copy"
		refused 'File name too long' plain "in/$name:" "x$name:3"
		assert_unchanged
		rm -r in out
	done
}

@test "paths of 4,000 bytes, and as long as any can be" {
	local bytes path
	for bytes in 4000 4094 4095; do
		path=$(path_of $bytes)
		[[ ${#path} -eq $bytes ]]
		printf '%-1536d' $bytes >"$path"
		run kcopy "$path" copy
		assert_status 0
		assert_clean 1
		assert_text copy "$(printf '%-1536d' $bytes)"
		printf %s "$filling" >"$path"
		run kcopy plain "$path:"
		assert_status 0
		assert_clean 1
		assert_text "$path" "$content${filling:1536}"
		run kcopy "$path:3+1" "$path:0"
		assert_status 0
		assert_clean 1
		assert_text "$path" "${filling:0:512}${content:512}${filling:1536}"
		rm "$path"
		run kcopy plain "$path:"
		assert_status 0
		assert_clean 1
		assert_text "$path" "$content"
		assert_only "${path%/*}" "${path##*/}"
		remember
		refused 'overlaps the source' "$path" "$path:"
		refused 'is a directory' plain "${path%/*}"
		assert_unchanged
		rm -r nnn*
	done
}

@test "paths that are too long" {
	local bytes path inner
	for bytes in 4096 4097 8000; do
		path=$(path_of $bytes)
		[[ ${#path} -eq $bytes ]]
		# It can be there, though it cannot be named.
		inner=$path
		while [[ $inner == */* ]]; do
			cd "${inner%%/*}"
			inner=${inner#*/}
		done
		cp "$scratch/plain" "$inner"
		cd "$scratch"
		remember
		refused 'File name too long' "$path" copy
		refused 'File name too long' plain "$path"
		refused 'File name too long' plain copy "$path:8"
		assert_unchanged
		rm -r nnn*
	done
}

@test "what is nothing but long" {
	local text
	remember
	for text in "$(many 100000 n)" "$(many 10000 :)" "x:$(many 20000 9)" "x:$(many 20000 ' ')" "$(many 10000 '\033')" \
		"$(many 10000 '\377')" "x:1$(many 10000 +)"; do
		refused . plain "$text"
		refused . "$text" copy
		refused . plain copy "$text:x"
	done
	assert_unchanged
}

@test "a file in a directory that is deeper than any path" {
	local path
	path=$(path_of 3900)
	(
		cd "${path%/*}"
		path=$(scratch=$PWD path_of 3900)
		cp "$scratch/plain" "$path"
		run kcopy "$path" "$path.new"
		assert_status 0
		assert_clean 1
		cmp "$path" "$path.new"
		filled_file "$path" 1536
		run kcopy "$scratch/plain" "$path"
		assert_status 0
		cmp "$path" "$path.new"
	)
}

# -- names that others have given ----------------------------------------------------------------

@test "where a device is mounted is told in one line, whatever the directory is called" {
	need_loop
	need_tool mkfs.ext4
	local name
	truncate -s 2M disk.img
	loop=$(loop_new "$scratch/disk.img")
	mkfs.ext4 -q "$loop"
	for name in 'two words' $'new\nline' $'\e[31mred' $'\xff' $'\u202egmi' 'back\slash' 'a\040b' '#'; do
		mkdir -- "$name"
		mount -o ro "$loop" "./$name"
		run kcopy --force plain "$loop"
		umount "./$name"
		rmdir -- "./$name"
		assert_status 128
		assert_clean 2
		assert_said 'in use: mounted on'
	done
	[[ ${lines[0]} == *"mounted on $scratch/#"* ]]
}
