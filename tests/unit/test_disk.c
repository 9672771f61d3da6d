/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a block device is: from a sysfs that is made up, from udev's properties, and by the links that lead to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "disk.h"

static char root[256]; /* of one test */

static int make_root(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	if (snprintf(root, sizeof(root), "%s/kcopy-disk.XXXXXX", tmp ? tmp : "/tmp") >= (int)sizeof(root))
		return -1;
	return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int remove_root(void **state)
{
	(void)state;
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The directories that @path, below the root, is in; the path itself to @full. */
static void make_way(const char *path, char full[PATH_MAX])
{
	assert_true(snprintf(full, PATH_MAX, "%s/%s", root, path) < PATH_MAX);
	for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		assert_true(mkdir(full, 0700) == 0 || errno == EEXIST);
		*slash = '/';
	}
}

static void put_bytes(const char *path, const char *bytes, size_t length)
{
	char full[PATH_MAX];
	FILE *file;

	make_way(path, full);
	file = fopen(full, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
}

static void put(const char *path, const char *text)
{
	put_bytes(path, text, strlen(text));
}

static void put_link(const char *path, const char *target)
{
	char full[PATH_MAX];

	make_way(path, full);
	assert_return_code(symlink(target, full), errno);
}

/* A block device's directory (below devices/), "M:m" and the link to it, as the kernel makes them. */
static void put_device(const char *directory, const char *number)
{
	char path[PATH_MAX], target[PATH_MAX], line[32];

	snprintf(path, sizeof(path), "devices/%s/dev", directory);
	snprintf(line, sizeof(line), "%s\n", number);
	put(path, line);
	snprintf(path, sizeof(path), "dev/block/%s", number);
	snprintf(target, sizeof(target), "../../devices/%s", directory);
	put_link(path, target);
}

static void assert_same(const char *got, const char *want)
{
	if (!want || !got)
		assert_ptr_equal(got, want);
	else
		assert_string_equal(got, want);
}

#define assert_identity(disk, serial_, wwn_, model_)  \
	do {                                          \
		assert_same((disk)->serial, serial_); \
		assert_same((disk)->wwn, wwn_);       \
		assert_same((disk)->model, model_);   \
	} while (0)

static void ask(dev_t rdev, struct disk *disk)
{
	assert_int_equal(disk_ask_sysfs(root, rdev, disk), 0);
	assert_null(disk->stable_name);
	assert_null(disk->serial_short);
}

static void a_whole_disk_is_its_own_disk(void **state)
{
	struct disk disk;

	(void)state;
	put_device("pci/ata1/block/sda", "8:0");
	ask(makedev(8, 0), &disk);
	assert_string_equal(disk.name, "sda");
	assert_string_equal(disk.whole_name, "sda");
	assert_true(disk.whole == makedev(8, 0));
	assert_int_equal(disk.partition, 0);
	assert_identity(&disk, NULL, NULL, NULL);
	disk_free(&disk);
	assert_null(disk.name);
}

static void a_partition_is_known_by_its_disk(void **state)
{
	struct disk disk;

	(void)state;
	put_device("pci/nvme/nvme0/nvme0n1", "259:0");
	put_device("pci/nvme/nvme0/nvme0n1/nvme0n1p12", "259:7");
	put("devices/pci/nvme/nvme0/nvme0n1/nvme0n1p12/partition", "12\n");
	put("devices/pci/nvme/nvme0/nvme0n1/wwid", "eui.0025385b01234567\n");
	put("devices/pci/nvme/nvme0/nvme0n1/device/serial", "S4EVNF0M123456      \n");
	put("devices/pci/nvme/nvme0/nvme0n1/device/model", "Samsung SSD 970 EVO 500GB               \n");
	ask(makedev(259, 7), &disk);
	assert_string_equal(disk.name, "nvme0n1p12");
	assert_string_equal(disk.whole_name, "nvme0n1");
	assert_true(disk.whole == makedev(259, 0));
	assert_int_equal(disk.partition, 12);
	assert_identity(&disk, "S4EVNF0M123456", "eui.0025385b01234567", "Samsung SSD 970 EVO 500GB");
	disk_free(&disk);
}

static void a_partition_whose_disk_is_not_told_is_an_error(void **state)
{
	struct disk disk;

	(void)state;
	put_device("x/sda/sda1", "8:1");
	put("devices/x/sda/sda1/partition", "1\n");
	assert_int_equal(disk_ask_sysfs(root, makedev(8, 1), &disk), -EIO);
	disk_free(&disk);
	put("devices/x/sda/dev", "8\n");
	assert_int_equal(disk_ask_sysfs(root, makedev(8, 1), &disk), -EIO);
	disk_free(&disk);
	put("devices/x/sda/dev", "8:0\n");
	put("devices/x/sda/sda1/partition", "\n");
	assert_int_equal(disk_ask_sysfs(root, makedev(8, 1), &disk), -EIO);
	disk_free(&disk);
}

static void whether_a_head_must_move_is_asked_of_the_disk(void **state)
{
	(void)state;
	put_device("pci/ata1/block/sda", "8:0");
	put_device("pci/ata1/block/sda/sda1", "8:1");
	put_device("pci/nvme/nvme0/nvme0n1", "259:0");
	put("devices/pci/ata1/block/sda/queue/rotational", "1\n");
	put("devices/pci/nvme/nvme0/nvme0n1/queue/rotational", "0\n");
	assert_true(disk_is_rotational_sysfs(root, makedev(8, 0)));
	assert_true(disk_is_rotational_sysfs(root, makedev(8, 1)));
	assert_false(disk_is_rotational_sysfs(root, makedev(259, 0)));
	assert_false(disk_is_rotational_sysfs(root, makedev(0, 42))); /* a file system without a device */
}

static void a_virtio_disk_has_a_serial_only(void **state)
{
	struct disk disk;

	(void)state;
	put_device("pci/virtio1/block/vda", "254:0");
	put("devices/pci/virtio1/block/vda/serial", "overlay blk"); /* no newline */
	put("devices/pci/virtio1/block/vda/device/vendor", "0x1af4\n");
	ask(makedev(254, 0), &disk);
	assert_identity(&disk, "overlay blk", NULL, NULL);
	disk_free(&disk);
}

static void a_scsi_disk_tells_its_unit_serial_number(void **state)
{
	static const char page[] = "\0\x80\0\x14"
				   "      QM00001 x   \0\0junk";
	struct disk disk;

	(void)state;
	put_device("pci/host0/block/sdb", "8:16");
	put_bytes("devices/pci/host0/block/sdb/device/vpd_pg80", page, sizeof(page) - 1);
	put("devices/pci/host0/block/sdb/device/wwid", "naa.5000c5001234abcd\n");
	put("devices/pci/host0/block/sdb/device/model", "QEMU HARDDISK   \n");
	put("devices/pci/host0/block/sdb/device/name", "no model\n");
	ask(makedev(8, 16), &disk);
	assert_identity(&disk, "QM00001 x", "naa.5000c5001234abcd", "QEMU HARDDISK");
	disk_free(&disk);
}

static void a_serial_page_that_lies_is_not_read_beyond_its_end(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
		const char *serial;
	} pages[] = {
		{ "", 0, NULL },
		{ "\0\x80\0", 3, NULL },
		{ "\0\x80\0\x04", 4, NULL },
		{ "\0\x80\0\0abcd", 8, NULL },
		{ "\0\x80\0\x02"
		  "abcd",
		  8, "ab" },
		{ "\0\x80\xff\xff"
		  "abcd",
		  8, "abcd" },
		{ "\0\x83\0\x04"
		  "abcd",
		  8, NULL }, /* another page */
		{ "\0\x80\0\x04"
		  "    ",
		  8, NULL },
		{ "\0\x80\0\x04"
		  "a\0cd",
		  8, "a" },
	};
	struct disk disk;

	(void)state;
	put_device("x/block/sdb", "8:16");
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		put_bytes("devices/x/block/sdb/device/vpd_pg80", pages[i].bytes, pages[i].length);
		ask(makedev(8, 16), &disk);
		assert_same(disk.serial, pages[i].serial);
		disk_free(&disk);
	}
}

static void a_memory_card_has_a_name_for_a_model(void **state)
{
	struct disk disk;

	(void)state;
	put_device("platform/mmc0/block/mmcblk0", "179:0");
	put_device("platform/mmc0/block/mmcblk0/mmcblk0p1", "179:1");
	put("devices/platform/mmc0/block/mmcblk0/mmcblk0p1/partition", "1\n");
	put("devices/platform/mmc0/block/mmcblk0/device/serial", "0x12345678\n");
	put("devices/platform/mmc0/block/mmcblk0/device/name", "SD32G\n");
	ask(makedev(179, 1), &disk);
	assert_identity(&disk, "0x12345678", NULL, "SD32G");
	disk_free(&disk);
}

static void a_device_mapper_device_is_a_disk_of_its_own(void **state)
{
	struct disk disk;

	(void)state;
	put_device("virtual/block/dm-3", "252:3");
	put("devices/virtual/block/dm-3/dm/name", "vg-lv\n");
	ask(makedev(252, 3), &disk);
	assert_string_equal(disk.name, "dm-3");
	assert_string_equal(disk.whole_name, "dm-3");
	assert_int_equal(disk.partition, 0);
	assert_identity(&disk, NULL, NULL, NULL);
	disk_free(&disk);
}

static void a_name_has_slashes_where_sysfs_cannot(void **state)
{
	struct disk disk;

	(void)state;
	put_device("x/block/cciss!c0d0", "104:0");
	put_device("x/block/cciss!c0d0/cciss!c0d0p2", "104:2");
	put("devices/x/block/cciss!c0d0/cciss!c0d0p2/partition", "2\n");
	ask(makedev(104, 2), &disk);
	assert_string_equal(disk.name, "cciss/c0d0p2");
	assert_string_equal(disk.whole_name, "cciss/c0d0");
	disk_free(&disk);
}

static void what_is_empty_is_unknown(void **state)
{
	struct disk disk;

	(void)state;
	put_device("x/block/nvme0n1", "259:0");
	put("devices/x/block/nvme0n1/wwid", "\n");
	put("devices/x/block/nvme0n1/device/wwid", " naa.1\t\n");
	put("devices/x/block/nvme0n1/device/serial", "   \n");
	put("devices/x/block/nvme0n1/device/model", "");
	ask(makedev(259, 0), &disk);
	assert_identity(&disk, NULL, "naa.1", NULL);
	disk_free(&disk);
}

static void what_a_device_says_is_kept_byte_for_byte(void **state)
{
	struct disk disk;

	(void)state;
	put_device("x/block/sda", "8:0");
	put("devices/x/block/sda/device/model", " \xff\x1b[31m  a_b ");
	ask(makedev(8, 0), &disk);
	assert_string_equal(disk.model, "\xff\x1b[31m  a_b");
	disk_free(&disk);
}

static void a_device_that_sysfs_does_not_know_is_an_error(void **state)
{
	struct disk disk;

	(void)state;
	assert_int_equal(disk_ask_sysfs(root, makedev(8, 0), &disk), -ENOENT);
	assert_null(disk.name);
	assert_identity(&disk, NULL, NULL, NULL);
	disk_free(&disk);
	assert_int_equal(disk_ask_sysfs("/nonexistent", makedev(8, 0), &disk), -ENOENT);
	disk_free(&disk);
	assert_int_equal(disk_ask(makedev(4095, 1048575), &disk), -ENOENT);
	disk_free(&disk);
}

/* -- udev ---------------------------------------------------------------------------------------- */

/* @context: key, value, ..., NULL */
static const char *find_property(const char *key, void *context)
{
	const char *const *pair;

	for (pair = context; *pair; pair += 2)
		if (strcmp(*pair, key) == 0)
			return pair[1];
	return NULL;
}

#define TAKE(disk, ...) \
	disk_take_properties(disk, find_property, (void *)(uintptr_t)(const char *const[]){ __VA_ARGS__, NULL })

static void udev_goes_before_sysfs(void **state)
{
	struct disk disk = { .serial = strdup("a"), .wwn = strdup("b"), .model = strdup("c") };

	(void)state;
	TAKE(&disk, "DEVNAME", "/dev/sda");
	assert_identity(&disk, "a", "b", "c");
	TAKE(&disk, "ID_SERIAL", "", "ID_WWN", "  ", "ID_MODEL", "");
	assert_identity(&disk, "a", "b", "c");
	TAKE(&disk, "ID_SERIAL", "x", "ID_WWN", "y", "ID_MODEL", "z");
	assert_identity(&disk, "x", "y", "z");
	assert_null(disk.serial_short);
	disk_free(&disk);
}

static void the_serial_is_the_one_that_lsblk_shows(void **state)
{
	struct disk disk = { .serial = NULL };

	(void)state;
	TAKE(&disk, "ID_SERIAL", "Samsung_SSD_S5Y", "ID_SERIAL_SHORT", "S5Y", "ID_WWN", "0x5002",
	     "ID_WWN_WITH_EXTENSION", "0x50021");
	assert_identity(&disk, "S5Y", "0x50021", NULL);
	assert_null(disk.serial_short);
	disk_free(&disk);

	TAKE(&disk, "ID_SERIAL", "35000c500", "ID_SERIAL_SHORT", "5000c500", "ID_SCSI_SERIAL", "Z1X");
	assert_identity(&disk, "Z1X", NULL, NULL);
	assert_string_equal(disk.serial_short, "5000c500");
	disk_free(&disk);

	TAKE(&disk, "SCSI_IDENT_SERIAL", "first", "ID_SCSI_SERIAL", "second");
	assert_identity(&disk, "first", NULL, NULL);
	disk_free(&disk);

	TAKE(&disk, "ID_SERIAL", "overlayblk");
	assert_identity(&disk, "overlayblk", NULL, NULL);
	disk_free(&disk);
}

static void udevs_escapes_in_a_model_are_undone(void **state)
{
	static const struct {
		const char *encoded, *model;
	} models[] = {
		{ "Samsung\\x20SSD\\x20870\\x20EVO\\x20\\x20", "Samsung SSD 870 EVO" },
		{ "\\x20\\x20QEMU", "QEMU" },
		{ "a\\x2fb\\x5Cc\\xfF", "a/b\\c\xff" },
		{ "a\\x", "a\\x" },
		{ "a\\x2", "a\\x2" },
		{ "a\\x2g\\", "a\\x2g\\" },
		{ "a\\x00b", "a\\x00b" },
		{ "\\x20", "from_ID_MODEL" },
		{ "", "from_ID_MODEL" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
		struct disk disk = { .serial = NULL };

		TAKE(&disk, "ID_MODEL", "from_ID_MODEL", "ID_MODEL_ENC", models[i].encoded);
		assert_string_equal(disk.model, models[i].model);
		disk_free(&disk);
	}
}

/* -- links --------------------------------------------------------------------------------------- */

static void a_link_with_model_and_serial_is_the_best(void **state)
{
	static const char *const sets[][4] = {
		{ "by-id/ata-Samsung_S5Y", "by-id/nvme-Samsung_S5Y_1", "by-id/usb-SanDisk_4C53-0:0-part1",
		  "by-id/virtio-x" },
		{ "by-id/scsi-35000c500" },
		{ "by-id/dm-uuid-LVM-x", "by-id/md-uuid-x" },
		{ "by-id/wwn-0x5000c500", "by-id/nvme-eui.0025", "by-id/nvme-uuid.0025" },
		{ "by-path/pci-0000:00:1f.2-ata-1" },
		{ "by-partuuid/1234-01" },
		{ "by-id/lvm-pv-uuid-x" },
		{ "by-uuid/1234", "by-label/x", "by-diskseq/1", "by-idx" },
	};
	unsigned int rank, last = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		rank = disk_rank_link(sets[i][0]);
		assert_true(i == 0 || rank > last);
		last = rank;
		for (size_t j = 1; j < 4 && sets[i][j]; j++)
			assert_int_equal(disk_rank_link(sets[i][j]), rank);
	}
	assert_int_equal(last, DISK_NO_LINK);
}

/* The nodes of two block devices; false if there are none here. */
static bool find_nodes(char paths[2][PATH_MAX], dev_t rdevs[2])
{
	DIR *dir = opendir("/dev");
	struct dirent *entry;
	unsigned int found = 0;
	struct stat st;

	while (dir && found < 2 && (entry = readdir(dir))) {
		snprintf(paths[found], PATH_MAX, "/dev/%s", entry->d_name);
		if (lstat(paths[found], &st) == 0 && S_ISBLK(st.st_mode) && (!found || st.st_rdev != rdevs[0]))
			rdevs[found++] = st.st_rdev;
	}
	if (dir)
		closedir(dir);
	return found == 2;
}

static void assert_link(dev_t rdev, const char *want)
{
	char full[512], *link = disk_find_link(root, rdev);

	snprintf(full, sizeof(full), "%s/%s", root, want ? want : "");
	assert_same(link, want ? full : NULL);
	free(link);
}

static void the_best_link_that_leads_to_the_device_is_found(void **state)
{
	char paths[2][PATH_MAX];
	dev_t rdevs[2] = { 0, 0 };

	(void)state;
	if (!find_nodes(paths, rdevs)) {
		print_message("no two block devices in /dev\n");
		skip();
	}
	assert_link(rdevs[0], NULL);
	put_link("by-uuid/1234", paths[0]);
	put_link("by-id/ata-other", paths[1]);
	put_link("by-id/ata-gone", "/nonexistent");
	put_link("by-id/ata-file", "/proc/self/status");
	assert_link(rdevs[0], NULL);
	put_link("by-partuuid/1234-01", paths[0]);
	assert_link(rdevs[0], "by-partuuid/1234-01");
	put_link("by-path/pci-1", paths[0]);
	assert_link(rdevs[0], "by-path/pci-1");
	put_link("by-id/wwn-0x5", paths[0]);
	assert_link(rdevs[0], "by-id/wwn-0x5");
	put_link("by-id/nvme-M_S", paths[0]);
	assert_link(rdevs[0], "by-id/nvme-M_S");
	put_link("by-id/nvme-M_S_2", paths[0]);
	put_link("by-id/nvme-M_S_1", paths[0]);
	assert_link(rdevs[0], "by-id/nvme-M_S_1");
	assert_link(rdevs[1], "by-id/ata-other");
}

static void every_block_device_here_is_known(void **state)
{
	DIR *dir = opendir("/sys/class/block");
	unsigned int found = 0, number, minor_number;
	struct dirent *entry;
	char path[PATH_MAX];

	(void)state;
	while (dir && (entry = readdir(dir))) {
		struct disk disk;
		FILE *file;

		snprintf(path, sizeof(path), "/sys/class/block/%s/dev", entry->d_name);
		file = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
		if (!file)
			continue;
		assert_int_equal(fscanf(file, "%u:%u", &number, &minor_number), 2);
		fclose(file);
		if (disk_ask(makedev(number, minor_number), &disk) == -ENOENT) /* gone, or hidden */
			continue;
		if (!strchr(entry->d_name, '!'))
			assert_string_equal(disk.name, entry->d_name);
		assert_true(disk.partition || disk.whole == makedev(number, minor_number));
		assert_true(strncmp(disk.name, disk.whole_name, strlen(disk.whole_name)) == 0);
		disk_free(&disk);
		found++;
	}
	if (dir)
		closedir(dir);
	if (!found) {
		print_message("no block devices in /sys/class/block\n");
		skip();
	}
}

#define test_below_root(function) cmocka_unit_test_setup_teardown(function, make_root, remove_root)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test_below_root(a_whole_disk_is_its_own_disk),
		test_below_root(a_partition_is_known_by_its_disk),
		test_below_root(a_partition_whose_disk_is_not_told_is_an_error),
		test_below_root(whether_a_head_must_move_is_asked_of_the_disk),
		test_below_root(a_virtio_disk_has_a_serial_only),
		test_below_root(a_scsi_disk_tells_its_unit_serial_number),
		test_below_root(a_serial_page_that_lies_is_not_read_beyond_its_end),
		test_below_root(a_memory_card_has_a_name_for_a_model),
		test_below_root(a_device_mapper_device_is_a_disk_of_its_own),
		test_below_root(a_name_has_slashes_where_sysfs_cannot),
		test_below_root(what_is_empty_is_unknown),
		test_below_root(what_a_device_says_is_kept_byte_for_byte),
		test_below_root(a_device_that_sysfs_does_not_know_is_an_error),
		cmocka_unit_test(udev_goes_before_sysfs),
		cmocka_unit_test(the_serial_is_the_one_that_lsblk_shows),
		cmocka_unit_test(udevs_escapes_in_a_model_are_undone),
		cmocka_unit_test(a_link_with_model_and_serial_is_the_best),
		test_below_root(the_best_link_that_leads_to_the_device_is_found),
		cmocka_unit_test(every_block_device_here_is_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
