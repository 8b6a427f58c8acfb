//! Whole files: what they mean, what is wrong with them, and that no input does harm.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use rsyncd_conf::{Fault, Found, Module, PARAMETERS, Parameter, RsyncdConf, Surroundings, Treatment};

/// Files and variables in memory.
#[derive(Default)]
struct Memory {
    files: BTreeMap<String, Found>,
    variables: BTreeMap<String, String>,
}

impl Memory {
    fn with(mut self, path: &str, text: &str) -> Self {
        if let Some((directory, name)) = path.rsplit_once('/') {
            let names =
                self.files.entry(directory.to_owned()).or_insert_with(|| Found::Directory(Vec::new()));
            if let Found::Directory(names) = names {
                // As a file system may list them: not sorted.
                names.insert(0, name.to_owned());
            }
        }
        self.files.insert(path.to_owned(), Found::File(text.into()));
        self
    }
}

impl Surroundings for Memory {
    fn read(&mut self, path: &str) -> Result<Found, String> {
        self.files.get(path).cloned().ok_or_else(|| "No such file or directory".to_owned())
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

fn parse(text: &str) -> Result<RsyncdConf, Vec<Fault>> {
    RsyncdConf::parse("/etc/rsyncd.conf", text.as_bytes(), &mut Memory::default())
}

fn faults(text: &str) -> String {
    let faults: Vec<_> = parse(text).unwrap_err().iter().map(ToString::to_string).collect();
    faults.join("\n")
}

/// A file of 2009 as it was published.
const ARTICLE: &str = include_str!("article.conf");

#[test]
fn the_file_of_2009_is_read_as_it_is() {
    let conf = parse(ARTICLE).unwrap();
    let [module] = conf.modules.as_slice() else { panic!("{conf:?}") };
    assert_eq!((module.name.as_str(), module.path.as_str()), ("niden-gentoo-portage", "/usr/portage"));
    assert_eq!(module.comment, "niden.net Gentoo Portage tree");
    assert_eq!(module.patterns, ["/distfiles", "/packages"]);
    assert_eq!((module.max_connections, module.list, module.place.line), (5, true, 16));
    let shown = |patterns: &[rsyncd_conf::hosts::HostPattern]| {
        patterns.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(shown(&module.hosts.allow), ["10.13.18.0/24"]);
    assert_eq!(shown(&module.hosts.deny), ["*"]);
    let notes: Vec<_> = conf.notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes.iter().any(|note| note.starts_with("/etc/rsyncd.conf:4: `use chroot`")), "{notes:?}");
}

#[test]
fn names_lines_and_values_follow_the_manual() {
    let conf = parse(
        "  max CONnections = 5\nMaxConnections = 4\n#comment = x \\\n[ My   Mod  ] junk\n  path = /a//b/./c/   \n\
         comment = hello \\\n   world = 1\n[seven]\npath=/x\ncomment = a\\\nb\nlist = FALSE\n[My Mod]\ntimeout = 600\n",
    )
    .unwrap();
    let [first, second] = conf.modules.as_slice() else { panic!("{conf:?}") };
    assert_eq!((first.name.as_str(), first.path.as_str()), ("My Mod", "/a/b/c"));
    assert_eq!(first.comment, "hello    world = 1");
    assert_eq!((first.timeout_s, first.max_connections), (600, 4));
    assert_eq!((second.comment.as_str(), second.list, second.timeout_s), ("ab", false, 0));
}

#[test]
fn of_dont_compress_one_word_counts() {
    for (value, is_set, notes) in
        [("*", true, 0), ("*.gz * *.xz", true, 0), ("*.gz", false, 1), ("** *.*", false, 1), ("", false, 0)]
    {
        let conf = parse(&format!("[m]\npath = /x\ndont compress = {value}\n")).unwrap();
        assert_eq!((conf.modules[0].dont_compress, conf.notes.len()), (is_set, notes), "{value}");
    }
}

#[test]
fn ids_are_numeric_where_a_chroot_would_have_no_names() {
    for (lines, numeric) in [
        ("", true),
        ("use chroot = yes", true),
        ("use chroot = no", false),
        ("use chroot = unset", true),
        ("numeric ids = no", false),
        ("numeric ids = no\nuse chroot = true", false),
        ("numeric ids = 1\nuse chroot = 0", true),
        ("numeric ids = unset\nuse chroot = no", false),
        ("numeric ids = -1", true),
    ] {
        let conf = parse(&format!("[m]\npath = /x\n{lines}\n")).unwrap();
        assert_eq!(conf.modules[0].numeric_ids, numeric, "{lines}");
    }
}

#[test]
fn defaults_are_those_of_the_place_where_a_module_begins() {
    let conf =
        parse("timeout = 1\n[a]\npath = /a\n[global]\ntimeout = 2\nlist = no\n[b]\npath = /b\n").unwrap();
    assert_eq!((conf.modules[0].timeout_s, conf.modules[0].list), (1, true));
    assert_eq!((conf.modules[1].timeout_s, conf.modules[1].list), (2, false));
}

#[test]
fn included_files_keep_to_themselves_and_merged_ones_do_not() {
    let mut memory = Memory::default()
        .with("/d/b.conf", "timeout = 9\n[b]\npath = /b\n")
        .with("/d/a.conf", "[a]\npath = /a\n")
        .with("/d/x.inc", "timeout = 7\n")
        .with("/d/ignored.txt", "nonsense\n")
        .with("/one", "[one]\npath = /1\n");
    let text = "timeout = 3\n&include /d\n&merge /d\n[c]\n&include = /one\npath = /c\n";
    let conf = RsyncdConf::parse("f", text.as_bytes(), &mut memory).unwrap();
    let found: Vec<_> = conf.modules.iter().map(|module| (module.name.as_str(), module.timeout_s)).collect();
    assert_eq!(found, [("a", 3), ("b", 9), ("c", 7), ("one", 7)]);
    let mut memory = Memory::default().with("/loop", "&include /loop\n");
    let error = RsyncdConf::parse("f", b"&merge /loop", &mut memory).unwrap_err();
    assert_eq!(error[0].to_string(), "/loop:1: expected files to include each other at most 8 deep");
}

#[test]
fn patterns_have_their_order_of_priority() {
    let mut memory =
        Memory::default().with("/in", "/f\n- /g\n").with("/out", "# c\n/h\n").with("/more", "- /m\n");
    let text = "[m]\npath = /m\nexclude = /e\ninclude = /i\nexclude from = /out\ninclude from = /in\nfilter = . /more - /z\n";
    let conf = RsyncdConf::parse("f", text.as_bytes(), &mut memory).unwrap();
    assert_eq!(conf.modules[0].patterns, ["/m", "/z", "+ /f", "/g", "+ /i", "/h", "/e"]);
}

#[test]
fn variables_come_from_the_environment() {
    let mut memory = Memory::default();
    memory.variables.insert("HOME".to_owned(), "/root".to_owned());
    let text = "path = %HOME%/%RSYNC_MODULE_NAME%\n[m]\ncomment = %HOME% %NOPE% 100%\n";
    let conf = RsyncdConf::parse("f", text.as_bytes(), &mut memory).unwrap();
    assert_eq!(conf.modules[0].path, "/root/m");
    assert_eq!(conf.modules[0].comment, "/root %NOPE% 100%");
}

#[test]
fn everything_that_is_wrong_is_named_with_its_line() {
    let module = |line: &str| format!("[m]\npath = /x\n{line}\n");
    for (line, expected) in [
        ("read only = no", "/etc/rsyncd.conf:3: `read only = no` is not supported"),
        ("write only = yes", "rsyncd.conf:3: `write only"),
        ("fake super = 1", "`fake super = 1`"),
        ("read onlyx = no", ":3: unknown parameter `read onlyx`"),
        ("read only = maybe", "read only: expected yes or no, found `maybe`"),
        ("numeric ids = maybe", ":3: numeric ids: expected yes, no or unset, found `maybe`"),
        ("use chroot = /srv", ":3: use chroot: expected yes, no or unset"),
        ("pre-xfer exec = /bin/true", "no commands are run"),
        ("outgoing chmod = a+r", "`outgoing chmod` is not supported"),
        ("port = 99", "`port` is global"),
        ("nonsense", "expected `NAME = VALUE`, found `nonsense`"),
        ("= x", "name before `=`"),
        ("[m", "expected `]`"),
        ("[]", "expected a name"),
        ("[a/b]\npath = /x", "without a slash"),
        ("&frob /x", "unknown directive"),
        ("&include", "expected a file"),
        ("&include x", "absolute"),
        ("&include /none", "/none: No such file"),
        ("path = relative", ":3: path: expected an absolute path"),
        ("path = /a/../b", "without `..`"),
        ("path = /./", "whole file system"),
        ("path = /home/%RSYNC_USER_NAME%", "%RSYNC_USER_NAME% is only known"),
        ("hosts allow = 10.0.0.0/33", "hosts allow: expected ADDRESS/MASK"),
        ("hosts deny = 10.13.18.*", "compared with names only"),
        ("auth users = joe:dney", ":deny, :ro or :rw"),
        ("auth users = joe", "needs a `secrets file`"),
        ("auth digest = md6", "expected one of sha512"),
        ("timeout = -1", "expected a number of seconds"),
        ("max connections = many", "expected a whole number"),
        ("exclude from = /none", "exclude from: /none: No such file"),
        ("filter = : .rules", "can't be followed"),
        ("syslog facility = moon", "unknown facility"),
        ("[n]", ":3: module [n]: expected a `path`"),
        ("[global]\nproxy protocol = yes", "expected `proxy protocol hosts`"),
        ("[global]\nproxy protocol hosts = ws1", "found the name `ws1`"),
        ("comment = a\u{1}b", "control characters"),
    ] {
        let found = faults(&module(line));
        assert!(found.contains(expected), "{line}: {found}");
    }
    let all = faults("[m]\nfoo = 1\nbar = 2\n");
    assert_eq!(all.lines().count(), 3, "all are reported: {all}");
    let once = faults("timeout = x\n[a]\npath = /a\n[b]\npath = /b\n");
    assert_eq!(once.lines().count(), 1, "{once}");
    assert!(parse("charset =\n[m]\npath = /x\n").is_ok(), "an empty one says nothing");
    assert!(RsyncdConf::parse("f", b"comment = \xff\n", &mut Memory::default()).is_err());
}

/// A module's text, as one might write it, and what must come out.
fn module() -> impl Strategy<Value = (String, Module)> {
    let name = "[a-z][a-z0-9-]{0,8}( [a-z]{1,4})?";
    let value = "[!-$&-~]([ -$&-~]{0,20}[!-$&-\\[\\]-~])?";
    let host = prop_oneof![
        "10\\.[0-9]\\.[0-9]\\.[0-9]",
        "10\\.[0-9]\\.0\\.0/16",
        "10\\.0\\.[0-9]\\.0/255\\.0\\.255\\.0",
        "ws[0-9]\\.lan",
        Just("*".to_owned())
    ];
    let hosts = prop::collection::vec(host, 0..4);
    (name, value, hosts, any::<bool>(), -1_i32..500, 0_u32..5000, prop::collection::vec("/[a-z*]{1,6}", 0..4)).prop_filter_map(
        "a comment may not end in a backslash",
        |(name, comment, hosts, list, max_connections, timeout_s, patterns)| {
            if comment.ends_with('\\') {
                return None;
            }
            let text = format!(
                "[{name}]\n PATH=/srv/x\ncomment =\t{comment}  \nhosts allow = {}\nLiSt = {}\nmax\tconnections={}\n\
                 timeout={}\nexclude = {}\n",
                hosts.join(", "),
                if list { "Yes" } else { "0" },
                max_connections,
                timeout_s,
                patterns.join("  "),
            );
            let mut expected = parse("[m]\npath = /srv/x\n").unwrap().modules.remove(0);
            expected.name = name;
            expected.comment = comment;
            expected.list = list;
            expected.max_connections = max_connections;
            expected.timeout_s = timeout_s;
            expected.patterns = patterns;
            expected.hosts.allow = hosts.iter().map(|host| host.parse().unwrap()).collect();
            Some((text, expected))
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(modules in prop::collection::vec(module(), 0..5)) {
        let mut modules = modules;
        modules.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        modules.dedup_by(|(_, a), (_, b)| a.name == b.name);
        modules.retain(|(_, module)| module.name != "global");
        let text: String = modules.iter().map(|(text, _)| text.as_str()).collect();
        let conf = parse(&text).unwrap();
        prop_assert_eq!(conf.modules.len(), modules.len());
        for (found, (_, mut expected)) in conf.modules.into_iter().zip(modules) {
            expected.place = found.place.clone();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn no_octets_do_harm(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        let parsed = RsyncdConf::parse("f", &octets, &mut Memory::default());
        prop_assert!(parsed.is_ok() || parsed.is_err_and(|faults| !faults.is_empty()));
    }

    #[test]
    fn no_text_like_the_format_does_harm(
        lines in prop::collection::vec("(\\[|&|#|%)?(m\\]|include /|merge|path|hosts deny|filter|auth users|log format)?( ?= ?)?[ -~]{0,20}\\\\?", 0..20)
    ) {
        let faults = parse(&lines.join("\n")).err().unwrap_or_default();
        for fault in faults {
            prop_assert!(fault.place.line as usize <= lines.len());
        }
    }
}

#[test]
fn the_manual_says_of_each_parameter_what_becomes_of_it() {
    let manual =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md")).unwrap();
    for Parameter { name, treatment, .. } in PARAMETERS {
        let expected = match treatment {
            Treatment::Honoured => "| honoured |",
            Treatment::OneWord(word, _) => &format!("| only `{word}` has an effect |"),
            Treatment::Stricter(_) => "| accepted, stricter here |",
            Treatment::NoEffect(_) => "| accepted, no effect |",
            Treatment::Only(true, _) => "| only `yes` |",
            Treatment::Only(false, _) => "| only `no` |",
            Treatment::Refused(_) => "| stops the start |",
        };
        let row = manual.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{name}`")));
        assert!(row.is_some_and(|row| row.contains(expected)), "{name}: {row:?}");
    }
}
