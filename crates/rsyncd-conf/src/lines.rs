//! Lines: comments dropped, continued ones joined, each known for what it is.

use std::sync::Arc;

use crate::{Fault, Place};

/// One line of meaning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// `[NAME]`
    Section(String),
    /// `NAME = VALUE`
    Parameter { name: String, value: String },
    /// `&include PATH` or `&merge PATH`
    Directive { merges: bool, path: String },
}

/// Takes a file apart. A line that has no meaning is a fault; the others are given all the same.
pub(crate) fn split(file: &Arc<str>, octets: &[u8], faults: &mut Vec<Fault>) -> Vec<(Place, Line)> {
    let mut lines = Vec::new();
    let mut pieces = octets.split(|&octet| octet == b'\n').zip(1_u32..);
    while let Some((piece, line)) = pieces.next() {
        let place = Place { file: file.clone(), line };
        let start = piece.trim_ascii();
        // A comment is never continued.
        if start.is_empty() || start.starts_with(b"#") {
            continue;
        }
        let mut whole = piece.to_vec();
        while whole.trim_ascii_end().ends_with(b"\\") {
            whole.truncate(whole.trim_ascii_end().len() - 1);
            match pieces.next() {
                Some((more, _)) => whole.extend_from_slice(more),
                None => break,
            }
        }
        let Ok(text) = String::from_utf8(whole) else {
            faults.push(Fault::new(&place, "expected UTF-8"));
            continue;
        };
        if text.contains(|c: char| c.is_control() && !c.is_ascii_whitespace()) {
            faults.push(Fault::new(&place, "expected no control characters"));
            continue;
        }
        match classify(text.trim()) {
            Ok(Some(line)) => lines.push((place, line)),
            Ok(None) => {}
            Err(what) => faults.push(Fault::new(&place, what)),
        }
    }
    lines
}

fn classify(text: &str) -> Result<Option<Line>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Some(rest) = text.strip_prefix('[') {
        // What follows the bracket has no meaning for rsync either.
        let (name, _) = rest.split_once(']').ok_or_else(|| format!("expected `]` after `[{rest}`"))?;
        let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
        return if name.is_empty() {
            Err("expected a name in `[]`".to_owned())
        } else {
            Ok(Some(Line::Section(name)))
        };
    }
    if let Some(rest) = text.strip_prefix('&') {
        let (word, path) = rest.split_once([' ', '\t', '=']).unwrap_or((rest, ""));
        let path = path.trim_start_matches(['=', ' ', '\t']).trim().to_owned();
        let merges = match word {
            "include" => false,
            "merge" => true,
            other => return Err(format!("unknown directive `&{other}`; expected &include or &merge")),
        };
        return if path.is_empty() {
            Err(format!("expected a file or a directory after `&{word}`"))
        } else {
            Ok(Some(Line::Directive { merges, path }))
        };
    }
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("expected `NAME = VALUE`, found `{text}`"))?;
    if name.trim().is_empty() {
        return Err("expected a parameter's name before `=`".to_owned());
    }
    Ok(Some(Line::Parameter { name: name.trim().to_owned(), value: value.trim().to_owned() }))
}
