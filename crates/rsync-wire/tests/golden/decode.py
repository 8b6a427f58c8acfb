#!/usr/bin/env python3
"""Walk a golden capture (client.bin + server.bin) and print it readably.

usage: decode.py [-q] [-b BASIS_TREE] [-n NEW_TREE] CASE_DIR...

Written from the protocol notes; it is the check that they are right.  It decodes both
directions to the last byte (also inc_recurse sub-lists), sorts the file lists
with the rule of their section 7.6 and checks that every index the client asks
for names a regular file whose length equals the length of the data sent, and
verifies the whole-file checksum of every transferred file (delta transfers need
the old contents: -b, default $RSYNC_WORK/tree).
-q prints one summary line per case.  Exit status 1 if any case fails.
Needs python3; `xxhash`, `lz4`, `zstandard` are used if importable.
"""
import functools, hashlib, json, os, stat, struct, sys, zlib

sys.path.insert(0, os.environ.get("RSYNC_PYLIB", "rsync-work/pylib"))
try:
    import xxhash
except ImportError:
    xxhash = None
try:
    import lz4.block
except ImportError:
    lz4 = None
try:
    import zstandard
except ImportError:
    zstandard = None

MSG = {0: "DATA", 1: "ERROR_XFER", 2: "INFO", 3: "ERROR", 4: "WARNING", 5: "ERROR_SOCKET", 6: "LOG", 7: "CLIENT",
       8: "ERROR_UTF8", 9: "REDO", 10: "STATS", 22: "IO_ERROR", 33: "IO_TIMEOUT", 42: "NOOP", 86: "ERROR_EXIT",
       100: "SUCCESS", 101: "DELETED", 102: "NO_SEND"}
CF = ["INC_RECURSE", "SYMLINK_TIMES", "SYMLINK_ICONV", "SAFE_FLIST", "AVOID_XATTR_OPTIM", "CHKSUM_SEED_FIX",
      "INPLACE_PARTIAL_DIR", "VARINT_FLIST_FLAGS", "ID0_NAMES"]
NDX_DONE, NDX_FLIST_EOF, NDX_DEL_STATS, NDX_FLIST_OFFSET = -1, -2, -3, -101
BASIS_FOLLOWS, XNAME_FOLLOWS, IS_NEW, LOCAL_CHANGE, TRANSFER = 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15


class Bad(Exception):
    pass


class End(Exception):
    """clean end of captured bytes inside a read"""


def extra_bytes(b):           # number of leading one bits of the first byte, 7/8 set count as 5/6
    if b < 0x80: return 0
    if b < 0xC0: return 1
    if b < 0xE0: return 2
    if b < 0xF0: return 3
    if b < 0xF8: return 4
    return 5 if b < 0xFC else 6


class Stream:
    def __init__(self, data, name, log):
        self.d, self.p, self.name, self.log = data, 0, name, log
        self.mux, self.left, self.msgs, self.frames, self.maxframe = False, 0, [], 0, 0
        self.prev_pos, self.prev_neg = -1, 1

    def raw(self, n):
        if self.p + n > len(self.d):
            raise End(f"{self.name}: want {n} at {self.p}, have {len(self.d) - self.p}")
        r = self.d[self.p:self.p + n]
        self.p += n
        return r

    def frame(self):
        h = struct.unpack("<I", self.raw(4))[0]
        code, ln = (h >> 24) - 7, h & 0xFFFFFF
        if code not in MSG:
            raise Bad(f"{self.name}: bad message code {code} at {self.p - 4}")
        self.frames += 1
        self.maxframe = max(self.maxframe, ln)
        if code == 0:
            self.left = ln
            if ln == 0:
                self.log(f"  [{self.name} keepalive: empty DATA frame]")
            return
        body = self.raw(ln)
        txt = str(struct.unpack("<i", body)[0]) if code in (9, 22, 33, 86, 102, 100) and ln == 4 else repr(body)
        self.msgs.append((MSG[code], txt))
        self.log(f"  [{self.name} MSG_{MSG[code]} {txt}]")

    def read(self, n):
        if not self.mux:
            return self.raw(n)
        out = b""
        while n:
            while not self.left:
                self.frame()
            k = min(n, self.left)
            out += self.raw(k)
            self.left -= k
            n -= k
        return out

    def rest(self):
        """consume trailing messages; complain about unread data"""
        if not self.mux:
            if self.p != len(self.d):
                raise Bad(f"{self.name}: {len(self.d) - self.p} unread bytes")
            return
        if self.left:
            raise Bad(f"{self.name}: {self.left} unread data bytes in frame")
        while self.p < len(self.d):
            self.frame()
            if self.left:
                raise Bad(f"{self.name}: unread data frame of {self.left} at {self.p}: {self.d[self.p:self.p+24]!r}")

    def byte(self): return self.read(1)[0]
    def short(self): return struct.unpack("<H", self.read(2))[0]
    def int(self): return struct.unpack("<i", self.read(4))[0]

    def varint(self):
        b = self.byte()
        e = extra_bytes(b)
        if not e:
            return b
        if e > 4:
            raise Bad("varint overflow")
        body = self.read(e)
        v = int.from_bytes(body + bytes([b & ((1 << (8 - e)) - 1)]), "little") & 0xFFFFFFFF
        return v - (1 << 32) if v & 0x80000000 else v

    def varlong(self, m):
        h = self.read(m)
        e = extra_bytes(h[0])
        if m + e > 9:
            raise Bad("varlong overflow")
        if e:
            body = h[1:] + self.read(e) + bytes([h[0] & ((1 << (8 - e)) - 1)])
        else:
            body = h[1:] + h[:1]
        v = int.from_bytes(body[:8], "little")
        return v - (1 << 64) if v >> 63 else v

    def longint(self):
        v = self.int()
        return struct.unpack("<q", self.read(8))[0] if v == -1 else v

    def vstring(self):
        n = self.byte()
        if n & 0x80:
            n = (n & 0x7F) << 8 | self.byte()
        return self.read(n)

    def ndx(self, proto):
        if proto < 30:
            return self.int()
        b = self.byte()
        if b == 0:
            return NDX_DONE
        neg = b == 0xFF
        if neg:
            b = self.byte()
        prev = self.prev_neg if neg else self.prev_pos
        if b == 0xFE:
            h = self.read(2)
            if h[0] & 0x80:
                r = self.read(2)
                v = (h[0] & 0x7F) << 24 | r[1] << 16 | r[0] << 8 | h[1]
            else:
                v = prev + (h[0] << 8 | h[1])
        else:
            v = prev + b
        if neg:
            self.prev_neg = v
            return -v
        self.prev_pos = v
        return v

    def line(self):
        e = self.d.find(b"\n", self.p)
        if e < 0:
            raise End(f"{self.name}: no newline")
        r = self.d[self.p:e]
        self.p = e + 1
        return r

    def cstr(self):
        out = b""
        while (c := self.read(1)) != b"\0":
            out += c
        return out


# ---------------------------------------------------------------- checksums
def md4(data):
    def rol(x, n): return ((x << n) | (x >> (32 - n))) & 0xFFFFFFFF
    msg = data + b"\x80" + b"\0" * ((55 - len(data)) % 64) + struct.pack("<Q", len(data) * 8)
    a, b, c, d = 0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476
    for o in range(0, len(msg), 64):
        X = struct.unpack("<16I", msg[o:o + 64])
        A, B, C, D = a, b, c, d
        for i in range(16):
            f = (B & C) | (~B & D)
            A, B, C, D = D, rol((A + f + X[i]) & 0xFFFFFFFF, (3, 7, 11, 19)[i % 4]), B, C
        for i in range(16):
            f = (B & C) | (B & D) | (C & D)
            A, B, C, D = D, rol((A + f + X[(i % 4) * 4 + i // 4] + 0x5A827999) & 0xFFFFFFFF, (3, 5, 9, 13)[i % 4]), B, C
        for i in range(16):
            k = (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15)[i]
            A, B, C, D = D, rol((A + (B ^ C ^ D) + X[k] + 0x6ED9EBA1) & 0xFFFFFFFF, (3, 9, 11, 15)[i % 4]), B, C
        a, b, c, d = (a + A) & 0xFFFFFFFF, (b + B) & 0xFFFFFFFF, (c + C) & 0xFFFFFFFF, (d + D) & 0xFFFFFFFF
    return struct.pack("<4I", a, b, c, d)


SUMLEN = {"md5": 16, "md4": 16, "md4old": 16, "sha1": 20, "xxh64": 8, "xxhash": 8, "xxh3": 8, "xxh128": 16, "none": 1}


def file_sum(alg, data, seed, whole):
    """whole=True: the sum sent after the tokens.  whole=False: the file-list (-c) sum (never seeded)."""
    if alg == "none": return b"\0"
    if alg == "md5": return hashlib.md5(data).digest()
    if alg == "sha1": return hashlib.sha1(data).digest()
    if alg == "md4": return md4(data)
    if alg == "md4old": return md4((struct.pack("<i", seed) if whole else b"") + data)
    if not xxhash: return None
    if alg in ("xxh64", "xxhash"): return xxhash.xxh64(data, seed=0).digest()[::-1]
    if alg == "xxh3": return xxhash.xxh3_64(data, seed=0).digest()[::-1]
    if alg == "xxh128":
        d = xxhash.xxh3_128(data, seed=0).digest()
        return d[8:][::-1] + d[:8][::-1]


def block_sum(alg, data, seed, seedfix):
    s = struct.pack("<i", seed) if seed else b""
    u = seed & 0xFFFFFFFFFFFFFFFF          # xxh seeds: the signed 32-bit seed sign-extended to 64 bits
    if alg == "none": return b"\0"
    if alg == "md5": return hashlib.md5(s + data if seedfix else data + s).digest()
    if alg == "sha1": return hashlib.sha1(s + data).digest()
    if alg == "md4": return (md4(s + data), md4(data + s))
    if alg == "md4old": return md4(data + s)
    if not xxhash: return None
    if alg in ("xxh64", "xxhash"): return xxhash.xxh64(data, seed=u).digest()[::-1]
    if alg == "xxh3": return xxhash.xxh3_64(data, seed=u).digest()[::-1]
    if alg == "xxh128":
        d = xxhash.xxh3_128(data, seed=u).digest()
        return d[8:][::-1] + d[:8][::-1]


def rolling(data):
    s1 = s2 = 0
    for x in data:
        s1 += x - 256 if x > 127 else x
        s2 += s1
    return (s1 & 0xFFFF) | (s2 & 0xFFFF) << 16


# ---------------------------------------------------------------- file list order (proto >= 29)
def sort_parts(name, isdir):
    """Key elements: files before dirs at every level; dirs as 'name/'; '.' first."""
    parts = name.split(b"/")
    key = []
    for i, p in enumerate(parts):
        last = i == len(parts) - 1
        if last and isdir and p == b".":
            key.append((-1, b""))
        elif last and not isdir:
            key.append((0, p))
        else:
            key.append((1, p + b"/"))
    return key


def name_cmp(a, b):
    return (a > b) - (a < b)


class Entry:
    pass


class Session:
    def __init__(self, d, log, basis, new):
        self.log, self.basis_root, self.new_root = log, basis, new
        rd = lambda n: open(os.path.join(d, n), "rb").read()
        self.c, self.s = Stream(rd("client.bin"), "C", log), Stream(rd("server.bin"), "S", log)
        self.meta = json.load(open(os.path.join(d, "case.json")))
        self.stats = dict(entries=0, lists=0, xfers=0, verified=0, unverified=0, blocks=0, sumchecked=0)
        self.flists, self.dirs, self.requests = [], [], []

    # ---- text part
    def run(self):
        log, c, s = self.log, self.c, self.s
        cg, sg = c.line(), s.line()
        log(f"C greeting {cg!r}\nS greeting {sg!r}")
        ver = lambda g: int(g.split(b" ")[1].split(b".")[0])
        self.p = p = min(ver(cg), ver(sg))
        log(f"protocol {p}")
        mod = c.line()
        log(f"C module request {mod!r}")
        ok = False
        while s.p < len(s.d):
            l = s.line()
            log(f"S line {l.decode('utf-8', 'replace')!r}")
            if l.startswith(b"@RSYNCD: AUTHREQD "):
                chal, resp = l[18:], c.line()
                user, got = resp.split(b" ", 1)
                offered = cg.split(b" ")[2:]
                alg = next((a for a in (b"sha512", b"sha256", b"sha1", b"md5", b"md4") if a in offered), b"md5" if p >= 30 else b"md4")
                import base64
                pw = b"opensesame"
                h = hashlib.new(alg.decode(), pw + chal).digest() if alg != b"md4" else (md4(b"\0\0\0\0" + pw + chal) if not offered else md4(pw + chal))
                want = base64.b64encode(h).rstrip(b"=")
                log(f"C auth user={user!r} digest={alg.decode()} response={got!r} -> {'matches' if want == got else 'DOES NOT MATCH'} the fixed password")
                self.stats["auth"] = want == got
            if l == b"@RSYNCD: OK":
                ok = True
                break
            if l == b"@RSYNCD: EXIT" or l.startswith(b"@ERROR"):
                break
        if not ok:
            s.rest()
            # an optimistic client has sent nothing more at this point
            if c.p != len(c.d):
                raise Bad(f"client sent {len(c.d) - c.p} bytes after the module name")
            return "ended in the text phase"
        # ---- args
        args = self.read_args(p >= 30)
        log(f"C args {args}")
        if any(a.startswith(b"-") and not a.startswith(b"--") and b"s" in a.split(b"e.")[0] for a in args) and b"." not in args:
            args += self.read_args(True)[1:]
            log(f"C secluded args -> {args}")
        self.parse_args(args)
        return self.binary()

    def read_args(self, nulls):
        out = []
        while True:
            a = self.c.cstr() if nulls else self.c.line()
            if not a:
                return out
            out.append(a)

    def parse_args(self, args):
        o = self.o = dict(caps=b"", cc=None, zc=None, z=False, seed=0, files_from=None, append=0, flags=set(), numeric=False)
        f = o["flags"]
        it = iter(args)
        for a in it:
            if a == b".":
                break
            if a.startswith(b"--"):
                k, _, v = a.partition(b"=")
                if k == b"--checksum-choice": o["cc"] = v.decode()
                elif k == b"--compress-choice": o["zc"] = v.decode(); o["z"] = True
                elif k == b"--new-compress": o["zc"] = "zlibx"; o["z"] = True
                elif k == b"--old-compress": o["zc"] = "zlib"; o["z"] = True
                elif k == b"--checksum-seed": o["seed"] = int(v)
                elif k == b"--files-from": o["files_from"] = v
                elif k == b"--append": o["append"] += 1
                elif k == b"--numeric-ids": o["numeric"] = True
                elif k == b"--specials": f.add("specials")
                elif k == b"--no-specials": f.add("nospecials")
            elif a.startswith(b"-"):
                letters, dot, caps = a[1:].partition(b"e")
                if dot:
                    o["caps"] = caps
                f.update(chr(x) for x in letters)
        if "z" in f:
            o["z"] = True
        o["paths"] = list(it)

    # ---- binary part
    def binary(self):
        p, c, s, log, o = self.p, self.c, self.s, self.log, self.o
        self.compat = 0
        if p >= 30:
            self.compat = s.varint()
            names = [n for i, n in enumerate(CF) if self.compat >> i & 1]
            log(f"S compat_flags 0x{self.compat:x} {names}")
        has = lambda i: bool(self.compat >> i & 1)
        self.inc, self.safe, self.seedfix, self.varflags, self.id0 = has(0), has(3) or p >= 31, has(5), has(7), has(8)
        self.csum = "md5" if p >= 30 else "md4old"
        self.comp = "zlib" if o["z"] else "none"
        if o["cc"]:
            self.csum = o["cc"].split(",")[0]
        if o["zc"]:
            self.comp = o["zc"]
        if self.varflags:
            pick = lambda cl, sl: next(x for x in cl if x in sl)
            if not o["cc"]:
                sl, cl = s.vstring().decode().split(), c.vstring().decode().split()
                self.csum = pick(cl, sl)
                log(f"S checksums {sl}\nC checksums {cl} -> {self.csum}")
            if o["z"] and not o["zc"]:
                sl, cl = s.vstring().decode().split(), c.vstring().decode().split()
                self.comp = pick(cl, sl)
                log(f"S compressors {sl}\nC compressors {cl} -> {self.comp}")
        self.sumlen = SUMLEN[self.csum]
        self.seed = s.int()
        log(f"S seed {self.seed & 0xFFFFFFFF:#010x}   checksum={self.csum} compress={self.comp} inc_recurse={self.inc}")
        s.mux = True
        c.mux = p >= 30
        self.client_phase1()
        try:
            self.server_walk()
        except End as e:
            log(f"S ends early: {e}")
            self.end_note = "server stream ended early (expected for error cases)"
            c.left and c.read(c.left)
            c.rest() if not self.requests else None
            return self.end_note + f" msgs={s.msgs}"
        s.rest()
        self.check_client_to_end()
        return "decoded to the end"

    def client_phase1(self):
        c, p, o, log = self.c, self.p, self.o, self.log
        try:
            while (n := c.int()):
                log(f"C filter {c.read(n)!r}")
            log("C end of filter list")
            if o["files_from"] == b"-":
                if p == 30:
                    if c.left:
                        raise Bad("data left in frame before unframed files-from")
                    c.mux = False
                while (n := c.cstr()):
                    log(f"C files-from {n!r}")
                log("C end of files-from")
                if p == 30:
                    c.mux = True
            self.client_eof = False
        except End as e:
            log(f"C ends: {e}")
            self.client_eof = True

    # ---- file lists
    def v30(self, s): return s.varint() if self.p >= 30 else s.int()
    def vl30(self, s, m): return s.varlong(m) if self.p >= 30 else s.longint()

    def read_flist(self, dir_ndx):
        s, p, o, log = self.s, self.p, self.o, self.log
        f = o["flags"]
        st = self.__dict__.setdefault("fstate", dict(name=b"", mtime=0, mode=0, uid=0, gid=0, rmaj=0, dev=0))
        start = 1 if self.inc and not self.flists else (0 if not self.flists else self.flists[-1]["start"] + len(self.flists[-1]["raw"]) + 1)
        if not self.inc:
            start = 0
        raw, io_err = [], None
        devices, specials = "D" in f, ("D" in f and "nospecials" not in f) or "specials" in f
        while True:
            if self.varflags:
                x = s.varint()
                if x == 0:
                    io_err = s.varint()
                    break
            else:
                x = s.byte()
                if x == 0:
                    break
                if x & 4:
                    x |= s.byte() << 8
                if x == 0x1004:
                    io_err = s.varint()
                    break
            e = Entry()
            l1 = s.byte() if x & 0x20 else 0
            l2 = self.v30(s) if x & 0x40 else s.byte()
            if l2 + l1 >= 4096:
                raise Bad("name too long")
            e.name = st["name"][:l1] + s.read(l2)
            st["name"] = e.name
            e.xflags, e.link, e.sum, e.hl, e.nsec = x, None, None, None, 0
            first = None
            if p >= 30 and x & 0x200 and not x & 0x1000:
                first = s.varint()
                e.hl = first
            if first is not None and first >= start:
                o1 = raw[first - start]
                e.size, e.mtime, e.nsec, e.mode, e.uid, e.gid, e.link, e.sum = o1.size, o1.mtime, o1.nsec, o1.mode, o1.uid, o1.gid, o1.link, o1.sum
                st.update(mtime=e.mtime, mode=e.mode, uid=e.uid, gid=e.gid)
            else:
                e.size = self.vl30(s, 3)
                if not x & 0x80:
                    st["mtime"] = s.varlong(4) if p >= 30 else s.int() & 0xFFFFFFFF
                e.mtime = st["mtime"]
                if x & 0x2000:
                    e.nsec = s.varint()
                if not x & 0x02:
                    st["mode"] = s.int()
                e.mode = st["mode"]
                if "o" in f and not x & 0x08:
                    st["uid"] = s.varint() if p >= 30 else s.int()
                    if p >= 30 and x & 0x400:
                        log(f"    uid {st['uid']} name {s.read(s.byte())!r}")
                if "g" in f and not x & 0x10:
                    st["gid"] = s.varint() if p >= 30 else s.int()
                    if p >= 30 and x & 0x800:
                        log(f"    gid {st['gid']} name {s.read(s.byte())!r}")
                e.uid, e.gid = st["uid"], st["gid"]
                dev = stat.S_ISCHR(e.mode) or stat.S_ISBLK(e.mode)
                spec = stat.S_ISFIFO(e.mode) or stat.S_ISSOCK(e.mode)
                if devices and dev or specials and spec and p < 31:
                    if not x & 0x100:
                        st["rmaj"] = self.v30(s)
                    e.rmin = s.varint() if p >= 30 else s.byte() if x & 0x800 else s.int()
                if "l" in f and stat.S_ISLNK(e.mode):
                    e.link = s.read(self.v30(s))
                if p < 30 and x & 0x200:
                    if not x & 0x400:
                        st["dev"] = s.longint()
                    e.hl = (st["dev"], s.longint())
                if "c" in f and stat.S_ISREG(e.mode):
                    e.sum = s.read(self.sumlen)
            e.isdir = stat.S_ISDIR(e.mode)
            raw.append(e)
            if e.isdir and self.inc:
                self.dirs.append(e)
        keyed = sorted(range(len(raw)), key=functools.cmp_to_key(
            lambda a, b: name_cmp(sort_parts(raw[a].name, raw[a].isdir), sort_parts(raw[b].name, raw[b].isdir))))  # stable
        srt = [raw[i] for i in keyed]
        fl = dict(start=start, raw=raw, sorted=srt, dir=dir_ndx, done=False)
        if self.inc:
            nd = [e for e in srt if e.isdir]
            self.dirs[len(self.dirs) - len(nd):] = nd
        self.flists.append(fl)
        self.stats["entries"] += len(raw)
        self.stats["lists"] += 1
        log(f"S file list #{len(self.flists)} dir_ndx={dir_ndx} first index {start}, {len(raw)} entries, io_error={io_err}")
        prev = None
        for i, e in enumerate(srt):
            dup = prev is not None and prev.name == e.name and prev.isdir == e.isdir
            log(f"   {start + i:3d} {e.mode & 0xFFFF:06o} {e.size:7d} {e.mtime}.{e.nsec:09d} {e.name.decode('utf-8', 'replace')}"
                f"{'/' if e.isdir else ''}{' -> ' + repr(e.link) if e.link is not None else ''} x={e.xflags:#x}"
                f"{' hl=' + str(e.hl) if e.hl is not None or e.xflags & 0x200 else ''}{' sum=' + e.sum.hex() if e.sum else ''}{' DUPLICATE' if dup else ''} (wire #{keyed[i]})")
            prev = e
        if not self.inc and not o["numeric"]:
            for flag, label in (("o", "uid"), ("g", "gid")):
                if flag in f:
                    while (i := self.v30(s)):
                        log(f"S {label} {i} = {s.read(s.byte())!r}")
                    if self.id0:
                        log(f"S {label} 0 = {s.read(s.byte())!r}")
        if p < 30:
            log(f"S io_error {s.int()}")
        return fl

    def entry(self, ndx):
        for fl in self.flists:
            if fl["start"] <= ndx < fl["start"] + len(fl["sorted"]):
                return fl["sorted"][ndx - fl["start"]]
            if ndx == fl["start"] - 1 and self.inc:
                e = Entry()
                e.__dict__.update(self.dirs[fl["dir"]].__dict__ if fl["dir"] >= 0 else dict(name=b"(no parent)", isdir=True, mode=0o40000, size=0))
                return e
        raise Bad(f"index {ndx} is in no list")

    def server_walk(self):
        s, p, log = self.s, self.p, self.log
        fl = self.read_flist(-1)
        if not fl["raw"]:
            # an empty list: the server says nothing more and both sides stop
            if self.inc:
                n = s.ndx(p)
                log(f"S ndx {n} after the empty list" )
            log("empty file list")
            return
        phases = 0
        want = 2 if p >= 29 else 1
        live = 1
        freed = 0
        while True:
            n = s.ndx(p)
            if n == NDX_FLIST_EOF:
                log("S NDX_FLIST_EOF")
                continue
            if n <= NDX_FLIST_OFFSET:
                d = NDX_FLIST_OFFSET - n
                log(f"S sub-list for dir_ndx {d} ({self.dirs[d].name!r})")
                self.read_flist(d)
                continue
            if n == NDX_DEL_STATS:
                log(f"S NDX_DEL_STATS {[s.varint() for _ in range(5)]}")
                continue
            if n == NDX_DONE:
                if self.inc and freed < len(self.flists) - 1:
                    freed += 1
                    log(f"S NDX_DONE (list {freed} of {len(self.flists)} freed)")
                    continue
                phases += 1
                log(f"S NDX_DONE (phase {phases})")
                if phases == want + 1:
                    break
                continue
            self.server_item(n)
        st = [self.vl30(s, 3) for _ in range(5)]
        log(f"S stats read={st[0]} written={st[1]} size={st[2]} flist_build_ms={st[3]} flist_xfer_ms={st[4]}")
        if p >= 31:
            while True:
                n = s.ndx(p)
                if n == NDX_DEL_STATS:
                    log(f"S NDX_DEL_STATS {[s.varint() for _ in range(5)]} (echo of the client's)")
                    continue
                break
            if n != NDX_DONE:
                raise Bad(f"expected goodbye NDX_DONE, got {n}")
            log("S NDX_DONE (goodbye)")

    def attrs(self, st):
        if self.p < 29:
            return TRANSFER, None, None
        fl = st.short()
        t = st.byte() if fl & BASIS_FOLLOWS else None
        x = st.vstring() if fl & XNAME_FOLLOWS else None
        return fl, t, x

    def server_item(self, n):
        s, log, o = self.s, self.log, self.o
        e = self.entry(n)
        fl, t, x = self.attrs(s)
        req = self.client_until(n)
        log(f"S reply ndx {n} {e.name.decode('utf-8', 'replace')!r} iflags {fl:#06x}"
            f"{'' if t is None else f' basis_type={t:#x}'}{'' if x is None else f' xname={x!r}'}")
        if req is None or req["fl"] != fl:
            raise Bad(f"reply {n} iflags {fl:#x} does not echo the request {req}")
        if not fl & TRANSFER or "n" in o["flags"]:
            return
        if not stat.S_ISREG(e.mode):
            raise Bad(f"index {n} ({e.name!r}) is not a regular file: the sort rule is wrong")
        head = [s.int() for _ in range(4)]
        if head != req["head"]:
            raise Bad(f"sum head {head} != requested {req['head']}")
        log(f"    sum head count={head[0]} blength={head[1]} s2length={head[2]} remainder={head[3]}")
        toks = getattr(self, "tok_" + {"none": "plain", "zlib": "deflate", "zlibx": "deflate", "lz4": "lz4", "zstd": "zstd"}[self.comp])
        basis = None
        cand = self.basis_path(e)
        if head[0] or o["append"]:
            basis = open(cand, "rb").read() if cand and os.path.exists(cand) else None
            if self.meta.get("destination") == "other-big":        # what run_cases.py put there
                basis = bytes(i * 7 % 251 for i in range(50000))
        out, lit, blk = b"", 0, 0
        prefix = head[0] * head[1] - ((head[1] - head[3]) if head[3] else 0) if o["append"] else 0
        if o["append"] and basis is not None:
            out = basis[:prefix]
        for kind, v in toks(head, basis):
            if kind == "lit":
                out += v
                lit += len(v)
            else:
                off = v * head[1]
                ln = head[3] if v == head[0] - 1 and head[3] else head[1]
                if v >= head[0]:
                    raise Bad(f"block {v} of {head[0]}")
                out += basis[off:off + ln] if basis is not None else b"?" * ln
                blk += 1
        got = s.read(self.sumlen)
        if basis is not None and head[0] and not o["append"]:
            self.check_sums(req, head, basis)
        data = out[prefix:] if o["append"] == 1 else out
        want = file_sum(self.csum, data, self.seed, True)
        ok = want == got if want is not None else None
        self.stats["xfers"] += 1
        self.stats["blocks"] += blk
        self.stats["verified" if ok else "unverified"] += 1
        log(f"    literal {lit} bytes, {blk} blocks, file sum {got.hex()} {'OK' if ok else 'UNVERIFIED' if ok is None else 'MISMATCH'}")
        if ok is False and self.meta.get("case") in ("redo", "redo-inc", "choice-order-trap"):
            self.stats["expected_mismatch"] = self.stats.get("expected_mismatch", 0) + 1
        elif ok is False and (basis is not None or not head[0]):
            raise Bad(f"whole-file checksum mismatch on {e.name!r}: want {want.hex()} got {got.hex()}")
        self.check_content(e, out)
        if len(out) != e.size:
            raise Bad(f"{e.name!r}: {len(out)} bytes reconstructed, list says {e.size}: wrong index mapping?")

    def basis_path(self, e):
        src = self.meta["module_args"][0].split("/", 1)
        sub = src[1] if len(src) > 1 else ""
        return os.path.join(self.basis_root.encode(), sub.encode(), e.name) if self.basis_root else None

    def check_content(self, e, out):
        """the reconstructed bytes must be those of the file the sorted index names"""
        root = (self.new_root or self.basis_root + ("2" if self.meta["module_args"][0].startswith("changed") else "")).encode()
        seen = 0
        for a in self.meta["module_args"]:
            sub = a.split("/", 1)[1] if "/" in a else ""
            for base in (sub, os.path.dirname(sub), "", "metadata"):
                f = os.path.join(root, base.encode(), e.name)
                if os.path.isfile(f):
                    seen = 1
                    if open(f, "rb").read() == out:
                        self.stats["content"] = self.stats.get("content", 0) + 1
                        return
        if seen:
            raise Bad(f"content of {e.name!r} is another file's: the index mapping is wrong")
        self.stats["no_tree_file"] = self.stats.get("no_tree_file", 0) + 1

    def check_sums(self, req, head, basis):
        for i, (s1, s2) in enumerate(req["sums"]):
            b = basis[i * head[1]:(i + 1) * head[1]]
            if rolling(b) != s1 & 0xFFFFFFFF:
                raise Bad(f"rolling sum of block {i}: want {rolling(b):#x} got {s1 & 0xFFFFFFFF:#x}")
            w = block_sum(self.csum, b, self.seed, self.seedfix)
            if isinstance(w, tuple):
                names = ("seed first", "seed last")
                hit = [names[k] for k in range(2) if w[k][:head[2]] == s2]
                if not hit:
                    raise Bad("md4 block sum mismatch")
                self.stats["md4_order"] = hit[0]
            elif w is not None and w[:head[2]] != s2:
                raise Bad(f"strong sum of block {i} mismatch")
            self.stats["sumchecked"] += 1

    # ---- tokens
    def tok_plain(self, head, basis):
        while True:
            t = self.s.int()
            if t == 0:
                return
            if t > 0:
                yield "lit", self.s.read(t)
            else:
                yield "blk", -(t + 1)

    def tok_flags(self, inflate, flush, see):
        """shared run-length framing"""
        s, tok, pending, closed = self.s, 0, False, True
        while True:
            fl = s.byte()
            if fl & 0xC0 == 0x40:
                n = (fl & 0x3F) << 8 | s.byte()
                d = inflate(s.read(n))
                pending = True
                if d:
                    yield "lit", d
                continue
            if pending:
                d = flush()
                if d:
                    yield "lit", d
                pending = False
            if fl == 0:
                return
            run = 0
            if fl & 0x80:
                tok += fl & 0x3F
                if fl & 0x40:
                    run = s.short()
            elif fl in (0x20, 0x21):
                tok = s.int()
                if fl & 1:
                    run = s.short()
            else:
                raise Bad(f"token flag {fl:#x}")
            yield "blk", tok
            see(tok)
            for _ in range(run):
                tok += 1
                yield "blk", tok
                see(tok)

    def tok_deflate(self, head, basis):
        z = zlib.decompressobj(-15)
        def see(t):
            if self.comp != "zlib":
                return
            ln = head[3] if t == head[0] - 1 and head[3] else head[1]
            b = basis[t * head[1]:t * head[1] + ln]
            pos = 0
            while pos < len(b):
                k = min(0xFFFF, len(b) - pos)
                d = b[pos:pos + k] if self.p >= 31 else b[:k]
                z.decompress(struct.pack("<BHH", 0, k, k ^ 0xFFFF) + d)
                pos += k
        return self.tok_flags(lambda b: z.decompress(b), lambda: z.decompress(b"\0\0\xff\xff"), see)

    def tok_lz4(self, head, basis):
        return self.tok_flags(lambda b: lz4.block.decompress(b, uncompressed_size=70000), lambda: b"", lambda t: None)

    def tok_zstd(self, head, basis):
        if not hasattr(self, "zd"):
            self.zd = zstandard.ZstdDecompressor().decompressobj()      # ONE frame for the whole session
        return self.tok_flags(lambda b: self.zd.decompress(b), lambda: b"", lambda t: None)

    # ---- client requests
    def client_next(self):
        c, p, log, o = self.c, self.p, self.log, self.o
        while True:
            n = c.ndx(p)
            if n == NDX_DEL_STATS:
                log(f"C NDX_DEL_STATS {[c.varint() for _ in range(5)]}")
                continue
            break
        if n == NDX_DONE:
            log("C NDX_DONE")
            return {"n": n}
        fl, t, x = self.attrs(c)
        r = dict(n=n, fl=fl, head=None, sums=[])
        log(f"C request ndx {n} iflags {fl:#06x}{'' if t is None else f' basis_type={t:#x}'}{'' if x is None else f' xname={x!r}'}")
        if fl & TRANSFER and "n" not in o["flags"]:
            r["head"] = [c.int() for _ in range(4)]
            if not o["append"]:
                for _ in range(r["head"][0]):
                    s1 = c.int()
                    r["sums"].append((s1, c.read(r["head"][2])))
            log(f"    sum head {r['head']}")
        return r

    def client_until(self, n):
        while True:
            try:
                r = self.client_next()
            except End as e:
                raise Bad(f"reply for {n} without a request: {e}")
            self.requests.append(r)
            if r["n"] == n:
                return r

    def check_client_to_end(self):
        c = self.c
        while True:
            try:
                self.requests.append(self.client_next())
            except End as e:
                if (c.left or c.p != len(c.d)) :
                    raise Bad(f"client stream: {e}")
                break
        n = sum(r["n"] == NDX_DONE for r in self.requests)
        self.log(f"client sent {n} NDX_DONE")
        self.stats["client_done"] = n


def main():
    args, quiet = sys.argv[1:], False
    w = os.environ.get("RSYNC_WORK", "rsync-work")
    basis, new, dirs = w + "/tree", None, []
    while args:
        a = args.pop(0)
        if a == "-q": quiet = True
        elif a == "-b": basis = args.pop(0)
        elif a == "-n": new = args.pop(0)
        else: dirs.append(a)
    fails = 0
    for d in dirs:
        log = (lambda *_: None) if quiet else print
        if not quiet:
            print(f"==== {d}")
        ses = Session(d, log, basis, new)
        try:
            res = "ok: " + ses.run()
        except (Bad, End, struct.error, KeyError, IndexError, AssertionError, zlib.error) as e:
            res, fails = f"FAIL: {type(e).__name__} {e}", fails + 1
        print(f"{os.path.basename(d.rstrip('/')):28s} {res} {ses.stats}")
    sys.exit(1 if fails else 0)


main()
