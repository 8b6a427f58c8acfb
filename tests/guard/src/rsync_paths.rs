//! The file list: encoded once for a generation, sent to everybody.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use rsync_wire::memory::MemoryTree;
use rsync_wire::options::parse_path;
use rsync_wire::session::{Grant, Selection};
use rsync_wire::{Command, FileList, ListPlan, Session, SessionConfig};

const ENCODED_FILES: u32 = 400;
/// Enough that a copy of the list costs more than all the words before it.
const SERVED_FILES: u32 = 20_000;

/// What a client with Portage's options says up to the end of its filters, compression left out.
const HELLO: &[u8] =
    b"@RSYNCD: 31.0\nm\n--server\0--sender\0-lWtpre.LsfxC\0--timeout=180\0.\0m/\0\0\x04\0\0\x07\0\0\0\0";

fn tree(files: u32) -> MemoryTree {
    let mut tree = MemoryTree::new(0);
    for number in 0..files {
        let package = number / 8;
        let path = format!("category-{}/package-{package}/package-{package}-{number}.ebuild", package / 100);
        tree.file(&path, b"EAPI=8\n", 0o644, (1_700_000_000 + i64::from(number * 37), 0));
    }
    tree
}

pub(crate) fn encode_list(times: u32) -> Result<()> {
    let tree = tree(ENCODED_FILES);
    let source = parse_path("m", b"m/", false)?;
    let plan =
        ListPlan { module: "m".to_owned(), sources: vec![source], recurse: true, ..ListPlan::default() };
    for _ in 0..times {
        black_box(black_box(&plan).build(&tree)?);
    }
    Ok(())
}

pub(crate) fn serve_cached_list(times: u32) -> Result<()> {
    let tree = tree(SERVED_FILES);
    let now = Instant::now();
    let mut list = None;
    // The first one makes it.
    for _ in 0..=times {
        black_box(serve(&tree, &mut list, now)?);
    }
    Ok(())
}

/// A session up to the moment when its list is on its way: how many octets it was told to write.
fn serve(tree: &MemoryTree, list: &mut Option<Arc<FileList>>, now: Instant) -> Result<usize> {
    let mut session = Session::new(SessionConfig { motd: String::new(), seed: 1 }, now);
    session.handle_input(HELLO, now);
    let mut written = 0;
    while let Some(command) = session.poll() {
        match command {
            Command::Write(octets) => {
                written += octets.len();
                session.handle_written(octets.len(), now);
                if list.as_ref().is_some_and(|list| octets.len() == list.frames().len()) {
                    return Ok(written);
                }
            }
            Command::SelectModule(_) => {
                session.module_selected(Selection::Accepted(Grant::default()), now);
            }
            Command::BuildList(plan) => {
                let built = match list.take() {
                    Some(list) => list,
                    None => Arc::new(plan.build(tree)?),
                };
                session.list_built(Ok(Arc::clone(list.insert(built))), now);
            }
            Command::Close(reason) => bail!("closed: {}", reason.as_str()),
            Command::ListModules | Command::CheckLogin(_) | Command::SendFiles(_) | Command::Note(_) => {}
        }
    }
    None.context("the list was never sent")
}
