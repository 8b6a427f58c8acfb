//! Where a distfile lies on a mirror (GLEP 75, "Split distfile mirror directory structure").

use blake2::{Blake2b512, Digest as _};

use crate::DistfileName;

/// The two hexadecimal digits of the directory that holds `name` under `filename-hash BLAKE2B 8`.
#[must_use]
pub fn hash_directory(name: &DistfileName) -> String {
    hex::encode(&Blake2b512::digest(name.as_str().as_bytes())[..1])
}

/// The path of `name` below `distfiles/` under `filename-hash BLAKE2B 8`: `ab/foo-1.tar.gz`.
///
/// It is a path, not a URL: the name is not percent-encoded.
#[must_use]
pub fn hash_path(name: &DistfileName) -> String {
    format!("{}/{name}", hash_directory(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_what_b2sum_prints_first() {
        // printf %s NAME | b2sum | cut -c1-2.
        for (name, directory) in
            [("foo-1.tar.gz", "1b"), ("gtk+-3.24.41.tar.xz", "b1"), ("a%2Fb@1.tgz", "e2")]
        {
            let name: DistfileName = name.parse().unwrap();
            assert_eq!(hash_path(&name), format!("{directory}/{name}"));
        }
    }
}
