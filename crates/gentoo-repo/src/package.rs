//! Names of packages and of their versions (PMS, "Names and versions").

/// The package of a `PF`: `gtk+` for `gtk+-3.24.41-r1`. `None` if it does not end in a version.
#[must_use]
pub fn package_of_pf(pf: &str) -> Option<&str> {
    let without_revision = match pf.rsplit_once("-r") {
        Some((head, digits)) if is_number(digits) => head,
        _ => pf,
    };
    let (package, version) = without_revision.rsplit_once('-')?;
    (!package.is_empty() && is_version(version)).then_some(package)
}

/// `1.2.3a_rc1_p2`: numbers with dots, at most one letter, then suffixes.
fn is_version(version: &str) -> bool {
    let mut parts = version.split('_');
    let numbers = parts.next().unwrap_or_default();
    let numbers = numbers.strip_suffix(|last: char| last.is_ascii_lowercase()).unwrap_or(numbers);
    numbers.split('.').all(is_number) && parts.all(is_suffix)
}

fn is_suffix(suffix: &str) -> bool {
    let digits = ["alpha", "beta", "pre", "rc", "p"]
        .iter()
        .find_map(|word| suffix.strip_prefix(word).filter(|rest| rest.is_empty() || is_number(rest)));
    digits.is_some()
}

fn is_number(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_version_comes_off() {
        for (pf, package) in [
            ("gtk+-3.24.41-r1", Some("gtk+")),
            ("foo-9999", Some("foo")),
            ("foo-1.2b_rc1_p20200101-r3", Some("foo")),
            ("foo-bar-2-1", Some("foo-bar-2")),
            ("foo-pre1-1_pre", Some("foo-pre1")),
            ("font-adobe-100dpi-1", Some("font-adobe-100dpi")),
            ("a-r-1", Some("a-r")),
            ("foo", None),
            ("foo-bar", None),
            ("foo-1.", None),
            ("foo-1_x", None),
            ("-1", None),
            ("1-r1", None),
            ("", None),
        ] {
            assert_eq!(package_of_pf(pf), package, "{pf}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_package_or_none(pf in "[a-z0-9._r-]{0,12}") {
            if let Some(package) = package_of_pf(&pf) {
                prop_assert!(pf.starts_with(package));
            }
        }
    }
}
