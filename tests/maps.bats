#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154,SC2030,SC2031
#
# Resume maps on real devices: what they say after each way in which a copy can end, that the same command goes on from
# there, and that a map never claims what is not on stable storage.

load lib.bash

readonly MIB=1048576

# -- maps ----------------------------------------------------------------------------------------

# blocks MAP: its blocks, "position size status" in sectors.
blocks() {
	local pos size status
	grep -v '^#' "$1" | tail -n +2 | while read -r pos size status; do
		echo $((pos / 512)) $((size / 512)) "$status"
	done
}

# assert_map MAP BLOCK...: exactly these blocks, as blocks has them.
assert_map() {
	local map=$1
	shift
	diff <(printf '%s\n' "$@") <(blocks "$map") || fail "$map has other blocks"
}

# set_map MAP BLOCK...: the same header, other blocks.
set_map() {
	local map=$1 pos size status block
	shift
	{
		grep '^#' "$map"
		echo '0x0 ? 1'
		for block; do
			read -r pos size status <<<"$block"
			printf '0x%x 0x%x %s\n' $((pos * 512)) $((size * 512)) "$status"
		done
	} >"$map.new"
	mv "$map.new" "$map"
}

# safe MAP: how many sectors it claims.
safe() {
	blocks "$1" | awk '$3 == "+" { sum += $2 } END { print sum + 0 }'
}

# assert_claims MAP SOURCE DEST: what it claims is there.
assert_claims() {
	local pos size status
	while read -r pos size status; do
		[[ $status != + ]] || assert_same "$2" $((pos * 512)) "$3" $((pos * 512)) $((size * 512)) || return
	done < <(blocks "$1")
}

# moved LOOP: sectors read and written so far, by all who use the device.
moved() {
	awk '{ print $3, $7 }' "/sys/block/${1#/dev/}/stat"
}

# -- devices that can be mended ------------------------------------------------------------------

# bad_source NAME IMAGE START,BYTES...: a loop device $bad over a file NAME with IMAGE's content; reading one of the ranges
# fails as long as there is NAME.broken.
bad_source() {
	local file=$scratch/$1 image=$scratch/$2 range is_bad=''
	shift 2
	for range; do
		is_bad+="[ \$4 -ge $((${range%,*} + ${range#*,})) ] || [ \$((\$4 + \$3)) -le ${range%,*} ] || bad=yes
"
	done
	: >"$file.broken"
	# nbdkit expands none of this, its shell does.
	# shellcheck disable=SC2016
	nbd_file "$file" eval get_size="stat -c %s '$image'" \
		pread="bad=no; $is_bad
			if [ \$bad = yes ] && [ -e '$file.broken' ]; then echo EIO it is bad >&2; exit 1; fi
			dd if='$image' iflag=skip_bytes,count_bytes skip=\$4 count=\$3 bs=1M status=none"
	bad=$(loop_new "$file" --direct-io=on)
}

# -- what a map says -----------------------------------------------------------------------------

@test "a map of a whole copy: one block, whose it is, and ddrescuelog understands it" {
	need_loop
	local source
	random_file image $((3 * MIB))
	source=$(loop_new "$scratch/image")
	image_loop copy $((3 * MIB))
	run kcopy --map=map "$source" "$loop"
	assert_status 0
	assert_map map '0 6144 +'
	grep -qx "# kcopy source path: $source" map
	grep -qx "# kcopy source serial: loop $scratch/image" map
	grep -qx "# kcopy source size: $((3 * MIB)) bytes" map
	grep -qx "# kcopy destination path: $loop" map
	grep -qx '# kcopy destination region: 0+6144 sectors' map
	grep -q '^# Mapfile. Created by kcopy version ' map
	[[ -z $(find . -name '.kcopy-map*') ]]
	need_tool ddrescuelog
	ddrescuelog -D map
	ddrescuelog -t map | grep -qE '^ *rescued: *3145 kB, *in  *1 area'
}

@test "several destinations have maps of their own" {
	random_file source $MIB
	run kcopy --map=map source copy1 copy2
	assert_status 0
	[[ ! -e map ]]
	assert_map map.1 '0 2048 +'
	assert_map map.2 '0 2048 +'
	grep -qx "# kcopy destination path: $scratch/copy2" map.2
}

@test "a map that is complete: nothing is read or written, and the status is 0" {
	need_loop
	local source before
	random_file image $((3 * MIB))
	source=$(loop_new "$scratch/image")
	image_loop copy $((3 * MIB))
	run kcopy --map=map "$source" "$loop"
	assert_status 0
	fill_bytes copy $MIB $MIB
	fresh "$loop"
	before="$(moved "$source") $(moved "$loop" | cut -d' ' -f2)"
	run kcopy --map=map "$source" "$loop"
	assert_status 0
	assert_said "$loop: 6144 sectors \(3 MiB\) written and flushed, 6144 of them before"
	[[ "$(moved "$source") $(moved "$loop" | cut -d' ' -f2)" == "$before" ]]
	assert_bytes copy $MIB $MIB
}

@test "a dry run saves no map, and believes one" {
	random_file source $MIB
	run kcopy --dry-run --map=map source copy
	assert_status 0
	[[ ! -e map ]]
	run kcopy --map=map source copy
	remember
	run kcopy --dry-run --map=map source copy
	assert_status 0
	assert_unchanged
	echo nonsense >map
	remember
	run kcopy --dry-run --map=map source copy
	assert_refused 'copy: its map map cannot be used: line 1: '
}

# -- ended and resumed ---------------------------------------------------------------------------

@test "INT: the map has what was flushed, and the same command copies the rest" {
	need_loop
	need_nbd
	local held copied
	random_file source $((8 * MIB))
	filled_file image $((8 * MIB))
	gate_new slow image $((4 * MIB))
	kcopy_start --pages=512 --map=map source "$loop" copy
	gate_wait slow
	kill -INT "$pid"
	poll "$KCOPY_TIMEOUT" signal_taken "$pid" 2
	gate_open slow
	kcopy_wait
	assert_status 130
	held=$(safe map.1)
	((held >= 4096 && held < 16384))
	assert_said "$loop: interrupted: $held of 16384 sectors"
	assert_claims map.1 source image
	assert_claims map.2 source copy
	fresh "$loop"
	copied=$(moved "$loop")
	run kcopy --map=map source "$loop" copy
	assert_status 0
	(($(moved "$loop" | cut -d' ' -f2) - ${copied#* } == 16384 - held))
	assert_said "$loop: 16384 .*written and flushed, $held of them before"
	assert_same source 0 image 0 $((8 * MIB))
	assert_same source 0 copy 0 $((8 * MIB))
	assert_map map.1 '0 16384 +'
}

@test "KILL: nothing that was not flushed is claimed, and only what is missing is copied" {
	need_loop
	need_nbd
	local copied
	random_file source $((8 * MIB))
	filled_file image $((8 * MIB))
	gate_new slow image $((4 * MIB))
	kcopy_start --pages=512 --map=map source "$loop"
	gate_wait slow
	kill -KILL "$pid"
	gate_open slow
	kcopy_wait
	assert_status 137
	assert_map map '0 16384 ?'

	# As if a flush at 3 MiB had been the last one: what is before it is left alone.
	set_map map '0 6144 +' '6144 10240 ?'
	fill_bytes image 0 $((3 * MIB))
	: >slow.gate
	rm -f slow.reached
	kcopy_start --pages=512 --map=map source "$loop"
	gate_wait slow
	kill -KILL "$pid"
	gate_open slow
	kcopy_wait
	assert_map map '0 6144 +' '6144 10240 ?'
	fresh "$loop"
	copied=$(moved "$loop")
	run kcopy --map=map source "$loop"
	assert_status 0
	(($(moved "$loop" | cut -d' ' -f2) - ${copied#* } == 10240))
	assert_bytes image 0 $((3 * MIB))
	assert_same source $((3 * MIB)) image $((3 * MIB)) $((5 * MIB))
}

@test "ended while it is flushed: KILL claims nothing, TERM what the flush then brought to safety" {
	need_loop
	need_nbd
	random_file source $MIB
	filled_file image $MIB
	gate_new slow image $((8 * MIB))
	rm -f slow-flush.reached # by the kernel, when the loop device was set up
	: >slow-flush.gate
	kcopy_start --map=map source "$loop"
	gate_wait slow-flush
	kill -KILL "$pid"
	gate_open slow-flush
	kcopy_wait
	assert_map map '0 2048 ?'

	rm -f slow-flush.reached
	: >slow-flush.gate
	kcopy_start --map=map source "$loop"
	gate_wait slow-flush
	assert_map map '0 2048 ?'
	kill -TERM "$pid"
	poll "$KCOPY_TIMEOUT" signal_taken "$pid" 15
	gate_open slow-flush
	kcopy_wait
	assert_status 143
	assert_map map '0 2048 +'
}

@test "a destination whose flush hangs keeps no other's map from being saved, also when it is ended" {
	need_loop
	need_nbd
	random_file source $MIB
	filled_file image $MIB
	gate_new slow image $((8 * MIB))
	rm -f slow-flush.reached
	: >slow-flush.gate
	kcopy_start --map=map source copy1 "$loop" copy2
	gate_wait slow-flush
	poll "$KCOPY_TIMEOUT" grep -qiE '^0x0+ +0x0*100000 +[+]$' map.1
	poll "$KCOPY_TIMEOUT" grep -qiE '^0x0+ +0x0*100000 +[+]$' map.3
	assert_map map.2 '0 2048 ?'
	[[ -e slow-flush.gate ]]
	kill -KILL "$pid"
	gate_open slow-flush
	kcopy_wait
	assert_map map.1 '0 2048 +'
	assert_map map.2 '0 2048 ?'
	assert_map map.3 '0 2048 +'
	run kcopy --map=map source copy1 "$loop" copy2
	assert_status 0
	assert_same source 0 image 0 $MIB
	assert_map map.2 '0 2048 +'
}

@test "destinations with gaps of their own: what several lack is read once, what one has is not written" {
	need_loop
	local source name before
	random_file image $((4 * MIB))
	source=$(loop_new "$scratch/image")
	run kcopy --map=map "$source" copy1 copy2 copy3
	assert_status 0
	set_map map.1 '0 1000 +' '1000 3096 ?' '4096 4096 +'
	set_map map.2 '0 2000 ?' '2000 2096 +' '4096 1 ?' '4097 4095 +'
	for name in copy1 copy2 copy3; do
		filled_file $name $((4 * MIB))
	done
	fresh "$source"
	before=$(moved "$source")
	run kcopy --map=map "$source" copy1 copy2 copy3
	assert_status 0
	(($(moved "$source" | cut -d' ' -f1) - ${before% *} == 4097))
	assert_bytes copy1 0 $((1000 * 512))
	assert_same image $((1000 * 512)) copy1 $((1000 * 512)) $((3096 * 512))
	assert_bytes copy1 $((4096 * 512)) $((4096 * 512))
	assert_same image 0 copy2 0 $((2000 * 512))
	assert_bytes copy2 $((2000 * 512)) $((2096 * 512))
	assert_same image $((4096 * 512)) copy2 $((4096 * 512)) 512
	assert_bytes copy2 $((4097 * 512)) $((4095 * 512))
	assert_bytes copy3 0 $((4 * MIB))
}

@test "regions with offsets: positions are the source's, and the rest of the destination stays" {
	random_file source $((4 * MIB))
	filled_file copy $((4 * MIB))
	run kcopy --map=map source:100+5000 copy:3000
	assert_status 0
	assert_map map '100 5000 +'
	set_map map '100 1000 +' '1100 2000 ?' '3100 2000 +'
	filled_file copy $((4 * MIB))
	run kcopy --map=map source:100+5000 copy:3000
	assert_status 0
	assert_bytes copy 0 $((4000 * 512))
	assert_same source $((1100 * 512)) copy $((4000 * 512)) $((2000 * 512))
	assert_bytes copy $((6000 * 512)) $((4 * MIB - 6000 * 512))
}

@test "a source that is no whole number of sectors ends where it ends, in the map too" {
	random_file source 1234567
	run kcopy --map=map source copy
	assert_status 0
	grep -qiE '^0x0+ +0x0*12D687 +\+$' map
	run kcopy --map=map source copy
	assert_status 0
	assert_same source 0 copy 0 1234567
}

# -- errors --------------------------------------------------------------------------------------

@test "read errors: exactly the bad sectors are unreadable in the map, and once they can be read it is finished" {
	need_loop
	need_nbd
	local bad copied
	random_file image $((3 * MIB))
	bad_source bad image $((MIB + 3 * 512)),512 $((2 * MIB + 7 * 512)),2048
	image_loop copy $((3 * MIB))
	run kcopy --retries=0 --map=map "$bad" "$loop"
	assert_status 1
	assert_said "$loop: INCOMPLETE: 2051 of 6144 sectors .* written and flushed"
	[[ $(blocks map | head -n 2) == $'0 2051 +\n2051 1 -' ]]
	assert_claims map image copy
	run kcopy --retries=0 --on-error=ignore --map=map "$bad" "$loop"
	assert_status 1
	assert_map map '0 2051 +' '2051 1 -' '2052 2051 +' '4103 4 -' '4107 2037 +'
	assert_said "$loop: INCOMPLETE: 6139 of 6144 sectors .* written and flushed, 5 were unreadable"
	assert_claims map image copy
	assert_zeros copy $((2051 * 512)) 512
	# Again, and nothing but these is tried.
	fresh "$loop"
	copied=$(moved "$loop")
	run kcopy --retries=0 --on-error=ignore --map=map "$bad" "$loop"
	assert_status 1
	(($(moved "$loop" | cut -d' ' -f2) - ${copied#* } == 5))
	rm bad.broken
	run kcopy --retries=0 --on-error=ignore --map=map "$bad" "$loop"
	assert_status 0
	assert_map map '0 6144 +'
	assert_same image 0 "$loop" 0 $((3 * MIB))
}

@test "read errors with a map and without ignore: nothing behind the first bad sector is copied" {
	need_loop
	need_nbd
	local bad
	random_file image $((4 * MIB))
	bad_source bad image $MIB,512
	rm bad.broken
	run kcopy --map=map "$bad" copy
	assert_status 0
	: >bad.broken
	set_map map '0 100 +' '100 1 ?' '101 1899 +' '2000 100 -' '2100 1900 +' '4000 4192 ?'
	filled_file copy $((4 * MIB))
	run kcopy --retries=0 --map=map "$bad" copy
	assert_status 1
	assert_map map '0 2048 +' '2048 52 -' '2100 1900 +' '4000 4192 ?'
	assert_same image $((100 * 512)) copy $((100 * 512)) 512
	assert_same image $((2000 * 512)) copy $((2000 * 512)) $((48 * 512))
	assert_bytes copy $((2048 * 512)) $((4 * MIB - 2048 * 512))
}

@test "ignore: what was never tried is copied before what is known to be bad" {
	need_root
	need_nbd
	local before
	random_file image $MIB
	nbd_file "$scratch/source" --filter=log file "$scratch/image" logfile="$scratch/log"
	run kcopy --map=map source copy
	assert_status 0
	set_map map '0 8 +' '8 8 -' '16 1008 +' '1024 1024 ?'
	before=$(wc -l <log)
	run kcopy --on-error=ignore --map=map source copy
	assert_status 0
	tail -n +$((before + 1)) log | grep -oE ' Read .*offset=0x[0-9a-f]+' | grep -oE '0x[0-9a-f]+$' >reads
	[[ $(head -n 1 reads) == 0x80000 ]]
	[[ $(tail -n 1 reads) == 0x1000 ]]
	assert_same image 0 copy 0 $MIB
}

@test "a write error of one of two destinations: missing in its map only, and mended by the same command" {
	need_root
	need_nbd
	local policy
	random_file source $((3 * MIB))
	for policy in drop ignore; do
		filled_file image-$policy $((3 * MIB))
		bad_write_file "$scratch/bad-$policy" "$scratch/image-$policy" $MIB,8192
		run kcopy --retries=0 --on-error=$policy --map=map-$policy source bad-$policy copy-$policy
		assert_status 2
		assert_map map-$policy.2 '0 6144 +'
		assert_claims map-$policy.1 source image-$policy
		[[ $(blocks map-$policy.1 | head -n 1) == '0 2048 +' ]]
		[[ $policy != ignore ]] || assert_map map-$policy.1 '0 2048 +' '2048 16 ?' '2064 4080 +'
		echo 0 >bad-$policy.failures
		: >bad-$policy.requests
		run kcopy --retries=0 --on-error=$policy --map=map-$policy source bad-$policy copy-$policy
		assert_status 0
		[[ $policy != ignore || $(awk '{ sum += $2 } END { print sum }' bad-$policy.requests) -eq 8192 ]]
		assert_same source 0 image-$policy 0 $((3 * MIB))
		assert_same source 0 copy-$policy 0 $((3 * MIB))
	done
}

@test "a destination that cannot be flushed: nothing of it is claimed" {
	need_root
	need_nbd
	random_file source 65536
	filled_file image 65536
	bad_flush_file "$scratch/bad" "$scratch/image"
	run kcopy --map=map source bad copy
	assert_status 2
	assert_said 'bad: FAILED: flush'
	assert_map map.1 '0 128 ?'
	assert_map map.2 '0 128 +'
	run kcopy --on-error=ignore --map=map source bad copy
	assert_status 2
	assert_map map.1 '0 128 ?'
}

@test "a destination that goes away half-way: its map tells what is safe, and it is finished when it is back" {
	need_loop
	need_nbd
	local held
	random_file source $((8 * MIB))
	filled_file image $((8 * MIB))
	gate_new slow image $((4 * MIB))
	kcopy_start --retries=0 --pages=512 --map=map source "$loop" copy
	gate_wait slow
	kill -KILL "$(cat slow.nbdkit-pid)"
	gate_open slow
	kcopy_wait
	assert_status 2
	held=$(safe map.1)
	((held < 16384))
	assert_claims map.1 source image
	assert_map map.2 '0 16384 +'
}

# -- larger blocks -------------------------------------------------------------------------------

@test "blocks of 4 KiB: zeros never replace what was read before" {
	need_loop
	need_nbd
	local bad
	random_file image $((2 * MIB))
	bad_source bad image $((MIB + 3 * 512)),512
	image_loop copy $((2 * MIB)) --sector-size 4096
	run kcopy --retries=0 --on-error=ignore --map=map "$bad" "$loop"
	assert_status 1
	assert_map map '0 2051 +' '2051 1 -' '2052 2044 +'
	# Another sector of that block cannot be read any more.
	bad_source bad2 image $((MIB + 3 * 512)),512 $((MIB + 5 * 512)),512
	sed -i "s|^\(# kcopy source path: \).*|\1$bad|; s|^\(# kcopy source serial: \).*|\1loop $scratch/bad2|" map
	run kcopy --retries=0 --on-error=ignore --map=map "$bad" "$loop"
	assert_status 1
	assert_map map '0 2051 +' '2051 1 -' '2052 2044 +'
	assert_claims map image copy
	rm bad2.broken
	run kcopy --retries=0 --on-error=ignore --map=map "$bad" "$loop"
	assert_status 0
	assert_same image 0 "$loop" 0 $((2 * MIB))
}

@test "blocks of 4 KiB: two destinations that lack different sectors of one block have both of them" {
	need_loop
	local first second name
	random_file source $MIB
	image_loop copy1 $MIB --sector-size 4096
	first=$loop
	image_loop copy2 $MIB --sector-size 4096
	second=$loop
	run kcopy --map=map source "$first" "$second"
	assert_status 0
	set_map map.1 '0 1 +' '1 1 -' '2 2046 +'
	set_map map.2 '0 5 +' '5 20 -' '25 2023 +'
	for name in 1 2; do
		fill_bytes copy$name 0 $MIB
	done
	fresh "$first" "$second"
	run kcopy --map=map source "$first" "$second"
	assert_status 0
	assert_same source 0 copy1 0 4096
	assert_bytes copy1 4096 $((MIB - 4096))
	assert_same source 0 copy2 0 16384
	assert_bytes copy2 16384 $((MIB - 16384))
	assert_map map.1 '0 2048 +'
	assert_map map.2 '0 2048 +'
}

# -- refused -------------------------------------------------------------------------------------

@test "a map of another source, destination, region or size is refused and left alone" {
	need_loop
	local first second
	random_file source $((2 * MIB))
	random_file other $((2 * MIB))
	image_loop copy $((2 * MIB))
	first=$loop
	run kcopy --map=map source "$first"
	assert_status 0
	refuses "line [0-9]+: belongs to another copy: the source's path" --map=map other "$first"
	refuses "belongs to another copy: the destination's path" --map=map source copy2
	refuses 'belongs to another' --map=map source:0+100 "$first"
	truncate -s $((2 * MIB + 4096)) copy
	losetup -c "$first"
	refuses "the destination's size" --map=map source "$first"
	truncate -s $((2 * MIB)) copy
	losetup -c "$first"
	run kcopy --map=map2 source:0+4000 "$first:8"
	assert_status 0
	refuses "the destination's region is '8[+]4000 sectors' there" --map=map2 source:0+4000 "$first:16"
	truncate -s $((3 * MIB)) source
	refuses "the source's size" --map=map source:0+4096 "$first"
	truncate -s $((2 * MIB)) source

	# The same name and size, and another file behind it.
	losetup -d "$first"
	filled_file copy2 $((2 * MIB))
	# Another test may have it just now.
	poll "$KCOPY_TIMEOUT" losetup "$first" copy2 2>/dev/null
	refuses "the destination's serial is 'loop $scratch/copy'" --map=map source "$first"
	losetup -d "$first"
	# Another name, and the same file.
	image_loop aside 4096
	second=$(loop_new "$scratch/copy")
	[[ $second == "$first" ]] || {
		run kcopy --map=map source "$second"
		assert_status 0
	}
}

@test "a map that makes no sense is refused, with its line, and left alone" {
	local text
	random_file source $MIB
	run kcopy --map=map source copy
	assert_status 0
	cp map good
	for text in '0x0 0x1000 x' '0x0 0x1000 + +' '0x1000 0x1000 +' 'rubbish' '0x0 0x200000 +' '0x0 -1 +'; do
		{
			grep '^#' good
			echo '0x0 ? 1'
			echo "$text"
		} >map
		refuses "copy: its map map cannot be used: line [0-9]+: " --map=map source copy
	done
	: >map
	refuses 'its map map cannot be used: is empty' --map=map source copy
	rm map
	mkdir map
	refuses 'its map map cannot be used: ' --map=map source copy
	refuses 'its map nowhere/map: No such file or directory' --map=nowhere/map source copy
}

@test "a map is no operand and no other map" {
	random_file source $MIB
	filled_file copy $MIB
	refuses 'its map source is an operand, too' --map=source source copy
	refuses 'its map ./copy is an operand, too' --map=./copy source copy
	refuses 'its map .*/new is an operand, too' --map="$scratch/../${scratch##*/}/new" source new
	refuses 'its map x.1 is an operand, too' --map=x source copy x.1
	ln -s x.2 x.1
	refuses "its map x.2 is another destination's map, too" --map=x source copy copy2
	ln copy link
	refuses 'its map link is an operand, too' --map=link source copy
}

@test "a destination that was deleted, or cut off, is not what its map says" {
	random_file source $MIB
	run kcopy --map=map source copy
	assert_status 0
	truncate -s 4096 copy
	refuses 'copy: is new or shorter than its map map says' --map=map source copy
	rm copy
	refuses 'copy: is new or shorter than its map map says' --map=map source copy
	rm map
	run kcopy --map=map source copy
	assert_status 0
}

# -- what the destination holds ------------------------------------------------------------------

# half MAP COUNT: as if the copy of COUNT sectors had been killed half-way.
half() {
	set_map "$1" "0 $(($2 / 2)) +" "$(($2 / 2)) $(($2 / 2)) ?"
}

@test "the source's file system on the destination is a copy that was begun; another one is not overwritten" {
	need_loop
	need_tool mkfs.ext4
	local place
	truncate -s $((8 * MIB)) source
	mkfs.ext4 -q source
	image_loop image $((8 * MIB))
	for place in "$loop" copy; do
		run kcopy --map=map source "$place"
		assert_status 0
		half map 16384
		run kcopy --map=map source "$place"
		assert_status 0
		assert_same source 0 "$place" 0 $((8 * MIB))
		refuses 'would overwrite its ext4' source "$place"
		half map 16384
		mkfs.ext4 -q -F "$place"
		fresh "$place"
		refuses "$place: would overwrite its ext4 .*--force to do it anyway" --map=map source "$place"
		# Who insists gets the source, not what the map claims.
		run kcopy --force --map=map source "$place"
		assert_status 0
		assert_said "warning: $place: is not any more what its map map says: all of it is copied again"
		assert_same source 0 "$place" 0 $((8 * MIB))
		assert_map map '0 16384 +'
		rm map
	done
}

@test "a disk with partitions, one of them empty: resumed whatever had arrived" {
	need_loop
	need_tool sfdisk mkfs.ext4
	local sectors
	truncate -s $((24 * MIB)) source
	printf '%s\n' 'label: gpt' 'start=2048, size=2048' 'start=4096, size=32768' | sfdisk -q source
	mkfs.ext4 -q -F -E offset=$((2 * MIB)) source 16M
	image_loop image $((24 * MIB))
	run kcopy --map=map source "$loop"
	assert_status 0
	for sectors in 8 64 2048 4096 6144 40000 49144; do
		fill_bytes image $((sectors * 512)) $((24 * MIB - sectors * 512)) 000
		fresh "$loop"
		set_map map "0 $sectors +" "$sectors $((49152 - sectors)) ?"
		run kcopy --map=map source "$loop"
		assert_status 0
		assert_same source 0 image 0 $((24 * MIB))
	done
}

@test "a file system without a UUID is known again by its bytes" {
	need_loop
	need_tool mkfs.minix
	truncate -s $((2 * MIB)) source
	mkfs.minix source >/dev/null
	image_loop image $((2 * MIB))
	run kcopy --map=map source "$loop"
	assert_status 0
	half map 4096
	run kcopy --map=map source "$loop"
	assert_status 0
	half map 4096
	mkfs.minix -n 14 "$loop" >/dev/null
	fresh "$loop"
	refuses "would overwrite its minix" --map=map source "$loop"
}

@test "with --force what was there before the copy began is no reason to begin again" {
	need_loop
	random_file source $((8 * MIB))
	image_loop image $((8 * MIB))
	run kcopy --map=map source "$loop"
	assert_status 0
	# Killed behind the first page; what tells of a CD is behind it.
	set_map map '0 8 +' '8 16376 ?'
	printf '\001CD001\001' | dd of=image bs=1 seek=32768 conv=notrunc status=none
	fresh "$loop"
	refuses "would overwrite its iso9660" --map=map source "$loop"
	run kcopy --force --map=map source "$loop"
	assert_status 0
	assert_not_said 'any more'
	assert_said '[^0-9]8 of them before'
	assert_same source 0 image 0 $((8 * MIB))
}

# -- maps that cannot be saved -------------------------------------------------------------------

@test "a map that cannot be saved: said at once and at the end, and the copy goes on" {
	need_root
	random_file source $MIB
	tmpfs_new "$scratch/full" 8192
	dd if=/dev/zero of=full/filler bs=4096 2>/dev/null || true
	run kcopy --map=full/map source copy
	assert_status 0
	assert_said 'warning: full/map: the map cannot be saved: No space left on device'
	assert_said 'copy: its map full/map is NOT saved: No space left on device'
	assert_same source 0 copy 0 $MIB
	[[ -z $(find full -name '*map*') ]]

	# An old one stays as it is.
	rm full/filler copy
	run kcopy --map=full/map source copy
	assert_status 0
	half full/map 2048
	cp full/map old
	dd if=/dev/zero of=full/filler bs=4096 2>/dev/null || true
	run kcopy --map=full/map source copy
	assert_status 0
	assert_said 'cannot be saved'
	cmp old full/map
}

# -- ddrescue ------------------------------------------------------------------------------------

@test "ddrescue finishes what was begun, and what it did is believed" {
	need_loop
	need_nbd
	need_tool ddrescue ddrescuelog
	local bad
	random_file image $((3 * MIB))
	bad_source bad image $MIB,1024
	image_loop copy $((3 * MIB))
	run kcopy --retries=0 --on-error=ignore --map=map "$bad" "$loop"
	assert_status 1
	[[ $(ddrescuelog -l- map | xargs) == '2048 2049' ]]
	grep '^# kcopy' map >header
	rm bad.broken
	fresh "$bad" "$loop"
	guarded ddrescue -q -f -d -D -r1 "$bad" "$loop" map
	assert_same image 0 "$loop" 0 $((3 * MIB))
	ddrescuelog -D map
	refuses 'does not say which devices it belongs to' --map=map "$bad" "$loop"
	cat header map >map.new
	mv map.new map
	run kcopy --map=map "$bad" "$loop"
	assert_status 0
	assert_said '6144 of them before'
}
