use super::ArgumentFraming::{Lines, Nul as NUL};
use super::*;

fn read(list: &[&str]) -> Arguments {
    let list: Vec<Vec<u8>> = list.iter().map(|a| a.as_bytes().to_vec()).collect();
    let mut arguments = Arguments::default();
    arguments.read(&list, false);
    arguments.finish();
    arguments
}

#[test]
fn what_portage_sends() {
    let list = [
        "--server",
        "--sender",
        "-vlWtprze.iLsfxCIvu",
        "--timeout=180",
        "--safe-links",
        ".",
        "gentoo-portage/",
    ];
    let arguments = read(&list);
    assert_eq!(arguments.refusal, None);
    assert_eq!(arguments.paths, [b"gentoo-portage/"]);
    let options = arguments.options;
    assert!(options.sender && options.recurse && options.links && options.compress);
    assert!(!options.owner && !options.checksum && !options.relative && !options.secluded);
    assert_eq!(options.timeout_s, 180);
    assert!(options.capabilities.has(b'v') && !options.capabilities.has(b'z'));
}

#[test]
fn refusals_name_the_option_and_keep_the_rest() {
    for (option, name, code) in [
        ("-lXe.LsfxCIvu", "--xattrs", 4),
        ("-lU", "--atimes", 4),
        ("-l?", "-?", 4),
        ("--iconv=utf8", "--iconv", 4),
        ("--frobnicate=1", "--frobnicate", 4),
        ("--files-from=/etc/passwd", "--files-from", 4),
        ("--checksum-choice=crc32", "--checksum-choice", 4),
        ("--compress-level=x", "--compress-level", 4),
        ("--remove-source-files", "--remove-source-files", 1),
    ] {
        let arguments = read(&["--server", "--sender", option, "-re.v", ".", "m/"]);
        let refusal = arguments.refusal.expect(option);
        assert!(refusal.text().contains(name), "{option}: {}", refusal.text());
        assert_eq!(refusal.code().number(), code, "{option}");
        assert!(arguments.options.capabilities.has(b'v'));
        assert_eq!(arguments.paths, [b"m/"]);
        // The client sends no names for what it chose.
        assert_eq!(arguments.options.checksum_choice.is_some(), option.starts_with("--checksum-choice"));
    }
}

#[test]
fn a_push_is_refused_as_such() {
    let refusal = read(&["--server", "-ltpre.iLsfxCIvu", "--frobnicate", ".", "m/up/"]).refusal.unwrap();
    assert_eq!((refusal.code().number(), refusal.text()), (1, "ERROR: module is read only"));
}

#[test]
fn choices_values_and_escapes() {
    let arguments = read(&[
        "--server",
        "--sender",
        "-re.v",
        "--checksum-choice=XXH3,md5",
        "--new-compress",
        "--compress-level=9",
        "--checksum-seed=-12345",
        "--suffix=\\*x",
        "--backup-dir",
        "elsewhere",
        "--bwlimit=100",
        "-B700",
        ".",
        "m/a b",
        "m/c",
    ]);
    assert_eq!(arguments.refusal, None);
    let options = arguments.options;
    let choice = ChecksumChoice { transfer: ChecksumKind::Xxh3, list: ChecksumKind::Md5 };
    assert_eq!(options.checksum_choice, Some(choice));
    assert_eq!(options.compress_choice, Some(CompressorKind::Zlibx));
    assert_eq!((options.compress_level, options.checksum_seed), (Some(9), Some(-12345)));
    assert_eq!(arguments.paths, [&b"m/a b"[..], b"m/c"]);
    assert_eq!(unescape(b"a\\*\\\\b\\"), b"a*\\b\\");
}

#[test]
fn secluded_arguments_count_even_if_they_were_said_before() {
    let list = |arguments: &[&str]| arguments.iter().map(|a| a.as_bytes().to_vec()).collect::<Vec<_>>();
    for first in
        [&["--server", "--sender", "-sltpr"][..], &["--server", "--sender", "-sltpr", "(null)", ".", "m/"]]
    {
        let mut arguments = Arguments::default();
        arguments.read(&list(first), false);
        arguments.read(&list(&["rsync", "--numeric-ids", ".", "m/a\\b"]), true);
        arguments.finish();
        assert_eq!(arguments.refusal, None);
        assert!(arguments.options.numeric_ids && arguments.options.recurse);
        assert_eq!(arguments.paths, [b"m/a\\b"]);
    }
}

#[test]
fn lists_are_bounded() {
    let mut list = ArgumentList::default();
    assert_eq!(list.take(b"ab", NUL), Err(WireError::Short));
    assert_eq!(list.take(b"ab\0cd\0\0", NUL), Ok((3, None)));
    assert_eq!(list.take(b"\0", NUL), Ok((1, Some(vec![b"ab".to_vec()]))));
    assert!(matches!(list.take(&[b'a'; 5000], NUL), Err(WireError::Limit { .. })));
    let mut list = ArgumentList::default();
    assert_eq!(list.take(b"ab\0c\rd\n\n", Lines), Ok((5, None)));
    assert_eq!(list.take(b"\n", Lines), Ok((1, Some(vec![b"ab\0c".to_vec()]))));
    assert_eq!(ArgumentFraming::of(Protocol::OLDEST, true), NUL);
    let mut list = ArgumentList::default();
    let many = (0..=ARGUMENTS_MAX).map(|_| list.take(b"a\0", NUL)).find(Result::is_err);
    assert!(matches!(many, Some(Err(WireError::Limit { .. }))));
}

fn plain(path: &str) -> (String, String, bool) {
    let source = parse_path("m", path.as_bytes(), false).unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    (text(source.root), text(source.name), source.contents)
}

#[test]
fn plain_paths() {
    let of = |root: &str, name: &str, contents| (root.to_owned(), name.to_owned(), contents);
    assert_eq!(plain("m"), of("", "", true));
    assert_eq!(plain("m/"), of("", "", true));
    assert_eq!(plain("m/sort/"), of("sort", "", true));
    assert_eq!(plain("m/sort"), of("", "sort", false));
    assert_eq!(plain("m/metadata/timestamp.chk"), of("metadata", "timestamp.chk", false));
    assert_eq!(plain("m/a/b/.."), of("a", "", true));
    assert_eq!(plain("m/../../etc/passwd"), of("etc", "passwd", false));
    assert_eq!(plain("m//a/./b//"), of("a/b", "", true));
}

#[test]
fn relative_paths() {
    let parse = |path: &str| parse_path("m", path.as_bytes(), true);
    let source = parse("m/a/b/c").unwrap();
    assert_eq!((&source.root[..], &source.name[..], source.implied_dot), (&b""[..], &b"a/b/c"[..], false));
    let source = parse("m/./metadata/md5-cache").unwrap();
    assert_eq!(
        (&source.root[..], &source.name[..], source.implied_dot),
        (&b""[..], &b"metadata/md5-cache"[..], true)
    );
    let source = parse("m/x/y/./a/").unwrap();
    assert_eq!((&source.root[..], &source.name[..], source.contents), (&b"x/y"[..], &b"a"[..], true));
    assert!(parse("m/a/../b").is_err());
    let base = parse_path("m", b"m/base/", false).unwrap();
    let source = parse_files_from_name(&base, b"/a/b", true).unwrap();
    assert_eq!((&source.root[..], &source.name[..]), (&b"base"[..], &b"a/b"[..]));
    let source = parse_files_from_name(&base, b"../../x", false).unwrap();
    assert_eq!((&source.root[..], &source.name[..]), (&b""[..], &b"x"[..]));
}
