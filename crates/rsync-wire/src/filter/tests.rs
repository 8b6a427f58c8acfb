use super::*;
use proptest::prelude::*;

fn glob(pattern: &str, text: &str) -> bool {
    Glob::new(pattern.as_bytes()).matches(text.as_bytes(), &mut MatchBudget::default()).unwrap()
}

#[test]
fn wildcards() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("*", "abc", true),
        ("*", "a/c", false),
        ("**", "a/b/c", true),
        ("a*c", "abbc", true),
        ("a*c", "ab/c", false),
        ("a**c", "ab/c", true),
        ("a?c", "abc", true),
        ("a?c", "a/c", false),
        ("*.ebuild", "foo-1.ebuild", true),
        ("*a*b", "xxaxxaxxb", true),
        ("**/x*y/z", "/a/xq/z/xqy/z", true),
        ("a*b**c*d", "axxbyy/zcqqd", true),
        ("a*b**c*d", "ax/xbyy/zcqqd", false),
        ("a[bc]d", "acd", true),
        ("a[!bc]d", "acd", false),
        ("a[^bc]d", "axd", true),
        ("a[!b]d", "a/d", false),
        ("a[]]d", "a]d", true),
        ("a[a-]d", "a-d", true),
        ("a[a-f]d", "aed", true),
        ("a[\\]]d", "a]d", true),
        ("a[[:digit:]x]d", "a7d", true),
        ("a[[:digit:]x]d", "axd", true),
        ("a[[:digit:]x]d", "ayd", false),
        ("a[b", "ab", false),
        ("a\\*b", "a*b", true),
        ("a\\*b", "axb", false),
    ] {
        assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
    }
}

fn list(rules: &[&str]) -> FilterList {
    let mut list = FilterList::default();
    for rule in rules {
        list.push(rule.as_bytes()).unwrap();
    }
    list
}

fn hides(rules: &[&str], root: &str, name: &str) -> bool {
    let (name, is_directory) = name.strip_suffix('/').map_or((name, false), |name| (name, true));
    let subject = Subject { name: name.as_bytes(), root: root.as_bytes(), is_directory };
    list(rules).hides(subject, &LocalRules::default(), &mut MatchBudget::default()).unwrap()
}

/// Rules, the transfer root, a name (a directory if it ends in a slash), whether it is hidden.
const TABLE: &[(&[&str], &str, &str, bool)] = &[
    (&["- /distfiles"], "", "distfiles/", true),
    (&["- /distfiles"], "", "a/distfiles/", false),
    (&["- foo"], "", "a/foo", true),
    (&["- foo"], "", "a/foobar", false),
    (&["- foo/"], "", "foo", false),
    (&["- foo/"], "", "foo/", true),
    (&["- misc/foo"], "", "app-misc/foo/", false),
    (&["- app-misc/foo"], "", "x/app-misc/foo/", true),
    (&["- *.ebuild"], "", "a/b/c.ebuild", true),
    (&["- /*.txt"], "", "a/b.txt", false),
    (&["- a*/f*"], "", "x/app/foo", true),
    (&["- */foo"], "", "foo", false),
    (&["- **/foo"], "", "foo", true),
    (&["- **/foo"], "", "x/y/foo", true),
    (&["- foo/**"], "", "foo/", false),
    (&["- foo/**"], "", "a/foo/b", true),
    (&["- foo/***"], "", "foo/", true),
    (&["- foo/***"], "", "foo/b/c", true),
    (&["- foo/***"], "", "foo", false),
    (&["- /*/*/inner"], "", "a/b/inner", true),
    (&["- /*/*/inner"], "", "x/a/b/inner", false),
    (&["- */*/inner"], "", "x/a/b/inner", true),
    (&["- he\\ader.txt"], "", "header.txt", false),
    (&["- he\\ad*.txt"], "", "header.txt", true),
    (&["-/ /sort/a"], "sort", "a", true),
    (&["- /sort/a"], "sort", "a", false),
    (&["-! *.ebuild"], "", "a.txt", true),
    (&["-! *.ebuild"], "", "a.ebuild", false),
    (&["-! */"], "", "file", true),
    (&["-! */"], "", "directory/", false),
    (&["+ */", "+ *.ebuild", "- *"], "", "a/", false),
    (&["+ */", "+ *.ebuild", "- *"], "", "a/b.ebuild", false),
    (&["+ */", "+ *.ebuild", "- *"], "", "a/Manifest", true),
    (&["-s *.bin"], "", "x.bin", true),
    (&["H *.bin"], "", "x.bin", true),
    (&["-r *.bin"], "", "x.bin", false),
    (&["P *.bin"], "", "x.bin", false),
    (&["-p per"], "", "per", true),
    (&["-x name"], "", "name", false),
    (&["- x", "!", "- y"], "", "x", false),
    (&["-_x y"], "", "x y", true),
    (&["exclude,! *.a"], "", "x.b", true),
    (&["- name with space.txt"], "", "app/name with space.txt", true),
];

#[test]
fn rules_hide_what_the_notes_say() {
    for &(rules, root, name, expected) in TABLE {
        assert_eq!(hides(rules, root, name), expected, "{rules:?} {root} {name}");
    }
}

#[test]
fn bad_and_refused_rules() {
    let push = |rule: &[u8]| FilterList::default().push(rule).unwrap_err();
    assert!(matches!(push(b"? x"), WireError::Malformed(_)));
    assert!(matches!(push(b"-k x"), WireError::Malformed(_)));
    assert!(matches!(push(b"- "), WireError::Malformed(_)));
    assert!(matches!(push(b""), WireError::Malformed(_)));
    for rule in [&b": sub/.rsync-filter"[..], b". /etc/passwd", b"-C x"] {
        let refusal = push(rule).refusal();
        assert_eq!(refusal.code().number(), 4, "{}", refusal.text());
    }
    assert!(matches!(push(&[b'-'; 1024]), WireError::Limit { .. }));
    assert!(matches!(push(format!("- {}", "*a".repeat(65)).as_bytes()), WireError::Limit { .. }));
    let mut list = FilterList::default();
    let full = (0..=RULES_MAX).find_map(|_| list.push(b"- a").err());
    assert!(matches!(full, Some(WireError::Limit { .. })));
}

#[test]
fn hostile_patterns_run_out_of_steps() {
    let rule = format!("- {}c", "*a".repeat(60));
    let name = "a".repeat(4000);
    let subject = Subject { name: name.as_bytes(), root: b"", is_directory: false };
    // One name is quadratic at worst, not exponential.
    let mut budget = MatchBudget::of(16_000_000);
    assert_eq!(list(&[&rule]).hides(subject, &LocalRules::default(), &mut budget), Ok(false));
    let mut budget = MatchBudget::of(1000);
    assert!(list(&[&rule]).hides(subject, &LocalRules::default(), &mut budget).is_err());
}

/// Tries everything: exponential, but plainly right.
fn naive(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', b'*', rest @ ..], _) => (0..=text.len()).any(|n| naive(rest, &text[n..])),
        ([b'*', rest @ ..], _) => {
            let run = text.iter().take_while(|&&o| o != b'/').count();
            (0..=run).any(|n| naive(rest, &text[n..]))
        }
        ([b'?', rest @ ..], [o, text @ ..]) => *o != b'/' && naive(rest, text),
        ([p, rest @ ..], [o, text @ ..]) => p == o && naive(rest, text),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn globs_agree_with_trying_everything(pattern in "[ab/?*]{0,9}", text in "[ab/]{0,12}") {
        // Three stars are two for us; the naive matcher reads them as two and one, which is the same.
        prop_assert_eq!(glob(&pattern, &text), naive(pattern.as_bytes(), text.as_bytes()), "{} {}", pattern, text);
    }
}

/// Which names of a tree are hidden, asking as a walk does.
fn hidden(rules: &[&str], files: &[(&str, &str)], root: &str) -> Vec<String> {
    let mut tree = crate::memory::MemoryTree::new(0);
    for (path, contents) in files {
        tree.file(path, contents.as_bytes(), 0o644, (0, 0));
    }
    let (list, mut budget, mut hidden) = (list(rules), MatchBudget::default(), Vec::new());
    for (path, _) in files.iter().filter(|(path, _)| path.starts_with(root)) {
        let name = path[root.len()..].trim_start_matches('/');
        let mut local = LocalRules::default();
        local.start(&list, &tree, root.as_bytes(), false).unwrap();
        let directories = name.match_indices('/').map(|(at, _)| &name[..at]);
        for directory in std::iter::once("").chain(directories) {
            local.enter(&list, &tree, &crate::options::join(root.as_bytes(), directory.as_bytes())).unwrap();
        }
        let subject = Subject { name: name.as_bytes(), root: root.as_bytes(), is_directory: false };
        if list.hides(subject, &local, &mut budget).unwrap() {
            hidden.push((*path).to_owned());
        }
    }
    hidden
}

#[test]
fn directories_bring_rules_along() {
    let files = [
        (".r", "- /top\n- *.o\n"),
        ("top", ""),
        ("a/.r", "+ keep.o\n"),
        ("a/top", ""),
        ("a/keep.o", ""),
        ("a/x.o", ""),
        ("b/.r", "!\n- /top\n"),
        ("b/top", ""),
        ("b/x.o", ""),
        ("b/c/top", ""),
    ];
    assert_eq!(hidden(&[": .r"], &files, ""), ["top", "a/x.o", "b/top"]);
    assert_eq!(hidden(&[":e .r"], &files, ""), [".r", "top", "a/.r", "a/x.o", "b/.r", "b/top"]);
    // Without inheritance only a directory's own rules count.
    assert_eq!(hidden(&[":n .r"], &files, ""), ["top", "b/top"]);
    // A rule before it wins, one after it is asked when it says nothing.
    assert_eq!(hidden(&["+ *.o", ": .r", "- keep*"], &files, ""), ["top", "b/top"]);
    // What is above the transfer root only counts with a slash.
    assert_eq!(hidden(&[": .r"], &files, "a"), Vec::<String>::new());
    assert_eq!(hidden(&[": /.r"], &files, "a"), ["a/x.o"]);
    assert_eq!(hidden(&[":- .r"], &[(".r", "x\n# y\n"), ("x", ""), ("y", "")], ""), ["x"]);
    assert_eq!(hidden(&[":C"], &[(".cvsignore", "x y\nz"), ("z", ""), ("d/z", "")], ""), ["z"]);
}

#[test]
fn bad_lines_of_a_directorys_rules_are_named() {
    let mut tree = crate::memory::MemoryTree::new(0);
    tree.file("a/.r", b"- fine\n\nx not a rule\n", 0o644, (0, 0));
    tree.file("b/.r", b". /etc/passwd\n", 0o644, (0, 0));
    tree.file("c/.r", &vec![b' '; crate::limits::MERGE_FILE_LEN_MAX + 1], 0o644, (0, 0));
    tree.symlink("d/.r", "/etc/passwd", 0);
    let list = list(&[": .r"]);
    let enter = |path: &str| LocalRules::default().enter(&list, &tree, path.as_bytes());
    let refusal = enter("a").unwrap_err().refusal();
    assert_eq!(refusal.text(), "Unknown filter rule: <rule from /a/.r line 3>");
    assert_eq!(refusal.code().number(), 1);
    assert!(enter("b").is_err() && matches!(enter("c"), Err(WireError::Limit { .. })));
    assert_eq!(enter("d"), Ok(()), "a link is not followed");
}

/// What clients send for `--filter=-C` has a space behind.
#[test]
fn cvs_patterns_come_with_and_without_a_space() {
    for rule in ["-C", "-C "] {
        assert!(hides(&[rule], "", "core") && hides(&[rule], "", "a.o") && !hides(&[rule], "", "a.c"));
    }
    assert!(FilterList::default().push(b"-C x").is_err());
}

#[test]
fn a_file_that_says_whom_its_rules_are_for_has_none_that_say_it_again() {
    use super::rule::{Inherited, SIDES_TWICE, Sides, parse};
    let inherited = Inherited { sides: Sides { sender: true, receiver: false }, from_module: false };
    for rule in ["-s x", "-r x", "H x", "P x"] {
        assert_eq!(parse(rule.as_bytes(), inherited), Err(SIDES_TWICE), "{rule}");
    }
    assert!(matches!(parse(b"- x", inherited), Ok(Parsed::Rule(_))));
}
