//! The tree that the recorded daemon served.

use rsync_wire::memory::MemoryTree;

const T0: i64 = 1_700_000_000;

fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut x = seed;
    let mut out = Vec::new();
    while out.len() < len {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.extend_from_slice(&x.to_le_bytes()[1..4]);
    }
    out.truncate(len);
    out
}

fn words(len: usize) -> Vec<u8> {
    const WORDS: [&[u8]; 8] =
        [b"gentoo ", b"portage ", b"ebuild ", b"manifest ", b"rsync ", b"mirror ", b"stable ", b"\n"];
    let mut x: u64 = 42;
    let mut out = Vec::new();
    while out.len() < len {
        x = (1_103_515_245 * x + 12_345) & 0x7FFF_FFFF;
        out.extend_from_slice(WORDS[usize::try_from(x >> 16 & 7).unwrap()]);
    }
    out.truncate(len);
    out
}

/// `changed` edits one file, as the module of that name does.
pub fn fixed(changed: bool) -> MemoryTree {
    let mut tree = MemoryTree::new(T0);
    let mut file = |path: &str, contents: &[u8], mode, offset: i64, ns| {
        tree.file(path, contents, mode, (T0 + offset, ns));
    };
    let timestamp = b"Tue, 14 Nov 2023 22:13:20 +0000\n";
    file("header.txt", b"hello\n", 0o644, 1, 0);
    file("empty", b"", 0o644, 2, 0);
    file("metadata/timestamp", timestamp, 0o644, 3, 0);
    file("metadata/timestamp.chk", timestamp, 0o644, 3, 0);
    file("metadata/timestamp.x", b"1700000000 Tue 14 Nov 2023\n", 0o644, 3, 123_456_789);
    file("metadata/md5-cache/app-misc/foo-1.0", b"DEFINED_PHASES=install\n", 0o644, 4, 0);
    file("metadata/md5-cache/app-misc/foo-1.0-r1", b"DEFINED_PHASES=install\nEAPI=8\n", 0o644, 4, 0);
    file("app-misc/foo/foo-1.0.ebuild", b"EAPI=8\nSLOT=0\n", 0o644, 5, 0);
    file("app-misc/foo/foo-1.0-r1.ebuild", b"EAPI=8\nSLOT=0\nKEYWORDS=\"amd64\"\n", 0o644, 5, 500_000_000);
    file("app-misc/foo/Manifest", b"DIST foo-1.0.tar.gz 1 SHA512 00\n", 0o644, 6, 0);
    file("app-misc/foo/metadata.xml", b"<pkgmetadata/>\n", 0o644, 6, 0);
    file("app-misc/foo+bar/foo+bar-2.ebuild", b"EAPI=8\n", 0o600, 7, 0);
    file("app-misc/name with space.txt", b"spaces\n", 0o644, 8, 0);
    file("app-misc/\u{fc}ml\u{e4}ut-\u{65e5}\u{672c}.txt", b"utf8\n", 0o644, 9, 0);
    let mut big = words(100 * 1024);
    if changed {
        big[70_000..70_005].copy_from_slice(b"XXXXX");
        big.splice(30_000..30_000, *b"INSERTED-11");
    }
    file("big/big.dat", &big, 0o644, if changed { 1010 } else { 10 }, 0);
    file("big/random.bin", &noise(7, 40_000), 0o755, 11, 0);
    let long = "long-shared-prefix-".repeat(8);
    file(&format!("big/{long}a"), b"a\n", 0o644, 12, 0);
    file(&format!("big/{long}b"), b"b\n", 0o644, 12, 0);
    file("distfiles/foo-1.0.tar.gz", b"not really a tarball\n", 0o644, 13, 0);
    file("local/private.txt", b"local\n", 0o644, 14, 0);
    file("packages/p.tbz2", b"pkg\n", 0o644, 15, 0);
    file(".git/HEAD", b"ref: refs/heads/master\n", 0o644, 16, 0);
    file("sort/a/inner", b"1\n", 0o644, 18, 0);
    file("sort/a-b", b"2\n", 0o644, 18, 0);
    file("sort/a.b", b"3\n", 0o644, 18, 0);
    file("sort/a0", b"4\n", 0o644, 18, 0);
    file("sort/b/inner", b"5\n", 0o644, 18, 0);
    file("sort/b.d/inner", b"6\n", 0o644, 18, 0);
    file("sort/z", b"7\n", 0o644, 18, 0);
    file("sort/\u{e9}", b"8\n", 0o644, 18, 0);
    file("sort/old1960", b"9\n", 0o644, -315_619_200 - T0, 0);
    tree.directory("emptydir", 0o755, T0);
    tree.directory("sort/c", 0o700, T0);
    tree.symlink("link-to-header", "header.txt", T0);
    tree.symlink("app-misc/foo/link-up", "../../header.txt", T0);
    tree.symlink("app-misc/unsafe-link", "../../../../etc/passwd", T0);
    tree.name_user(0, "root");
    tree.name_group(0, "root");
    tree
}
