/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only user of libblkid.
 */
#ifndef KCOPY_PROBE_H
#define KCOPY_PROBE_H

/*
 * The device that carries TAG=value (LABEL, UUID, PARTLABEL, PARTUUID), as it is now: no cache file is believed.
 * -ENOENT: none. -ENOTUNIQ: more than one, which is what a clone makes of its source; then @path and @other are two of
 * them. Both are to be freed by the caller, and NULL if not set.
 */
int probe_find_tag(const char *tag, char **path, char **other);

#endif
