//! What is served, and what the client has before.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::super::bench::write_tree;

/// The bench's tree, with links of every kind and rules in files.
pub(super) fn source(root: &Path) {
    write_tree(root);
    // Its three hundred small files say nothing here that the others don't.
    fs::remove_dir_all(root.join("many")).unwrap();
    let files = [
        ("links/tame/inner.txt", "inside\n"),
        ("links/file.txt", "a file\n"),
        ("filtered/.rules", "# a comment\n- *.o\n+ keep.tmp\n- *.tmp\n- /anchored\n"),
        ("filtered/.plain", "*.o\n\n*.ebuild\n"),
        ("filtered/.words", "*.o   *.tmp\n\tanchored\n"),
        ("filtered/.rsync-filter", "- *.o\n"),
        ("filtered/.cvsignore", "mine *.x\n"),
        ("filtered/deep/.rules", "+ special.o\n- x\n"),
        ("filtered/deep/.broken", "- fine\n? not a rule\n"),
        ("filtered/deep/x", "x\n"),
        ("filtered/deep/y.o", "y\n"),
        ("filtered/deep/special.o", "special\n"),
        ("filtered/deep/anchored", "not at the top\n"),
        ("filtered/anchored", "at the top\n"),
        ("filtered/a.o", "o\n"),
        ("filtered/keep.tmp", "kept\n"),
        ("filtered/drop.tmp", "dropped\n"),
        ("filtered/a.ebuild", "EAPI=8\n"),
        ("filtered/mine", "mine\n"),
        ("filtered/deep/mine", "mine\n"),
        ("filtered/core", "core\n"),
        ("filtered/backup~", "backup\n"),
        ("filtered/CVS/Entries", "D\n"),
        ("filtered/.git/HEAD", "ref\n"),
        ("filtered/.svn/entries", "12\n"),
    ];
    for (path, contents) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    for (link, target) in [
        ("links/to-file", "file.txt"),
        ("links/to-directory", "tame"),
        ("links/to-nothing", "nothing"),
        ("links/up", "../header.txt"),
        ("links/to-link", "to-file"),
        ("links/tame/out", "../../sort/z"),
        ("links/tame/sibling", "../file.txt"),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    hard_links(root);
    owners(root);
    set_times(root);
}

/// Names of one file, in one directory and in several; so far up and down that filters hide the first one or the last.
fn hard_links(root: &Path) {
    fs::write(root.join("links/hard"), "one file\n").unwrap();
    fs::create_dir_all(root.join("zeta/deep")).unwrap();
    fs::write(root.join("zeta/deep/hard"), "another one\n").unwrap();
    for (file, name) in [
        ("links/hard", "links/tame/hard"),
        ("links/hard", "links/tame/hardest"),
        ("links/hard", "linked"),
        ("links/to-file", "links/to-file-too"),
        ("zeta/deep/hard", "zeta/hard"),
        ("zeta/deep/hard", "app-misc/hard"),
    ] {
        fs::hard_link(root.join(file), root.join(name)).unwrap();
    }
}

/// Owners that the host has no names for, and some that every host has; users and groups that differ.
fn owners(root: &Path) {
    fs::write(root.join("owned"), "somebody's\n").unwrap();
    fs::write(root.join("known"), "a daemon's\n").unwrap();
    if !is_root() {
        return;
    }
    for (path, uid, gid) in [
        ("owned", 12_345, 12_346),
        ("known", 1, 2),
        ("header.txt", 0, 2),
        ("links/hard", 1, 12_346),
        ("links/up", 2, 1),
        ("zeta", 12_345, 0),
        ("zeta/deep", 4_294_967_294, 4_294_967_294),
    ] {
        lchown(root.join(path), Some(uid), Some(gid)).unwrap();
    }
}

/// Only root may give files away.
pub(super) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Whole seconds, which every protocol carries; the generation and the source must agree to the last file.
fn set_times(root: &Path) {
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            set_times(&entry.path());
        } else if kind.is_symlink() {
            link_time(&entry.path(), 1_700_000_000);
        }
        if !kind.is_symlink() {
            set_time(&entry.path(), 1_700_000_000 + entry.file_name().len() as u64);
        }
    }
    set_time(root, 1_700_000_000);
}

fn set_time(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// The standard library can't set a link's own time.
fn link_time(path: &Path, seconds: u64) {
    let touched = std::process::Command::new("touch")
        .args(["--no-dereference", &format!("--date=@{seconds}")])
        .arg(path)
        .status()
        .unwrap();
    assert!(touched.success());
}

/// Lists of names and rules, where the client runs.
pub(super) fn lists(at: &Path) {
    let names = ["app-misc/foo", "./metadata/timestamp.chk", "sort/a/", "header.txt", "links/to-file"];
    fs::write(at.join("list"), names.join("\n")).unwrap();
    fs::write(at.join("list0"), names.join("\0")).unwrap();
    let linked = ["zeta/hard", "links/tame/hardest", "app-misc/./hard", "links/to-file-too", "linked"];
    fs::write(at.join("linked"), linked.join("\n")).unwrap();
    fs::write(at.join("rules"), "- *.ebuild\n+ foo\n").unwrap();
    let other = at.join("other");
    fs::create_dir_all(other.join("sort")).unwrap();
    fs::write(other.join("sort/z"), "7777777").unwrap();
    set_time(&other.join("sort/z"), 1_700_000_001);
}

/// An older, partly wrong copy.
pub(super) fn destination(root: &Path, source: &Path) {
    drop(fs::remove_dir_all(root));
    for directory in ["big", "sort/a", "stray-dir", "app-misc/foo"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let text = fs::read(source.join("big/text")).unwrap();
    let mut edited = text.clone();
    edited.splice(30_000..30_000, *b"INSERTED");
    fs::write(root.join("big/text"), edited).unwrap();
    let noise = fs::read(source.join("big/noise")).unwrap();
    fs::write(root.join("big/noise"), &noise[..150_001]).unwrap();
    for (path, contents) in [
        ("header.txt", "jello\n"),
        ("stray", "not upstream\n"),
        ("stray-dir/x", "nor this\n"),
        ("sort/z", "7777777"),
        ("sort/a0", "4444"),
        ("empty", "not empty\n"),
        ("link", "not a link\n"),
    ] {
        fs::write(root.join(path), contents).unwrap();
        set_time(&root.join(path), 1_600_000_000);
    }
    set_time(
        &root.join("sort/a0"),
        fs::metadata(source.join("sort/a0"))
            .unwrap()
            .modified()
            .unwrap()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs(),
    );
    fs::set_permissions(root.join("sort/a0"), fs::Permissions::from_mode(0o600)).unwrap();
    for directory in
        ["big", "sort/a", "sort", "stray-dir", "app-misc/foo", "app-misc", "big/text", "big/noise", ""]
    {
        set_time(&root.join(directory), 1_650_000_000);
    }
}
