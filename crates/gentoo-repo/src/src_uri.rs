//! `SRC_URI`: where a package's files come from and what they are called (PMS, "`SRC_URI`").
//!
//! All USE states at once: a mirror serves boxes with any flags, so each conditional group counts. `|| ( )`, which
//! PMS forbids here and Portage refuses, is read as a plain group: it can only add places to look.

use crate::dep_string::{Token, Tokens};
use crate::error::excerpt;
use crate::{DistfileName, Error};

/// Longer than any real one: the longest of today have some 600 URIs in 60 KiB.
pub const OCTETS_MAX: usize = 4 << 20;

/// What a URI's prefix takes off the package's `RESTRICT` (EAPI 8).
///
/// Without a prefix nothing is lifted; each one lifts what the one before it does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lift {
    /// No prefix.
    #[default]
    None,
    /// `fetch+`: this URI may be fetched although the package has `RESTRICT=fetch`.
    Fetch,
    /// `mirror+`: the file may be fetched and mirrored whatever the package restricts.
    Mirror,
}

/// One URI of `SRC_URI`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceUri<'a> {
    /// As written, without prefix; `mirror://` is not expanded. `None` for a bare file name, which says that the
    /// package needs the file but not where it is.
    pub uri: Option<&'a str>,
    /// After `->`, else the last path element.
    pub name: DistfileName,
    /// What the URI's prefix lifts.
    pub lift: Lift,
}

/// Every URI of a `SRC_URI` in the order of the text, for every USE state.
///
/// `eapi` decides whether there is `->` (from 2 on) and whether there are prefixes (from 8 on). An EAPI that is not known
/// yet is read like the newest.
///
/// # Errors
/// [`Error::Word`] for what breaks the grammar, [`Error::DistfileName`] for a URI that gives no file name,
/// [`Error::TooLong`] beyond [`OCTETS_MAX`].
pub fn parse<'a>(text: &'a str, eapi: &str) -> Result<Vec<SourceUri<'a>>, Error> {
    if text.len() > OCTETS_MAX {
        return Err(Error::TooLong { what: "SRC_URI", max: OCTETS_MAX, found: text.len() });
    }
    let arrows = !matches!(eapi, "0" | "1");
    let prefixes = !matches!(eapi, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7");
    let mut uris = Vec::new();
    let mut tokens = Tokens::new(text);
    while let Some(token) = tokens.next() {
        let Token::Word(word) = token? else { continue };
        if word == "->" {
            return Err(Error::word(tokens.words_read(), "a URI before `->`", word));
        }
        if !prefixes && (word.starts_with("fetch+") || word.starts_with("mirror+")) {
            return Err(Error::word(tokens.words_read(), "no `fetch+` or `mirror+` before EAPI 8", word));
        }
        let renamed = if tokens.take_word("->") { Some(file_name(&mut tokens, arrows)?) } else { None };
        uris.push(source_uri(word, renamed)?);
    }
    Ok(uris)
}

/// The word after an arrow.
fn file_name<'a>(tokens: &mut Tokens<'a>, arrows: bool) -> Result<&'a str, Error> {
    if !arrows {
        return Err(Error::word(tokens.words_read(), "no `->` before EAPI 2", "->"));
    }
    match tokens.next().transpose()? {
        Some(Token::Word(name)) if name != "->" => Ok(name),
        _ => Err(Error::word(tokens.words_read(), "a file name after `->`", "")),
    }
}

fn source_uri<'a>(word: &'a str, renamed: Option<&str>) -> Result<SourceUri<'a>, Error> {
    let (lift, uri) = match word.split_once('+') {
        Some(("fetch", uri)) if has_scheme(uri) => (Lift::Fetch, uri),
        Some(("mirror", uri)) if has_scheme(uri) => (Lift::Mirror, uri),
        _ => (Lift::None, word),
    };
    let name = renamed.unwrap_or_else(|| uri.rsplit('/').next().unwrap_or_default());
    if name.is_empty() {
        let expected = "a URI that ends in a file name is expected";
        return Err(Error::DistfileName { name: excerpt(uri.as_bytes()), expected });
    }
    Ok(SourceUri { uri: has_scheme(uri).then_some(uri), name: DistfileName::try_from(name)?, lift })
}

/// Whether `uri` begins with `scheme://` (RFC 3986, section 3.1).
fn has_scheme(uri: &str) -> bool {
    uri.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flat(text: &str, eapi: &str) -> Vec<(Option<String>, String, Lift)> {
        let uris = parse(text, eapi).unwrap();
        uris.into_iter().map(|uri| (uri.uri.map(str::to_owned), uri.name.to_string(), uri.lift)).collect()
    }

    fn uri(uri: &str, name: &str, lift: Lift) -> (Option<String>, String, Lift) {
        (Some(uri.to_owned()), name.to_owned(), lift)
    }

    #[test]
    fn renames_conditions_groups_and_prefixes() {
        let text = "https://a/x-1.tar.gz -> y.tgz\n\
            doc? ( mirror://gnu/d/doc.pdf !small? ( fetch+ftp://b/big.bin ) )\n\
            || ( http://c/%7Ez?q=1 mirror+https://d/z -> w )";
        assert_eq!(
            flat(text, "8"),
            [
                uri("https://a/x-1.tar.gz", "y.tgz", Lift::None),
                uri("mirror://gnu/d/doc.pdf", "doc.pdf", Lift::None),
                uri("ftp://b/big.bin", "big.bin", Lift::Fetch),
                uri("http://c/%7Ez?q=1", "%7Ez?q=1", Lift::None),
                uri("https://d/z", "w", Lift::Mirror),
            ]
        );
    }

    #[test]
    fn a_bare_name_has_no_uri() {
        assert_eq!(flat("oracle-1.bin", "8"), [(None, "oracle-1.bin".to_owned(), Lift::None)]);
        assert_eq!(flat("fetch+x.tar", "8"), [(None, "fetch+x.tar".to_owned(), Lift::None)]);
    }

    #[test]
    fn eapi_0_and_1_have_no_arrow() {
        for eapi in ["0", "1"] {
            assert_eq!(flat("http://a/b.tar", eapi), [uri("http://a/b.tar", "b.tar", Lift::None)]);
            assert!(parse("http://a/b.tar -> c.tar", eapi).is_err());
        }
        for eapi in ["2", "9", "10-new"] {
            assert_eq!(flat("http://a/b.tar -> c.tar", eapi), [uri("http://a/b.tar", "c.tar", Lift::None)]);
        }
    }

    #[test]
    fn prefixes_exist_from_eapi_8_on() {
        assert!(parse("fetch+http://a/b", "7").is_err());
        assert!(parse("mirror+http://a/b", "9").is_ok());
    }

    #[test]
    fn parentheses_may_belong_to_a_url() {
        assert_eq!(flat("http://a/b_(1)", "8"), [uri("http://a/b_(1)", "b_(1)", Lift::None)]);
    }

    #[test]
    fn what_names_no_file_is_refused() {
        for text in [
            "http://a/",
            "-> b",
            "http://a/b ->",
            "http://a/b -> ( c )",
            "( http://a/b ) -> c",
            "http://a/b -> c/d",
            "http://a/b -> ..",
            "http://a/b -> -> c",
            "http://a/b -> c -> d",
            "http://a/b -> use? ( c )",
        ] {
            assert!(parse(text, "8").is_err(), "{text}");
        }
        assert!(parse(&" ".repeat(OCTETS_MAX + 1), "8").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_uris_or_an_error(text in "\\PC*", eapi in "[0-9]") {
            drop(parse(&text, &eapi));
        }

        #[test]
        fn words_of_the_grammar_never_panic(words in proptest::collection::vec(
            prop_oneof!["->", "\\(", "\\)", "\\|\\|", "!?[a-z]\\?", "(fetch\\+|mirror\\+)?https://[a-z]/[a-z]"], 0..20)
        ) {
            drop(parse(&words.join(" "), "8"));
        }
    }
}
