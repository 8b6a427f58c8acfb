//! The server's side of a talk: a session, and its owner, who is as fast as the test lets it.

use rsync_wire::memory::MemoryTree;
use rsync_wire::session::{Grant, Selection};
use rsync_wire::{CloseReason, Command, Session, SessionConfig};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// A session and what it said so far.
pub struct Talk<'a> {
    pub session: Session,
    pub said: Vec<u8>,
    pub closed: Option<CloseReason>,
    pub now: Instant,
    tree: &'a MemoryTree,
    grant: Grant,
    /// Commands that were taken over but not carried out.
    waiting: VecDeque<Command>,
}

impl<'a> Talk<'a> {
    pub fn new(tree: &'a MemoryTree, seed: i32, grant: Grant) -> Self {
        let now = Instant::now();
        let session = Session::new(SessionConfig { motd: String::new(), seed }, now);
        Self { session, said: Vec::new(), closed: None, now, tree, grant, waiting: VecDeque::new() }
    }

    pub fn hear(&mut self, octets: &[u8]) {
        self.session.handle_input(octets, self.now);
        self.carry_out();
    }

    /// All that the session commands.
    pub fn carry_out(&mut self) {
        while let Some(command) = self.waiting.pop_front().or_else(|| self.session.poll()) {
            self.obey(command);
        }
    }

    /// Up to the list and the contents, which take a while.
    pub fn begin_to_carry_out(&mut self) {
        while self.waiting.is_empty()
            && let Some(command) = self.session.poll()
        {
            if matches!(command, Command::BuildList(_) | Command::SendFiles(_)) {
                self.waiting.push_back(command);
            } else {
                self.obey(command);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Write(octets) => {
                self.session.handle_written(octets.len(), self.now);
                self.said.extend_from_slice(&octets);
            }
            Command::ListModules => self.session.modules_listed([("portage", "test portage tree")]),
            Command::SelectModule(_) => {
                let selection = Selection::Accepted(self.grant.clone());
                self.session.module_selected(selection, self.now);
            }
            Command::CheckLogin(login) => panic!("nobody asked for {login:?}"),
            Command::BuildList(plan) => {
                let built = plan.build(self.tree).map(Arc::new);
                self.session.list_built(built, self.now);
            }
            Command::SendFiles(mut batch) => {
                batch.run(self.tree);
                self.session.batch_done(*batch);
            }
            Command::Note(_) => {}
            Command::Close(reason) => self.closed = Some(reason),
        }
    }
}

/// All that a session says to a client that says all of `octets`, `step` at a time, and then closes.
pub fn answer(
    tree: &MemoryTree,
    seed: i32,
    timeout_s: u32,
    octets: &[u8],
    step: usize,
) -> (Vec<u8>, CloseReason) {
    let grant = Grant { timeout_s, ..Grant::default() };
    finish(Talk::new(tree, seed, grant), octets, step)
}

/// The same of a module that grants this, all at once.
pub fn answer_with(tree: &MemoryTree, grant: Grant, octets: &[u8]) -> (Vec<u8>, CloseReason) {
    finish(Talk::new(tree, 1, grant), octets, octets.len())
}

fn finish(mut talk: Talk<'_>, octets: &[u8], step: usize) -> (Vec<u8>, CloseReason) {
    for piece in octets.chunks(step) {
        talk.hear(piece);
    }
    talk.session.handle_end_of_input();
    talk.carry_out();
    (talk.said, talk.closed.expect("the session did not end"))
}
