# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine of scripts/vm-run boots from: the newest kernel here, and an initramfs of this computer's own modules
and programs. Owns the cache of both."""
import fcntl
import glob
import hashlib
import io
import lzma
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time

from vm import modules as own

# What the machine has without asking for it; what this computer lacks is left out, and the scripts skip what needs it.
MODULES = """
    virtio_pci virtio_blk virtio_console configfs loop brd null_blk scsi_mod sd_mod scsi_debug
    dm-mod dm-crypt dm-delay dm-dust dm-flakey dm-log dm-mirror dm-snapshot dm-thin-pool dm-zero md-mod raid0 raid1
    ext4 crc32c-intel crc32c_generic crct10dif-pclmul crct10dif_generic crc-t10dif crc64-rocksoft
    aesni-intel cryptd xts ecb
    """.split()
# Where busybox' own does not do: its programs start four times as fast, in an emulated processor.
TOOLS = """
    bash blkid blkzone blockdev cmp dd dmsetup flock fsfreeze losetup lsblk lvm mdadm mkfs.ext4 mkswap setpriv sfdisk
    sha256sum swapon
    """.split()


class Skip(Exception):
    """Something is missing here."""


class Broken(Exception):
    """Exit status 125."""


class Cpio:
    """An archive in the format "newc" (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self):
        self.file, self.inode, self.names = io.BytesIO(), 1, set()

    def add(self, name, mode, data=b""):
        name = name.strip("/")
        if not name or name in self.names:
            return
        self.directory(os.path.dirname(name))
        self.names.add(name)
        text = name.encode() + b"\0"
        header = [self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(text), 0]
        self.inode += 1
        self.file.write(b"070701" + b"".join(b"%08X" % number for number in header) + text)
        self.file.write(b"\0" * (-self.file.tell() % 4) + data)
        self.file.write(b"\0" * (-self.file.tell() % 4))

    def directory(self, name):
        self.add(name, stat.S_IFDIR | 0o755)

    def link(self, name, target):
        self.add(name, stat.S_IFLNK | 0o777, target.encode())

    def text(self, name, text, mode=0o755):
        self.add(name, stat.S_IFREG | mode, text.encode())

    def path(self, host, guest):
        """A file of this computer's, or a directory with all that is in it."""
        if os.path.isdir(host):
            self.directory(guest)
            for entry in sorted(os.listdir(host)):
                self.path(os.path.join(host, entry), guest + "/" + entry)
        else:
            with open(host, "rb") as file:
                self.add(guest, stat.S_IFREG | stat.S_IMODE(os.stat(host).st_mode), file.read())

    def program(self, host, guest=""):
        """A program, with the shared libraries it needs at the paths where it looks for them."""
        real = shutil.which(host)
        if not real:
            raise Broken("there is no program %s" % host)
        self.path(real, guest or "/bin/" + os.path.basename(host))
        for line in output_of("ldd", real).splitlines():
            if "not found" in line:
                raise Broken("%s needs a library that is not here: %s" % (host, line.strip()))
            library = re.search(r"(/\S+) \(0x", line)
            if library:
                self.path(library.group(1), library.group(1))

    def bytes(self):
        self.add("TRAILER!!!", 0)
        self.file.write(b"\0" * (-self.file.tell() % 512))
        return self.file.getvalue()


INIT = r"""#!/bin/sh
export PATH=/bin:/sbin HOME=/root USER=root TERM=dumb LC_ALL=C DM_DISABLE_UDEV=1
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
mkdir -p /dev/shm; mount -t tmpfs t /dev/shm; mount -t tmpfs -o mode=1777 t /tmp; mount -t tmpfs t /run
mkdir -p /run/lock /run/mdadm; ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin; ln -s fd/1 /dev/stdout; ln -s fd/2 /dev/stderr; ln -s /proc/mounts /etc/mtab
echo root:x:0:0:root:/root:/bin/sh >/etc/passwd; echo root:x:0: >/etc/group
hostname vm
. /vm/settings
modprobe -a virtio_pci virtio_console dm-mod configfs
mount -t configfs c /sys/kernel/config
dmsetup mknodes
waitfor /dev/vport0p3
exec 3<>/dev/vport0p3
mkfifo /run/.o /run/.e
cat /run/.o >/dev/vport0p1 & cat /run/.e >/dev/vport0p2 &
exec 4<>/run/.o 5<>/run/.e
for module in $VM_MODULES; do modprobe $module 2>&5 || echo "vm-run: cannot load $module" >&5; done
for disk in $VM_DISKS; do waitfor /dev/$disk 2>&5; done
cd /root
echo BEGIN >&3
/vm/start >&4 2>&5 </dev/null 3>&- 4>&- 5>&-
status=$?
sync
echo "$VM_TOKEN" >&4; echo "$VM_TOKEN" >&5
echo "STATUS $status" >&3
read answer <&3
exec 3>&- 4>&- 5>&-
umount -a -r 2>/dev/null; sync
reboot -f
"""

WAITFOR = """#!/bin/sh
# waitfor PATH [SECONDS]
n=$(( ${2:-10} * 50 ))
while [ ! -e "$1" ]; do
	n=$((n - 1))
	[ $n -gt 0 ] || { echo "waitfor: no $1" >&2; exit 1; }
	usleep 20000
done
"""


def output_of(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def module_name(path):
    return re.sub(r"\.ko.*$", "", os.path.basename(path)).replace("-", "_")


def read_modules(directory):
    """Of each module that is there: its file and those of the modules it needs, relative to the directory."""
    found = {}
    with open(directory + "/modules.dep") as file:
        for line in file:
            path, needs = line.split(":", 1)
            found[module_name(path)] = [path] + needs.split()
    return found


def add_modules(cpio, directory, modules, built, scratch):
    """The modules that are there and those that were built, with an index of their own, which names no other."""
    there = read_modules(directory)
    tree = tempfile.mkdtemp(dir=scratch)
    target = tree + directory
    os.makedirs(target)
    for path in {path for module in modules for path in there.get(module.replace("-", "_"), [])}:
        os.makedirs(os.path.dirname(target + "/" + path), exist_ok=True)
        shutil.copy(directory + "/" + path, target + "/" + path)
    for name, path in built.items():
        os.makedirs(target + "/updates", exist_ok=True)
        shutil.copy(path, "%s/updates/%s.ko" % (target, name))
    for path in glob.glob(directory + "/modules.order") + glob.glob(directory + "/modules.builtin*"):
        shutil.copy(path, target)
    subprocess.run(["depmod", "-b", tree, os.path.basename(directory)], check=True)
    for path in glob.glob(target + "/*.bin") + glob.glob(target + "/modules.*.modinfo"):  # busybox reads the text
        os.unlink(path)
    cpio.path(tree + "/lib", "/lib")


def build_base(directory, modules, built, reasons, scratch):
    cpio = Cpio()
    add_modules(cpio, directory, modules, built, scratch)
    for name in "dev proc sys tmp run root mnt etc sbin vm var/tmp".split():
        cpio.directory(name)
    for tool in TOOLS:
        if shutil.which(tool):
            cpio.program(tool)
    cpio.program("busybox")
    for applet in output_of("busybox", "--list").split():
        cpio.link("/bin/" + applet, "busybox")
    cpio.link("/sbin/modprobe", "/bin/busybox")
    for name, reason in reasons.items():
        cpio.text("/vm/without-" + name, reason + "\n")
    cpio.text("/bin/waitfor", WAITFOR)
    cpio.text("/init", INIT)
    return cpio.bytes()


def find_kernel():
    """The newest kernel that has modules: its file and the directory of its modules."""
    kernels = []
    unreadable = None
    for modules in glob.glob("/lib/modules/*/modules.dep"):
        directory = os.path.dirname(modules)
        version = os.path.basename(directory)
        for path in ("/boot/vmlinuz-" + version, directory + "/vmlinuz"):
            if os.access(path, os.R_OK):
                kernels.append(([int(number) for number in re.findall(r"\d+", version)], path, directory))
                break
            if os.path.exists(path):
                unreadable = path
    if not kernels and unreadable:
        raise Skip("%s is not for everybody to read" % unreadable)
    if not kernels:
        raise Skip("no kernel with modules in /boot and /lib/modules (scripts/install-deps vm)")
    return max(kernels)[1:]


def make_cache(scratch):
    """Private; where there can be none, everything is made anew in the run's own directory."""
    path = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "kcopy-vm")
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        if os.stat(path).st_uid == os.getuid() and os.access(path, os.W_OK):
            return path
    except OSError:
        pass
    return scratch


def digest_of(words):
    """Another one if a word is another, or a file of that name."""
    digest = hashlib.sha256()
    for word in words:
        status = os.stat(word) if os.path.exists(word) else None
        digest.update(("%s %s\n" % (word, status and (status.st_size, status.st_mtime_ns))).encode())
    return digest.hexdigest()[:16]


def cached(path, make):
    """The file at the path, which is made unless it is there."""
    if not os.path.exists(path):
        data = make()
        with open(path + ".new", "wb") as file:
            file.write(data)
        os.rename(path + ".new", path)
    os.utime(path)
    return path


def unpack_kernel(path):
    """A kernel that need not unpack itself boots 3 s faster; the raw one if it is not packed with xz."""
    with open(path, "rb") as file:
        data = file.read()
    at = data.find(b"\xfd7zXZ\0")
    return data if at < 0 else lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data[at:])


def build_own(cache, directory, scratch):
    """Modules that this kernel leaves out: the files of those that could be built, and why the others could not."""
    there, version = read_modules(directory), os.path.basename(directory)
    built, reasons = {}, {}
    for name in own.OWN:
        if name.replace("-", "_") in there:
            continue
        try:
            own.check_there(version)
            digest = digest_of([version, own.__file__] + list(own.paths_of(version)))
            built[name] = cached("%s/%s-%s" % (cache, name, digest), lambda: own.build(name, version, scratch))
        except own.Unavailable as reason:
            reasons[name] = str(reason)
    return built, reasons


def kernel_and_base(modules, scratch):
    """The files to boot: the kernel, and the initramfs, to which a run appends its own."""
    kernel, directory = find_kernel()
    there = read_modules(directory)
    for module in modules:
        if module.replace("-", "_") not in there:
            raise Skip("%s has no module %s" % (os.path.basename(kernel), module))
    modules = MODULES + [module for module in modules if module not in MODULES]
    sources = [__file__, directory + "/modules.dep"] + [shutil.which(tool) or tool for tool in TOOLS + ["busybox"]]
    cache = make_cache(scratch)
    with open(cache + "/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for path in glob.glob(cache + "/*-*"):
            if time.time() - os.stat(path).st_mtime > 7 * 86400:
                os.unlink(path)
        built, reasons = build_own(cache, directory, scratch)
        sources += list(built.values()) + list(reasons.values())
        return (cached("%s/kernel-%s" % (cache, digest_of([kernel])), lambda: unpack_kernel(kernel)),
                cached("%s/base-%s" % (cache, digest_of(sources + modules)),
                       lambda: build_base(directory, modules, built, reasons, scratch)))
