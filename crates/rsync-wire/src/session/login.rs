//! Between a module's name and its `OK`: whether the client may use it, and who it is.

use super::phase::{Challenge, CloseReason, Phase, Selection};
use super::{Command, Session};
use crate::login::{Login, Scheme};
use crate::prologue::{self, Line};
use std::time::Instant;

impl Session {
    /// Answers [`Command::SelectModule`] and [`Command::CheckLogin`].
    pub fn module_selected(&mut self, selection: Selection, now: Instant) {
        if !self.phase.waits_for_admission() {
            return;
        }
        // Waiting for an answer was not the client's doing.
        self.handshake_until += now.saturating_duration_since(self.last_heard);
        match selection {
            Selection::Accepted(grant) => {
                self.grant = grant;
                self.phase = Phase::Arguments { secluded: false };
                self.write_line(prologue::OK);
                self.advance();
            }
            Selection::LogIn(challenge) if matches!(self.phase, Phase::AwaitingModule) => {
                self.challenge(challenge);
                self.advance();
            }
            // There is one attempt.
            Selection::LogIn(_) => self.fail_login(),
            Selection::Refused { line, reason } => {
                self.turn_away(&line, reason);
            }
        }
    }

    fn challenge(&mut self, challenge: Challenge) {
        let Some(scheme) = self.scheme else {
            self.turn_away(&prologue::no_common_digest(), CloseReason::LoginFailed);
            return;
        };
        if challenge.weakest.is_some_and(|weakest| scheme.digest() < weakest) {
            let text = format!("{} is weaker than what the module demands", scheme.digest().as_str());
            self.commands.push_back(Command::Note(text));
            self.fail_login();
            return;
        }
        self.write_line(&prologue::challenge_line(&challenge.text));
        self.phase = Phase::Login { scheme, challenge: challenge.text };
    }

    pub(super) fn login(&mut self, scheme: Scheme, challenge: String) -> bool {
        let line = match prologue::take_line(&self.raw) {
            Line::Whole(line, len) => {
                drop(self.raw.split_to(len));
                line
            }
            Line::Partial => return false,
            Line::Bad => String::new(),
        };
        match Login::parse(&line, scheme, challenge) {
            Some(login) => {
                self.phase = Phase::AwaitingLogin;
                self.commands.push_back(Command::CheckLogin(login));
            }
            None => self.fail_login(),
        }
        false
    }

    fn fail_login(&mut self) {
        let line = prologue::login_failed(&self.module);
        self.turn_away(&line, CloseReason::LoginFailed);
    }
}
