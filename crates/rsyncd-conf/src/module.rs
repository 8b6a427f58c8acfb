//! One module as its parameters describe it.

use crate::auth::{self, AuthRule};
use crate::filter::{self, Rule};
use crate::hosts::{self, HostAccess};
use crate::load::{Found, Surroundings};
use crate::log_format;
use crate::section::Reader;
use crate::syslog::Facility;
use crate::{Place, value};

/// Files of filter rules that one module may merge.
const MERGES_MAX: usize = 32;

/// A module.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is one parameter of the format")]
pub struct Module {
    /// Where its section begins.
    pub place: Place,
    /// Its name; white space inside is single spaces.
    pub name: String,
    /// The directory: absolute, without a trailing slash and without `.` elements.
    pub path: String,
    /// What the list of modules says about it.
    pub comment: String,
    /// Whether it is in that list.
    pub list: bool,
    /// Connections at a time: 0 for any number, below 0 for none at all.
    pub max_connections: i32,
    /// Seconds of silence; 0 for any number.
    pub timeout_s: u32,
    /// What is left out and what stays, in order: a plain pattern leaves out, `+ PATTERN` keeps.
    pub patterns: Vec<String>,
    /// Who may use it, by address and name.
    pub hosts: HostAccess,
    /// Whether a host's own name is looked up for that. Unlike in rsync it must be asked for.
    pub reverse_lookup: bool,
    /// Whether the names in the lists are looked up for their addresses.
    pub forward_lookup: bool,
    /// Who may log in; if there are none, nobody has to.
    pub auth_users: Vec<AuthRule>,
    /// Where the passwords are.
    pub secrets_file: Option<String>,
    /// The weakest digest that a client may answer with.
    pub auth_digest: Option<String>,
    /// Whether the secrets file's owner and mode are checked.
    pub strict_modes: bool,
    /// Options that are refused.
    pub refuse_options: Vec<String>,
    /// Nothing is compressed for clients that use zlib.
    pub dont_compress: bool,
    /// Owners are sent as numbers alone. As in rsync a module in a chroot, which is what it tries unless it is told not to,
    /// has no names.
    pub numeric_ids: bool,
    /// Whether each file that was sent is logged.
    pub transfer_logging: bool,
    /// How.
    pub log_format: String,
    /// The file for that; else the system log.
    pub log_file: Option<String>,
    /// The system log's facility, if one was named.
    pub syslog_facility: Option<String>,
    /// What a line of the system log starts with.
    pub syslog_tag: String,
}

impl Module {
    pub(crate) fn read(
        name: String,
        place: Place,
        reader: &mut Reader<'_>,
        surroundings: &mut dyn Surroundings,
    ) -> Self {
        let path = reader.read("path", parse_path);
        if path.is_none() && reader.place("path").is_none() {
            reader.faults.push(crate::Fault::new(&place, format!("module [{name}]: expected a `path`")));
        }
        let dont_compress = reader.text("dont compress").unwrap_or_default();
        let in_chroot = reader.perhaps("use chroot").unwrap_or(true);
        let module = Self {
            path: path.unwrap_or_default(),
            comment: reader.text("comment").unwrap_or_default(),
            list: reader.boolean("list").unwrap_or(true),
            max_connections: reader.read("max connections", whole_number).unwrap_or(0),
            timeout_s: reader.read("timeout", seconds).unwrap_or(0),
            patterns: patterns(reader, surroundings),
            hosts: HostAccess {
                allow: reader.read("hosts allow", hosts::parse_list).unwrap_or_default(),
                deny: reader.read("hosts deny", hosts::parse_list).unwrap_or_default(),
            },
            reverse_lookup: reader.boolean("reverse lookup").unwrap_or(false),
            forward_lookup: reader.boolean("forward lookup").unwrap_or(true),
            auth_users: reader.read("auth users", auth::parse_rules).unwrap_or_default(),
            secrets_file: reader.path("secrets file"),
            auth_digest: reader.read("auth digest", digest),
            strict_modes: reader.boolean("strict modes").unwrap_or(true),
            refuse_options: reader.text("refuse options").map_or_else(Vec::new, |text| owned_words(&text)),
            dont_compress: dont_compress.split_ascii_whitespace().any(|pattern| pattern == "*"),
            numeric_ids: reader.perhaps("numeric ids").unwrap_or(in_chroot),
            transfer_logging: reader.boolean("transfer logging").unwrap_or(false),
            log_format: reader.text("log format").unwrap_or_else(|| log_format::DEFAULT.to_owned()),
            log_file: reader.path("log file"),
            syslog_facility: reader.read("syslog facility", facility),
            syslog_tag: reader.text("syslog tag").unwrap_or_else(|| "rsyncd".to_owned()),
            name,
            place,
        };
        if !module.auth_users.is_empty() && module.secrets_file.is_none() {
            let what = format!("module [{}]: `auth users` needs a `secrets file`", module.name);
            reader.fault("auth users", what);
        }
        module
    }
}

fn owned_words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn whole_number(text: &str) -> Result<i32, String> {
    value::number(text, "a whole number")
}

fn seconds(text: &str) -> Result<u32, String> {
    value::number(text, "a number of seconds")
}

fn digest(text: &str) -> Result<String, String> {
    let known = ["sha512", "sha256", "sha1", "md5", "md4"];
    let text = text.to_ascii_lowercase();
    if known.contains(&text.as_str()) {
        Ok(text)
    } else {
        Err(format!("expected one of {}, found `{text}`", known.join(", ")))
    }
}

fn facility(text: &str) -> Result<String, String> {
    let known = Facility::from_name(text);
    known
        .map(|_| text.to_owned())
        .ok_or_else(|| format!("unknown facility `{text}`: expected one such as daemon"))
}

/// An absolute path without `.` elements, which divide it for a chroot that is not made here.
fn parse_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("expected an absolute path, found `{text}`"));
    }
    let parts: Vec<_> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(format!("expected a path without `..`, found `{text}`"));
    }
    if parts.is_empty() {
        return Err("the whole file system can't be served".to_owned());
    }
    Ok(format!("/{}", parts.join("/")))
}

/// The five parameters in their order of priority.
fn patterns(reader: &mut Reader<'_>, surroundings: &mut dyn Surroundings) -> Vec<String> {
    let mut rules = Vec::new();
    let mut merge_count = 0;
    for rule in reader.read("filter", filter::parse_filter).unwrap_or_default() {
        merge(rule, "filter", reader, surroundings, &mut rules, &mut merge_count);
    }
    let mut from_file = |name: &str, includes, reader: &mut Reader<'_>| {
        let text = reader.path(name).and_then(|path| rules_file(name, &path, reader, surroundings));
        text.map_or_else(Vec::new, |text| filter::parse_file(&text, includes))
    };
    let patterns = |name: &str, includes, reader: &mut Reader<'_>| {
        reader.text(name).map_or_else(Vec::new, |text| filter::parse_patterns(&text, includes))
    };
    rules.extend(from_file("include from", true, reader));
    rules.extend(patterns("include", true, reader));
    rules.extend(from_file("exclude from", false, reader));
    rules.extend(patterns("exclude", false, reader));
    rules.iter().filter_map(Rule::to_pattern).collect()
}

fn merge(
    rule: Rule,
    name: &str,
    reader: &mut Reader<'_>,
    surroundings: &mut dyn Surroundings,
    rules: &mut Vec<Rule>,
    merge_count: &mut usize,
) {
    let Rule::Merge(path) = rule else {
        rules.push(rule);
        return;
    };
    *merge_count += 1;
    if *merge_count > MERGES_MAX {
        reader.fault(name, format!("{name}: expected at most {MERGES_MAX} merged files"));
        return;
    }
    let Some(text) = rules_file(name, &path, reader, surroundings) else { return };
    match filter::parse_filter_file(&text) {
        Ok(more) => {
            for rule in more {
                merge(rule, name, reader, surroundings, rules, merge_count);
            }
        }
        Err(what) => reader.fault(name, format!("{name}: {path}: {what}")),
    }
}

fn rules_file(
    name: &str,
    path: &str,
    reader: &mut Reader<'_>,
    surroundings: &mut dyn Surroundings,
) -> Option<String> {
    let found = match surroundings.read(path) {
        Ok(Found::File(octets)) => String::from_utf8(octets).map_err(|_| "expected UTF-8".to_owned()),
        Ok(Found::Directory(_)) => Err("expected a file, found a directory".to_owned()),
        Err(error) => Err(error),
    };
    found.map_err(|what| reader.fault(name, format!("{name}: {path}: {what}"))).ok()
}
