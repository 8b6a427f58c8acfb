//! A client's arguments: what it wants, what we grant, what we refuse by name (section 4).

mod letters;
mod long;
mod paths;

use crate::compress::CompressorKind;
use crate::limits::{ARGUMENT_LEN_MAX, ARGUMENTS_LEN_MAX, ARGUMENTS_MAX};
use crate::sums::ChecksumKind;
use crate::{ExitCode, Protocol, Refusal, WireError};

pub(crate) use paths::join;
pub use paths::{SourcePath, parse_files_from_name, parse_path};

/// The letters after `e`: what the client can do (4.4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Reads the string after `e`, which starts with `.` or a pre-release's version.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let letters = text.iter().filter(|o| o.is_ascii_alphabetic());
        Self(letters.fold(0, |set, &letter| set | Self::bit(letter)))
    }

    /// Whether the client sent this letter.
    #[must_use]
    pub fn has(self, letter: u8) -> bool {
        self.0 & Self::bit(letter) != 0
    }

    fn bit(letter: u8) -> u64 {
        1 << (letter & 0x3F)
    }
}

/// Both names of `--checksum-choice=A,B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChecksumChoice {
    /// After a file's contents.
    pub transfer: ChecksumKind,
    /// In the file list.
    pub list: ChecksumKind,
}

/// Which symbolic links are followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Follow {
    /// `--copy-links`: all.
    pub all: bool,
    /// `--copy-dirlinks`: those to directories.
    pub to_directories: bool,
    /// `--copy-unsafe-links`: those that leave the transfer.
    pub unsafe_ones: bool,
}

impl Follow {
    /// Whether there are any.
    #[must_use]
    pub fn any(self) -> bool {
        self.all || self.to_directories || self.unsafe_ones
    }
}

/// What the options of one request say. What has no effect on a sender is not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is one independent option of the protocol")]
pub struct Options {
    /// The client wants to receive. Without it, it wants to push.
    pub sender: bool,
    /// Descend into directories.
    pub recurse: bool,
    /// Send directories without descending.
    pub dirs: bool,
    /// Send the targets of symbolic links.
    pub links: bool,
    /// Which symbolic links are listed as what they lead to.
    pub follow: Follow,
    /// The patterns that CVS ignores are hidden.
    pub cvs_exclude: bool,
    /// Owners are in the entries.
    pub owner: bool,
    /// Groups are in the entries.
    pub group: bool,
    /// Names of one inode say so.
    pub hard_links: bool,
    /// Times of files are set as they are listed. Only a log wants to know.
    pub times: bool,
    /// A checksum is in every file's entry.
    pub checksum: bool,
    /// Contents are compressed.
    pub compress: bool,
    /// Replies carry no contents.
    pub dry_run: bool,
    /// Names keep their path from the transfer root.
    pub relative: bool,
    /// The parents of a relative name are not wanted; protocol 30 and later send them in any case.
    pub no_implied_dirs: bool,
    /// No id lists.
    pub numeric_ids: bool,
    /// How often `--append` was given.
    pub append: u8,
    /// The client changes its files where they are: blocks that it has overwritten are gone.
    pub in_place: bool,
    /// A list of names follows the filters.
    pub files_from: bool,
    /// Report no listing errors in the list.
    pub ignore_errors: bool,
    /// Say nothing about missing arguments.
    pub ignore_missing_args: bool,
    /// Secluded arguments: a second list follows.
    pub secluded: bool,
    /// What the client can do.
    pub capabilities: Capabilities,
    /// Seconds of silence that the client allows; 0 is any number.
    pub timeout_s: u32,
    /// KiB a second that the client wants at most; 0 is any number.
    pub bandwidth_kib: u32,
    /// The checksums, if chosen.
    pub checksum_choice: Option<ChecksumChoice>,
    /// The compressor, if chosen.
    pub compress_choice: Option<CompressorKind>,
    /// The compressor's level, if chosen.
    pub compress_level: Option<i32>,
    /// The checksum seed, if chosen.
    pub checksum_seed: Option<i32>,
}

/// A request after parsing. A refusal comes with options all the same: what was understood is needed to say
/// it in the client's form (12.2).
#[derive(Debug, Default)]
pub struct Arguments {
    /// The options.
    pub options: Options,
    /// The path arguments, as they came: module name first.
    pub paths: Vec<Vec<u8>>,
    /// The first wish that is not granted.
    pub refusal: Option<Refusal>,
}

impl Arguments {
    /// Reads whole lists of arguments; `secluded` says that the list is the second, unescaped one (4.2).
    pub fn read(&mut self, list: &[Vec<u8>], secluded: bool) {
        let mut list = list.iter();
        if secluded {
            // A placeholder for the name of the program.
            let _name = list.next();
        }
        while let Some(argument) = list.next() {
            if !secluded && self.options.secluded && !argument.starts_with(b"-") {
                // At protocol 29 clients say it all twice, with a `(null)` between.
                return;
            }
            if argument == b"." {
                self.paths.extend(list.cloned());
                return;
            }
            let argument = if secluded { argument.clone() } else { unescape(argument) };
            let read = match argument.strip_prefix(b"-") {
                Some([b'-', ..]) => {
                    let mut next = || list.next().cloned();
                    long::read(&mut self.options, &argument, &mut next)
                }
                Some(letters) => letters::read(&mut self.options, letters),
                None => Err(unknown_option(&argument)),
            };
            if let Err(refusal) = read {
                self.refusal.get_or_insert(refusal);
            }
        }
    }

    /// What can only be said when all is read.
    pub fn finish(&mut self) {
        if !self.options.sender {
            // A push is refused as such, whatever else it asks for.
            self.refusal = Some(Refusal::new(ExitCode::Usage, "ERROR: module is read only"));
        }
    }
}

/// Options escape what a shell would take: each backslash before another octet goes away (4.1).
fn unescape(argument: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(argument.len());
    let mut octets = argument.iter();
    while let Some(&octet) = octets.next() {
        out.push(match octet {
            b'\\' => octets.next().copied().unwrap_or(octet),
            octet => octet,
        });
    }
    out
}

fn unknown_option(option: &[u8]) -> Refusal {
    let shown = crate::error::printable(&option[..option.len().min(100)]);
    Refusal::new(ExitCode::Unsupported, format!("rsync: {shown}: unknown option"))
}

fn refused_option(option: &str, why: &str) -> Refusal {
    Refusal::new(ExitCode::Unsupported, format!("rsync: This server refuses {option}: {why}"))
}

/// The whole list, once its end has come.
type WholeList = Option<Vec<Vec<u8>>>;

/// How arguments end on the wire (4.1); an empty one ends the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgumentFraming {
    /// With a NUL.
    Nul,
    /// With a line end: before protocol 30, and there only the first list.
    Lines,
}

impl ArgumentFraming {
    /// That of a list of arguments of a connection.
    #[must_use]
    pub fn of(protocol: Protocol, secluded: bool) -> Self {
        if protocol < Protocol::V30 && !secluded { Self::Lines } else { Self::Nul }
    }

    fn ends(self, octet: u8) -> bool {
        match self {
            Self::Nul => octet == 0,
            Self::Lines => matches!(octet, b'\n' | b'\r'),
        }
    }
}

/// Collects one list of arguments from the stream.
#[derive(Debug, Default)]
pub struct ArgumentList {
    arguments: Vec<Vec<u8>>,
    octets: usize,
}

impl ArgumentList {
    /// Takes one argument off `octets`. Gives how many octets it took and the whole list at its end.
    ///
    /// # Errors
    /// [`WireError::Short`] without an end, or a limit.
    pub fn take(&mut self, octets: &[u8], framing: ArgumentFraming) -> Result<(usize, WholeList), WireError> {
        let head = &octets[..octets.len().min(ARGUMENT_LEN_MAX + 1)];
        let Some(end) = head.iter().position(|&o| framing.ends(o)) else {
            if head.len() > ARGUMENT_LEN_MAX {
                return Err(WireError::Limit { what: "an argument's length", limit: ARGUMENT_LEN_MAX });
            }
            return Err(WireError::Short);
        };
        if end == 0 {
            return Ok((1, Some(std::mem::take(&mut self.arguments))));
        }
        self.octets += end + 1;
        if self.octets > ARGUMENTS_LEN_MAX {
            return Err(WireError::Limit { what: "the arguments' length", limit: ARGUMENTS_LEN_MAX });
        }
        if self.arguments.len() >= ARGUMENTS_MAX {
            return Err(WireError::Limit { what: "the number of arguments", limit: ARGUMENTS_MAX });
        }
        self.arguments.push(octets[..end].to_vec());
        Ok((end + 1, None))
    }
}

#[cfg(test)]
mod tests;
