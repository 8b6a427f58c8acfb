//! Rebuilds when a migration is added: the embedding macro only notices changes to files that it has seen.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
