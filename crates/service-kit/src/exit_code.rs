//! What the process's exit code tells.
//!
//! | code | meaning | a supervisor should |
//! | --- | --- | --- |
//! | 0 | stopped as asked: all work under way was finished or handed over | nothing |
//! | 1 | the start failed, or a command did what it could and failed; the reason is the last line on standard error | restart later |
//! | 2 | the command line is wrong (said by the argument parser) | not restart |
//! | 64 | the configuration is wrong: file or variable, key and expectation are on standard error | not restart |
//! | 69 | an address can't be listened on: in use, not this host's, or not permitted | restart later |
//! | 70 | a task that the process can't do without failed or panicked | restart |
//! | 75 | stopped hard: a second signal came, or work was left when the grace time was over | nothing |

use std::process::ExitCode;

/// Why the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Stopped as asked.
    Clean,
    /// The start, or a command, failed.
    Failed,
    /// The configuration is wrong.
    Config,
    /// An address can't be listened on.
    Unavailable,
    /// A critical task failed or panicked.
    Crashed,
    /// A second signal, or the grace time was over.
    Hard,
}

impl Exit {
    /// The code, as in this module's table.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Failed => 1,
            Self::Config => 64,
            Self::Unavailable => 69,
            Self::Crashed => 70,
            Self::Hard => 75,
        }
    }

    /// The code that an error deserves: it knows wrong configurations and addresses that can't be bound, at
    /// any depth of the chain.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if cause.is::<crate::config::ConfigError>() {
                return Self::Config;
            }
            if cause.is::<crate::listen::BindError>() {
                return Self::Unavailable;
            }
            if let Some(io) = cause.downcast_ref::<std::io::Error>()
                && matches!(io.kind(), std::io::ErrorKind::AddrInUse | std::io::ErrorKind::AddrNotAvailable)
            {
                return Self::Unavailable;
            }
        }
        Self::Failed
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
