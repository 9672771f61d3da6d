#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes ./configure from configure.ac. Needed once in a git clone, never in a release tarball.
set -eu
cd "$(dirname "$0")"
exec autoreconf -fi
