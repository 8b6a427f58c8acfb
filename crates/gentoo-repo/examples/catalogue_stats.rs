//! Reads a repository directory and prints what its catalogue holds.
//!
//! `cargo run --release -p gentoo-repo --example catalogue_stats -- REPOSITORY [THIRDPARTYMIRRORS…]`; the further
//! files are the mirror lists of the repository's masters. `--sources` before them prints every source instead.
#![allow(clippy::print_stdout, reason = "printing is what this example is for")]

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs, io};

use gentoo_repo::{Catalogue, CatalogueBuilder, Fault, Restriction, layout_conf, timestamp};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments: Vec<_> = env::args_os().skip(1).collect();
    let lists_sources = arguments.iter().position(|argument| argument == "--sources");
    if let Some(at) = lists_sources {
        arguments.remove(at);
    }
    let [root, masters @ ..] = arguments.as_slice() else {
        return Err("usage: catalogue_stats [--sources] REPOSITORY [THIRDPARTYMIRRORS…]".into());
    };
    let root = Path::new(root);
    let mut builder = CatalogueBuilder::new();
    for list in masters {
        builder.add_thirdpartymirrors(&fs::read(list)?);
    }
    if let Ok(list) = fs::read(root.join("profiles/thirdpartymirrors")) {
        builder.add_thirdpartymirrors(&list);
    }
    let manifests = add_manifests(&mut builder, root)?;
    let entries = add_cache(&mut builder, &root.join("metadata/md5-cache"))?;
    let (catalogue, faults) = builder.finish();
    if lists_sources.is_some() {
        for distfile in catalogue.distfiles.values() {
            println!("{} {} {}", distfile.name, distfile.restriction.as_str(), distfile.sources.join(" "));
        }
        return Ok(());
    }
    if let Ok(time) = fs::read(root.join("metadata/timestamp.chk")) {
        println!("timestamp            {}", timestamp::format_chk(timestamp::parse_chk(&time)?));
    }
    if let Ok(conf) = fs::read(root.join("metadata/layout.conf")) {
        let conf = layout_conf::parse(&conf)?;
        println!("masters              {}", conf.masters.unwrap_or_default().join(" "));
    }
    println!("Manifests            {manifests}\ncache entries        {entries}");
    print_catalogue(&catalogue, &faults);
    Ok(())
}

fn print_catalogue(catalogue: &Catalogue, faults: &[Fault]) {
    let distfiles = || catalogue.distfiles.values();
    let restricted = |restriction| distfiles().filter(|distfile| distfile.restriction == restriction).count();
    println!("distfiles            {}", distfiles().len());
    println!("bytes                {}", distfiles().map(|distfile| distfile.size_bytes).sum::<u64>());
    println!("without source       {}", catalogue.without_source());
    println!("sources              {}", distfiles().map(|distfile| distfile.sources.len()).sum::<usize>());
    println!(
        "most sources         {}",
        distfiles().map(|distfile| distfile.sources.len()).max().unwrap_or(0)
    );
    println!("RESTRICT=mirror      {}", restricted(Restriction::Mirror));
    println!("RESTRICT=fetch       {}", restricted(Restriction::Fetch));
    let mut kinds: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for fault in faults {
        kinds.entry(fault.kind).or_default().push(fault);
    }
    for (kind, faults) in kinds {
        println!("fault {:<22} {:>5}", kind.as_str(), faults.len());
        for fault in faults.iter().take(3) {
            println!("    {}: {}", fault.path, fault.detail);
        }
    }
}

fn add_manifests(builder: &mut CatalogueBuilder, root: &Path) -> io::Result<usize> {
    let mut count = 0;
    for (category, directory) in directories(root)? {
        for (package, directory) in directories(&directory)? {
            if let Ok(manifest) = fs::read(directory.join("Manifest")) {
                builder.add_manifest(&category, &package, &manifest);
                count += 1;
            }
        }
    }
    Ok(count)
}

fn add_cache(builder: &mut CatalogueBuilder, root: &Path) -> io::Result<usize> {
    let mut count = 0;
    if !root.is_dir() {
        return Ok(0);
    }
    for (category, directory) in directories(root)? {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let pf = entry.file_name();
            if pf != "Manifest.gz" {
                builder.add_cache_entry(&category, &pf.to_string_lossy(), &fs::read(entry.path())?);
                count += 1;
            }
        }
    }
    Ok(count)
}

fn directories(parent: &Path) -> io::Result<Vec<(String, std::path::PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    Ok(found)
}
