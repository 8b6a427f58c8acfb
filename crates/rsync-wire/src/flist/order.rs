//! The order that both sides sort a list by, because it gives the indexes (7.6).

use std::cmp::Ordering;

/// Compares two entries of one list, each a name and whether it is a directory.
///
/// At the first component where they differ, a file comes before a directory, whatever the names; two
/// directories compare as if each had a slash behind it. A directory comes directly before its contents, and
/// the directory `.` before everything.
#[must_use]
pub fn compare_names(a: (&[u8], bool), b: (&[u8], bool)) -> Ordering {
    let ((a, a_is_directory), (b, b_is_directory)) = (a, b);
    let a_is_dot = a_is_directory && a == b".";
    let b_is_dot = b_is_directory && b == b".";
    if a_is_dot || b_is_dot {
        return b_is_dot.cmp(&a_is_dot);
    }
    let common = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let start = a[..common].iter().rposition(|&o| o == b'/').map_or(0, |slash| slash + 1);
    let a_is_final = !a[start..].contains(&b'/');
    let b_is_final = !b[start..].contains(&b'/');
    let a_component_is_directory = !a_is_final || a_is_directory;
    let b_component_is_directory = !b_is_final || b_is_directory;
    if a_component_is_directory != b_component_is_directory {
        return a_component_is_directory.cmp(&b_component_is_directory);
    }
    if !a_component_is_directory {
        return a[start..].cmp(&b[start..]);
    }
    // A directory's own entry has its slash only in this comparison; its contents have it in the name.
    let octet = |name: &[u8]| if common < name.len() { name[common] } else { b'/' };
    octet(a).cmp(&octet(b)).then_with(|| (a.len() > common).cmp(&(b.len() > common)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule as tuples, as the notes' own decoder states it.
    fn key(name: &str, is_directory: bool) -> Vec<(i8, Vec<u8>)> {
        let parts: Vec<&str> = name.split('/').collect();
        let last = parts.len() - 1;
        let part_key = |(at, part): (usize, &&str)| match (at == last, is_directory) {
            (true, true) if *part == "." => (-1, Vec::new()),
            (true, false) => (0, part.as_bytes().to_vec()),
            _ => (1, format!("{part}/").into_bytes()),
        };
        parts.iter().enumerate().map(part_key).collect()
    }

    #[test]
    fn the_fixed_trees_order() {
        let sorted = [
            (".", true),
            ("empty", false),
            ("header.txt", false),
            ("link-to-header", false),
            (".git", true),
            (".git/HEAD", false),
            ("app-misc", true),
            ("app-misc/foo+bar", true),
            ("app-misc/foo+bar/x", false),
            ("app-misc/foo", true),
            ("app-misc/foo/foo-1.0-r1.ebuild", false),
            ("app-misc/foo/foo-1.0.ebuild", false),
            ("sort", true),
            ("sort/a-b", false),
            ("sort/a.b", false),
            ("sort/a0", false),
            ("sort/z", false),
            ("sort/\u{e9}", false),
            ("sort/a", true),
            ("sort/a/inner", false),
            ("sort/b.d", true),
            ("sort/b.d/inner", false),
            ("sort/b", true),
            ("sort/b/inner", false),
            ("sort/c", true),
        ];
        for pair in sorted.windows(2) {
            let [(a, a_dir), (b, b_dir)] = pair else { unreachable!() };
            let order = compare_names((a.as_bytes(), *a_dir), (b.as_bytes(), *b_dir));
            assert_eq!(order, Ordering::Less, "{a} {b}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn agrees_with_the_rule_as_tuples(
            a in "[ab.+-]{1,3}(/[ab.+-]{1,3}){0,3}", a_dir: bool,
            b in "[ab.+-]{1,3}(/[ab.+-]{1,3}){0,3}", b_dir: bool,
        ) {
            // `.` is only ever a whole name.
            let usual = |name: String| name.split('/').map(|part| if part == "." { "x" } else { part }).collect::<Vec<_>>().join("/");
            let (a, b) = (usual(a), usual(b));
            let order = compare_names((a.as_bytes(), a_dir), (b.as_bytes(), b_dir));
            prop_assert_eq!(order, key(&a, a_dir).cmp(&key(&b, b_dir)));
        }
    }
}
