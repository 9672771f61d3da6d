# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules that Debian's kernel leaves out, built of Debian's own source (the packages linux-headers-VERSION and
linux-source-X.Y, which scripts/install-deps vm installs where it can). Nothing of it is in this tree."""
import os
import re
import shutil
import subprocess
import tempfile

OWN = {"dm-dust": "drivers/md/dm-dust.c"}  # each of one file


class Unavailable(Exception):
    """Why there is no such module."""


def paths_of(version):
    """Where the kernel's headers and its source are, if they are installed."""
    return "/lib/modules/%s/build" % version, "/usr/src/linux-source-%s.tar.xz" % re.match(r"\d+\.\d+", version).group(0)


def run(*command, **options):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL, **options)
    if result.returncode:
        lines = result.stdout.strip().splitlines() or ["status %d" % result.returncode]
        raise Unavailable("%s failed: %s" % (command[0], lines[-1]))


def check_there(version):
    headers, source = paths_of(version)
    if not os.path.exists(headers + "/Makefile"):
        raise Unavailable("no headers of the kernel %s (scripts/install-deps vm)" % version)
    if not os.path.exists(source):
        raise Unavailable("no %s (scripts/install-deps vm)" % source)
    for tool in ("make", "tar", "xz"):
        if not shutil.which(tool):
            raise Unavailable("%s is not installed" % tool)


def build(name, version, scratch):
    """The module, as bytes. Reads the source up to that file only: some seconds."""
    headers, source = paths_of(version)
    work = tempfile.mkdtemp(dir=scratch)
    # --occurrence: tar stops there, and the rest of a large archive is not unpacked.
    run("tar", "-xf", source, "-C", work, "--strip-components=3", "--occurrence=1", "--wildcards", "linux-source-*/" + OWN[name])
    with open(work + "/Makefile", "w") as file:
        file.write("obj-m := %s.o\n" % name)
    run("make", "-s", "-C", headers, "M=" + work, "modules", env={**os.environ, "MAKEFLAGS": "", "MFLAGS": ""})
    path = "%s/%s.ko" % (work, name)
    run("strip", "--strip-debug", path)
    with open(path, "rb") as file:
        return file.read()
