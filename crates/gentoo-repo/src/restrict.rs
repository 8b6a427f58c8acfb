//! `RESTRICT`: what a package forbids (PMS, "`RESTRICT`"). Only fetching and mirroring matter here.
//!
//! A restriction inside of `use? ( )` counts as if it had no condition: a mirror does not know the flags of the
//! box that asks, and the mistake on this side costs a download, the one on the other side a licence. (Gentoo's own
//! mirror script ignores conditional ones; a client is told by 404 to fetch such a file itself.)

use crate::Error;
use crate::dep_string::{Token, Tokens};
use crate::distfile::Restriction;
use crate::src_uri::Lift;

/// Longer than any real one.
pub const OCTETS_MAX: usize = 64 << 10;

/// The part of a package's `RESTRICT` that is about its distfiles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restrict {
    /// `fetch`: a person has to get the files.
    pub fetch: bool,
    /// `mirror`: the files must not be had from mirrors.
    pub mirror: bool,
}

impl Restrict {
    /// Everything is restricted: what to assume of a `RESTRICT` that cannot be read.
    pub const ALL: Self = Self { fetch: true, mirror: true };

    /// Whether a URI with this prefix may be fetched.
    ///
    /// Portage also fetches `mirror://` URIs of a fetch-restricted package; here they need the prefix as well.
    #[must_use]
    pub fn permits(self, lift: Lift) -> bool {
        !self.fetch || lift >= Lift::Fetch
    }

    /// What the restriction comes to for one file, given the highest prefix among its URIs.
    ///
    /// `fetch` implies `mirror`, and `fetch+` does not give leave to mirror (PMS, EAPI 8).
    #[must_use]
    pub fn for_file(self, highest: Lift) -> Restriction {
        match highest {
            Lift::Fetch if self.fetch || self.mirror => Restriction::Mirror,
            Lift::None if self.fetch => Restriction::Fetch,
            Lift::None if self.mirror => Restriction::Mirror,
            Lift::Mirror | Lift::Fetch | Lift::None => Restriction::None,
        }
    }
}

/// Reads a `RESTRICT` for every USE state at once. `nomirror` is the old word for `mirror`.
///
/// # Errors
/// [`Error::Word`] for what breaks the grammar, [`Error::TooLong`] beyond [`OCTETS_MAX`]; [`Restrict::ALL`] is then the
/// safe thing to assume.
pub fn parse(text: &str) -> Result<Restrict, Error> {
    if text.len() > OCTETS_MAX {
        return Err(Error::TooLong { what: "RESTRICT", max: OCTETS_MAX, found: text.len() });
    }
    let mut restrict = Restrict::default();
    for token in Tokens::new(text) {
        match token? {
            Token::Word("fetch") => restrict.fetch = true,
            Token::Word("mirror" | "nomirror") => restrict.mirror = true,
            Token::Word(_) | Token::Open | Token::Close => {}
        }
    }
    Ok(restrict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fetch_and_mirror_count_and_conditions_do_not_lift() {
        for (text, fetch, mirror) in [
            ("", false, false),
            ("test strip !test? ( test )", false, false),
            ("bindist mirror", false, true),
            ("nomirror", false, true),
            ("!bindist? ( fetch ) test", true, false),
            ("strip mirror bindist fetch", true, true),
        ] {
            assert_eq!(parse(text), Ok(Restrict { fetch, mirror }), "{text}");
        }
        assert!(parse("bindist? ( fetch").is_err());
    }

    #[test]
    fn prefixes_lift_as_eapi_8_says() {
        use Restriction::{Fetch, Mirror, None};
        for (fetch, mirror, expected) in [
            (false, false, [None, None, None]),
            (false, true, [Mirror, Mirror, None]),
            (true, false, [Fetch, Mirror, None]),
            (true, true, [Fetch, Mirror, None]),
        ] {
            let restrict = Restrict { fetch, mirror };
            let found = [Lift::None, Lift::Fetch, Lift::Mirror].map(|lift| restrict.for_file(lift));
            assert_eq!(found, expected, "{restrict:?}");
        }
    }
}
