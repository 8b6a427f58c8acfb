//! Every parameter of rsync 3.5.0, and what becomes of it here.

/// Where a parameter may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Before the first module, or in `[global]`.
    Global,
    /// There as a default, or in a module.
    Module,
}

/// What is done with a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It means what rsync means by it.
    Honoured,
    /// It is accepted, and what happens is at least as strict whatever it says; why.
    Stricter(&'static str),
    /// It is accepted and has nothing to act on here; why.
    NoEffect(&'static str),
    /// It means what rsync means by it: this word counts, and any other one has no effect; why.
    OneWord(&'static str, &'static str),
    /// Only this value can be had: any other one stops the start; why.
    Only(bool, &'static str),
    /// It stops the start; why.
    Refused(&'static str),
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name as rsync writes it.
    pub name: &'static str,
    /// Where it may stand.
    pub scope: Scope,
    /// What is done with it.
    pub treatment: Treatment,
}

use Scope::{Global, Module};
use Treatment::{Honoured, NoEffect, OneWord, Only, Refused, Stricter};

const fn of(name: &'static str, scope: Scope, treatment: Treatment) -> Parameter {
    Parameter { name, scope, treatment }
}

const NO_PATHS: &str = "contents come from a stored generation, and no path of a client's is ever opened";
const NOT_RECEIVED: &str = "nothing is ever received";
const NO_COMMANDS: &str = "no commands are run for a connection";

/// All of them.
pub const PARAMETERS: &[Parameter] = &[
    of("address", Global, Honoured),
    of("daemon chroot", Global, Refused("module paths would mean another place")),
    of("daemon gid", Global, NoEffect("the service manager says which group the process runs as")),
    of("daemon uid", Global, NoEffect("the service manager says which user the process runs as")),
    of("listen backlog", Global, NoEffect("the listener's backlog is fixed, and far above rsync's 5")),
    of("motd file", Global, Honoured),
    of("pid file", Global, NoEffect("the service manager knows the process")),
    of("port", Global, Honoured),
    of("proxy protocol", Global, Honoured),
    of("proxy protocol hosts", Global, Honoured),
    of("socket options", Global, NoEffect("the system's own tuning is kept; `SO_KEEPALIVE` is always on")),
    of("auth digest", Module, Honoured),
    of("auth users", Module, Honoured),
    of("charset", Module, Refused("names are sent as they are")),
    of("comment", Module, Honoured),
    of("dont compress", Module, OneWord("*", "no compression can be less for one file than for another")),
    of("early exec", Module, Refused(NO_COMMANDS)),
    of("exclude", Module, Honoured),
    of("exclude from", Module, Honoured),
    of("fake super", Module, Only(false, "owners are not kept in extended attributes")),
    of("filter", Module, Honoured),
    of("forward lookup", Module, Honoured),
    of("gid", Module, Stricter(NO_PATHS)),
    of("hosts allow", Module, Honoured),
    of("hosts deny", Module, Honoured),
    of("ignore errors", Module, Stricter("a tree with an unreadable file is never served at all")),
    of("ignore nonreadable", Module, Stricter("a tree with an unreadable file is never served at all")),
    of("include", Module, Honoured),
    of("include from", Module, Honoured),
    of("incoming chmod", Module, NoEffect(NOT_RECEIVED)),
    of("insecure links", Module, Stricter(NO_PATHS)),
    of("list", Module, Honoured),
    of("lock file", Module, NoEffect("connections are counted in the process")),
    of("log file", Module, Honoured),
    of("log format", Module, Honoured),
    of("max connections", Module, Honoured),
    of("max verbosity", Module, Stricter("what a client asks for never changes what is logged")),
    of("munge symlinks", Module, NoEffect(NOT_RECEIVED)),
    of("name converter", Module, Refused(NO_COMMANDS)),
    of("numeric ids", Module, Honoured),
    of("open noatime", Module, NoEffect("contents come from a stored generation")),
    of("outgoing chmod", Module, Refused("files are sent with the modes that were verified")),
    of("path", Module, Honoured),
    of("post-xfer exec", Module, Refused(NO_COMMANDS)),
    of("pre-xfer exec", Module, Refused(NO_COMMANDS)),
    of("read only", Module, Only(true, "modules only send")),
    of("refuse options", Module, Honoured),
    of("reverse lookup", Module, Honoured),
    of("secrets file", Module, Honoured),
    of("strict modes", Module, Honoured),
    of("syslog facility", Module, Honoured),
    of("syslog tag", Module, Honoured),
    of("temp dir", Module, NoEffect(NOT_RECEIVED)),
    of("timeout", Module, Honoured),
    of("transfer logging", Module, Honoured),
    of("uid", Module, Stricter(NO_PATHS)),
    of("use chroot", Module, Stricter(NO_PATHS)),
    of("write only", Module, Only(false, "modules only send")),
];

/// Finds one by a name as people write it: neither case nor white space counts.
pub(crate) fn find(name: &str) -> Option<&'static Parameter> {
    let wanted = squeezed(name);
    PARAMETERS.iter().find(|parameter| squeezed(parameter.name) == wanted)
}

fn squeezed(name: &str) -> String {
    name.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_lowercase()).collect()
}
