/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* All devices that carry the tag; stops at the second. */
static int find_devices(blkid_cache cache, const char *type, const char *value, char **path, char **other)
{
	blkid_dev_iterate iterate = blkid_dev_iterate_begin(cache);
	blkid_dev device;
	int ret = 0;

	if (!iterate)
		return -ENOMEM;
	blkid_dev_set_search(iterate, type, value);
	while (ret == 0 && blkid_dev_next(iterate, &device) == 0) {
		char **name = *path ? other : path;

		device = blkid_verify(cache, device);
		if (!device || !blkid_dev_has_tag(device, type, value))
			continue;
		*name = strdup(blkid_dev_devname(device));
		if (!*name)
			ret = -ENOMEM;
		else if (name == other)
			ret = -ENOTUNIQ;
	}
	blkid_dev_iterate_end(iterate);
	return ret == 0 && !*path ? -ENOENT : ret;
}

int probe_find_tag(const char *tag, char **path, char **other)
{
	blkid_cache cache = NULL;
	char *type = NULL, *value = NULL;
	int ret = -ENOMEM;

	*path = NULL;
	*other = NULL;
	if (blkid_parse_tag_string(tag, &type, &value) != 0)
		return -ENOENT;
	/* An empty cache, never a file: what stood on a disk yesterday must not decide what is overwritten today. */
	if (blkid_get_cache(&cache, "/dev/null") != 0)
		goto out;
	blkid_probe_all(cache);
	ret = find_devices(cache, type, value, path, other);
	blkid_put_cache(cache);
out:
	free(type);
	free(value);
	return ret;
}
