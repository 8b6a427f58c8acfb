//! Path arguments, as paths below the module's root (4.3).

use crate::{ExitCode, Refusal, WireError};

/// One thing to list: where the transfer root is, and what below it is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourcePath {
    /// The transfer root: a path below the module root, empty for the module root itself.
    pub root: Vec<u8>,
    /// The name below the transfer root; empty for the transfer root itself, which is listed as `.`.
    pub name: Vec<u8>,
    /// The contents of a directory are meant: a trailing slash, or a name of `.`.
    pub contents: bool,
    /// `.` is listed first, as an implied directory (a relative name that started with `./`).
    pub implied_dot: bool,
}

/// Reads a path argument: the module's name, then a path in it.
///
/// # Errors
/// [`WireError::Refused`] for a `..` in a relative name.
pub fn parse_path(module: &str, argument: &[u8], relative: bool) -> Result<SourcePath, WireError> {
    let path = argument.strip_prefix(module.as_bytes()).unwrap_or(argument);
    if relative { parse_relative(&[], path) } else { Ok(parse_plain(path)) }
}

/// Reads a name of a list of files: it is below `base`, the one path argument.
///
/// # Errors
/// [`WireError::Refused`] for a `..` in a relative name.
pub fn parse_files_from_name(
    base: &SourcePath,
    name: &[u8],
    relative: bool,
) -> Result<SourcePath, WireError> {
    let base = join(&base.root, &base.name);
    if relative {
        return parse_relative(&base, name);
    }
    let mut path = base;
    path.push(b'/');
    path.extend_from_slice(name);
    Ok(parse_plain(&path))
}

fn parse_plain(path: &[u8]) -> SourcePath {
    let contents = ends_as_directory(path);
    let mut parts = Vec::new();
    for part in path.split(|&o| o == b'/') {
        match part {
            b"" | b"." => {}
            // Never above the module's root.
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let name = if contents { None } else { parts.pop() };
    SourcePath {
        root: parts.join(&b'/'),
        name: name.unwrap_or_default().to_vec(),
        contents: name.is_none(),
        implied_dot: false,
    }
}

fn parse_relative(base: &[u8], path: &[u8]) -> Result<SourcePath, WireError> {
    let slashes = path.iter().take_while(|&&o| o == b'/').count();
    let path = &path[slashes..];
    let dotted = path.starts_with(b"./");
    let (root, name) = match find(path, b"/./") {
        Some(at) if !dotted => (&path[..at], &path[at + 3..]),
        _ => (&[][..], path),
    };
    let root = parse_plain(&[base, b"/", root, b"/"].concat()).root;
    let contents = ends_as_directory(name);
    let mut parts = Vec::new();
    for part in name.split(|&o| o == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let text = "found \"..\" dir in relative path";
                return Err(WireError::Refused(Refusal::new(ExitCode::Usage, text)));
            }
            part => parts.push(part),
        }
    }
    Ok(SourcePath {
        root,
        contents: contents || parts.is_empty(),
        implied_dot: dotted && !parts.is_empty(),
        name: parts.join(&b'/'),
    })
}

fn ends_as_directory(path: &[u8]) -> bool {
    let last = path.rsplit(|&o| o == b'/').next().unwrap_or_default();
    matches!(last, b"" | b"." | b"..")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// `a` and `b` with one slash between them, or whichever is not empty.
pub(crate) fn join(a: &[u8], b: &[u8]) -> Vec<u8> {
    match (a, b) {
        (a, b"") => a.to_vec(),
        (b"", b) => b.to_vec(),
        (a, b) => [a, b"/", b].concat(),
    }
}
