//! The crate's one error type, and what a client is told.

/// Why a connection can't go on, or why a value could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The value goes on beyond the octets at hand. Read again when there are more.
    #[error("more octets are needed")]
    Short,
    /// The peer sent something that the protocol does not allow.
    #[error("protocol error: {0}")]
    Malformed(&'static str),
    /// The peer went beyond one of [`crate::limits`].
    #[error("{what} is above the limit of {limit}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// How much of it is allowed.
        limit: usize,
    },
    /// A well-formed wish that this server does not grant.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// A compressor failed.
    #[error("compression failed: {0}")]
    Compression(String),
}

impl WireError {
    /// What to tell the client about it.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal.clone(),
            Self::Short | Self::Malformed(_) | Self::Limit { .. } => {
                Refusal::new(ExitCode::Protocol, format!("rsync: [sender] {self}"))
            }
            Self::Compression(_) => Refusal::new(ExitCode::DataStream, format!("rsync: [sender] {self}")),
        }
    }
}

/// The exit codes that a client can be told to end with (12.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Syntax, usage, or something forbidden.
    Usage,
    /// The protocol was violated.
    Protocol,
    /// The selection of files is not possible.
    Selection,
    /// An option is not supported here.
    Unsupported,
    /// A file that the request needs can't be read.
    FileIo,
    /// The data stream broke.
    DataStream,
}

impl ExitCode {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::Usage => 1,
            Self::Protocol => 2,
            Self::Selection => 3,
            Self::Unsupported => 4,
            Self::FileIo => 11,
            Self::DataStream => 12,
        }
    }
}

/// A text and an exit code for the client. The text has no line end and no control characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} (exit {})", code.number())]
pub struct Refusal {
    code: ExitCode,
    text: String,
}

impl Refusal {
    /// A refusal; control characters in `text` are replaced and its length is bounded.
    #[must_use]
    pub fn new(code: ExitCode, text: impl AsRef<str>) -> Self {
        Self { code, text: printable(text.as_ref().as_bytes()) }
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> ExitCode {
        self.code
    }

    /// The text, without a line end.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Makes octets from a peer fit for a log line or a message: control characters and invalid UTF-8
/// become `?`, and the text is cut at [`crate::limits::TEXT_LEN_MAX`].
#[must_use]
pub(crate) fn printable(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().min(256));
    for c in String::from_utf8_lossy(octets).chars() {
        if text.len() >= crate::limits::TEXT_LEN_MAX {
            break;
        }
        text.push(match c {
            c if c.is_control() => '?',
            char::REPLACEMENT_CHARACTER => '?',
            c => c,
        });
    }
    text
}
