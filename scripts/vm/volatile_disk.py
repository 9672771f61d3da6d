# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk with a volatile write cache, for scripts/vm-run: what was not flushed can be lost, as in a power cut."""
import os
import random
import socket
import struct
import threading


class VolatileDisk(threading.Thread):
    """An NBD server for one client over a raw file. Writes stay in memory until the machine sends FLUSH, or writes with
    FUA; power_cut() then drops what was not flushed ("all"), or keeps a random half of those writes ("rand:SEED") or a random
    number of the first ones ("prefix:SEED"). close() is an orderly end: everything is kept."""

    BLOCK = 4096
    HANDSHAKE_FLAGS = 1 | 4 | 8 | 32 | 64  # HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES
    READ, WRITE, DISCONNECT, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6

    def __init__(self, path, address, mode):
        super().__init__(daemon=True)
        self.path, self.mode, self.fd = path, mode, os.open(path, os.O_RDWR)
        self.size = os.lseek(self.fd, 0, os.SEEK_END)
        self.log, self.blocks, self.lock, self.is_dead = [], {}, threading.Lock(), False
        self.num_writes = 0
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(address)
        self.server.listen(4)
        self.start()

    def run(self):
        try:
            while True:
                client, _ = self.server.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()
        except OSError:
            pass

    def serve(self, client):
        stream = client.makefile("rb", 1 << 20)
        try:
            if self.greet(client, stream):
                while self.answer(client, stream):
                    pass
        except (OSError, EOFError):
            pass
        finally:
            client.close()

    @staticmethod
    def get(stream, layout):
        """The fields of a structure; a number of bytes if it is one."""
        size = layout if isinstance(layout, int) else struct.calcsize(layout)
        data = stream.read(size)
        if len(data) != size:
            raise EOFError
        return data if isinstance(layout, int) else struct.unpack(layout, data)

    def greet(self, client, stream):
        """The fixed newstyle handshake (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md)."""
        def reply(option, kind, data=b""):
            client.sendall(struct.pack(">QIII", 0x3e889045565a9, option, kind, len(data)) + data)

        client.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        no_zeroes = self.get(stream, ">I")[0] & 2
        while True:
            _, option, size = self.get(stream, ">QII")
            self.get(stream, size)
            if option == 1:  # EXPORT_NAME
                client.sendall(struct.pack(">QH", self.size, self.HANDSHAKE_FLAGS) + (b"" if no_zeroes else bytes(124)))
                return True
            if option in (6, 7):  # INFO, GO
                reply(option, 3, struct.pack(">HQH", 0, self.size, self.HANDSHAKE_FLAGS))
                reply(option, 1)
                if option == 7:
                    return True
            elif option == 2:  # ABORT
                reply(option, 1)
                return False
            else:
                reply(option, 0x80000001)  # ERR_UNSUP

    def answer(self, client, stream):
        _, flags, kind, handle, offset, size = self.get(stream, ">IHHQQI")
        payload = self.get(stream, size) if kind == self.WRITE else b""
        data, error = b"", 0
        with self.lock:
            if self.is_dead or kind == self.DISCONNECT:
                return False
            if kind != self.FLUSH and offset + size > self.size:
                error = 22
            elif kind == self.READ:
                data = self.read(offset, size)
            elif kind in (self.WRITE, self.WRITE_ZEROES):
                for at in range(0, size, 1 << 20):
                    count = min(size - at, 1 << 20)
                    self.write(offset + at, payload[at:at + count] or bytes(count), flags & 1)
            elif kind == self.FLUSH:
                self.keep(lambda index: True)
            elif kind != self.TRIM:  # which may be ignored
                error = 22
        client.sendall(struct.pack(">IIQ", 0x67446698, error, handle) + data)
        return True

    def read(self, offset, size):
        data = bytearray(os.pread(self.fd, size, offset))
        data.extend(bytes(size - len(data)))
        for block in range(offset // self.BLOCK, (offset + size - 1) // self.BLOCK + 1) if self.blocks else ():
            newer = self.blocks.get(block)
            if newer is not None:
                start, end = max(offset, block * self.BLOCK), min(offset + size, (block + 1) * self.BLOCK)
                data[start - offset:end - offset] = newer[start - block * self.BLOCK:end - block * self.BLOCK]
        return bytes(data)

    def write(self, offset, data, is_fua):
        self.num_writes += 1
        self.log.append((offset, data, is_fua))
        at = 0
        while at < len(data):
            block, start = divmod(offset + at, self.BLOCK)
            count = min(self.BLOCK - start, len(data) - at)
            if block not in self.blocks:
                self.blocks[block] = bytearray(os.pread(self.fd, self.BLOCK, block * self.BLOCK).ljust(self.BLOCK, b"\0"))
            self.blocks[block][start:start + count] = data[at:at + count]
            at += count

    def keep(self, is_kept):
        """Of the writes since the last flush those that is_kept names by their index, and those with FUA."""
        for index, (offset, data, is_fua) in enumerate(self.log):
            if is_fua or is_kept(index):
                os.pwrite(self.fd, data, offset)
        self.log, self.blocks = [], {}

    def power_cut(self):
        with self.lock:
            self.is_dead = True
            lost, size = len(self.log), sum(len(data) for _, data, _ in self.log)
            kind, _, seed = self.mode.partition(":")
            chance = random.Random(seed)
            if kind == "rand":
                self.keep(lambda index: chance.random() < 0.5)
            elif kind == "prefix":
                cut = chance.randint(0, lost)
                self.keep(lambda index: index < cut)
            else:
                self.keep(lambda index: False)
            os.fsync(self.fd)
        return "%s: power cut with %d unflushed writes, %d bytes (%s), after %d writes" % (
            self.path, lost, size, self.mode, self.num_writes)

    def close(self):
        with self.lock:
            if not self.is_dead:
                self.keep(lambda index: True)
            self.is_dead = True
            os.fsync(self.fd)
        self.server.close()
