//! Manifests over a whole tree, as Gentoo's own has them: one in each package, category and category of the metadata
//! cache, and the signed one at the top.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use blake2::{Blake2b512, Digest as _};
use sha2::Sha512;

use crate::Outcome;

const CACHE: &str = "metadata/md5-cache";

/// A key that `GnuPG` made for this run.
pub(crate) struct Signer {
    home: PathBuf,
    key: PathBuf,
}

impl Signer {
    pub(crate) fn new(home: &Path) -> Outcome<Self> {
        fs::create_dir_all(home)?;
        let signer = Self { home: home.to_owned(), key: home.join("key.asc") };
        signer.gpg(&["--passphrase", "", "--quick-generate-key", "bench", "ed25519", "sign", "never"])?;
        let key = signer.key.display().to_string();
        signer.gpg(&["--armor", "--output", &key, "--export"])?;
        Ok(signer)
    }

    pub(crate) fn key(&self) -> &Path {
        &self.key
    }

    fn gpg(&self, arguments: &[&str]) -> Outcome<()> {
        let output = Command::new("gpg")
            .args(["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", "--homedir"])
            .arg(&self.home)
            .args(arguments)
            .output()?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
    }

    fn sign(&self, top: &Path) -> Outcome<()> {
        let (text, signed) = (top.display().to_string(), self.home.join("signed"));
        self.gpg(&["--output", &signed.display().to_string(), "--clearsign", &text])?;
        fs::copy(signed, top)?;
        Ok(())
    }
}

/// The directories of all packages.
pub(crate) fn packages(tree: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for category in directories(tree)?.into_iter().filter(|path| is_category(path)) {
        found.extend(directories(&category)?);
    }
    Ok(found)
}

fn is_category(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name == "virtual" || (name.contains('-') && !name.starts_with('.'))
}

fn directories(path: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Writes every Manifest. Symbolic links go: no Manifest can cover one.
pub(crate) fn cover_all(tree: &Path, signer: &Signer, seconds: i64) -> Outcome<()> {
    remove_links(tree)?;
    for package in packages(tree)? {
        cover_package(&package)?;
    }
    let categories = directories(tree)?.into_iter().filter(|path| is_category(path));
    for directory in categories.chain(directories(&tree.join(CACHE))?) {
        cover_directory(&directory)?;
    }
    cover_top(tree, signer, seconds)
}

/// Writes the Manifests above changed ebuilds and gives the octets that were written.
pub(crate) fn cover_changed(tree: &Path, ebuilds: &[&Path], signer: &Signer, seconds: i64) -> Outcome<u64> {
    let packages: BTreeSet<&Path> = ebuilds.iter().filter_map(|path| path.parent()).collect();
    let categories: BTreeSet<&Path> = packages.iter().filter_map(|path| path.parent()).collect();
    for package in &packages {
        cover_package(package)?;
    }
    for category in &categories {
        cover_directory(category)?;
    }
    cover_top(tree, signer, seconds)?;
    let directories = packages.into_iter().chain(categories).chain([tree]);
    Ok(directories.map(|path| fs::metadata(path.join("Manifest")).map_or(0, |file| file.len())).sum())
}

fn remove_links(directory: &Path) -> Outcome<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            fs::remove_file(entry.path())?;
        } else if kind.is_dir() {
            remove_links(&entry.path())?;
        }
    }
    Ok(())
}

fn cover_package(package: &Path) -> Outcome<()> {
    let manifest = package.join("Manifest");
    let old = fs::read_to_string(&manifest).unwrap_or_default();
    let mut text: String =
        old.lines().filter(|line| line.starts_with("DIST ")).flat_map(|line| [line, "\n"]).collect();
    for file in files(package)? {
        let path = file.strip_prefix(package)?.to_string_lossy().into_owned();
        match (path.strip_prefix("files/"), path.as_str()) {
            (_, "Manifest") => {}
            (Some(below), _) => line(&mut text, "AUX", below, &file)?,
            (None, ebuild) if ebuild.ends_with(".ebuild") => line(&mut text, "EBUILD", ebuild, &file)?,
            (None, other) => line(&mut text, "MISC", other, &file)?,
        }
    }
    Ok(fs::write(manifest, text)?)
}

/// Of a category, or a category of the cache.
fn cover_directory(directory: &Path) -> Outcome<()> {
    let mut text = String::new();
    for package in directories(directory)? {
        let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
        line(&mut text, "MANIFEST", &format!("{name}/Manifest"), &package.join("Manifest"))?;
    }
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && name != "Manifest" {
            line(&mut text, "DATA", &name, &path)?;
        }
    }
    Ok(fs::write(directory.join("Manifest"), text)?)
}

fn cover_top(tree: &Path, signer: &Signer, seconds: i64) -> Outcome<()> {
    let mut text = "IGNORE metadata/timestamp.chk\n".to_owned();
    for directory in directories(tree)?.into_iter().filter(|path| is_category(path)) {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        line(&mut text, "MANIFEST", &format!("{name}/Manifest"), &directory.join("Manifest"))?;
    }
    for directory in directories(&tree.join(CACHE))? {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        line(&mut text, "MANIFEST", &format!("{CACHE}/{name}/Manifest"), &directory.join("Manifest"))?;
    }
    let others = directories(tree)?.into_iter().filter(|path| !is_category(path));
    let loose = fs::read_dir(tree)?.map(|entry| entry.map(|entry| entry.path()));
    let loose: Vec<PathBuf> = loose.collect::<Result<_, _>>()?;
    for file in
        others.map(|path| files(&path)).collect::<Outcome<Vec<_>>>()?.into_iter().flatten().chain(loose)
    {
        let path = file.strip_prefix(tree)?.to_string_lossy().into_owned();
        let below_cache = path.strip_prefix(CACHE).is_some_and(|below| below.matches('/').count() > 1);
        let skipped = path == "Manifest" || path == "metadata/timestamp.chk" || path.starts_with('.');
        if file.is_file() && !skipped && !below_cache {
            line(&mut text, "DATA", &path, &file)?;
        }
    }
    writeln!(text, "TIMESTAMP {}", gentoo_repo::timestamp::format_manifest(seconds))?;
    let top = tree.join("Manifest");
    fs::write(&top, text)?;
    signer.sign(&top)
}

/// Every file at or below a directory, but those that start with a dot.
fn files(directory: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn line(text: &mut String, tag: &str, name: &str, file: &Path) -> Outcome<()> {
    let octets = fs::read(file)?;
    let name = name.replace('\\', "\\x5C").replace(' ', "\\x20");
    let (blake2b, sha512) = (Blake2b512::digest(&octets), Sha512::digest(&octets));
    let (blake2b, sha512) = (hex::encode(blake2b), hex::encode(sha512));
    Ok(writeln!(text, "{tag} {name} {} BLAKE2B {blake2b} SHA512 {sha512}", octets.len())?)
}
