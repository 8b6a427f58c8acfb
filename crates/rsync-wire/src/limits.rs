//! Every bound on what a peer controls (section 14).

use std::time::Duration;

/// A greeting or a request line, without its line end.
pub const LINE_LEN_MAX: usize = 1022;
/// Octets of early input, which are read and dropped.
pub const EARLY_INPUT_LEN_MAX: usize = 5120;
/// One argument.
pub const ARGUMENT_LEN_MAX: usize = 4095;
/// Arguments of one request, both lists of secluded arguments together.
pub const ARGUMENTS_MAX: usize = 1024;
/// Octets of all arguments together.
pub const ARGUMENTS_LEN_MAX: usize = 256 * 1024;
/// A list of names in the negotiation.
pub const NAMES_LEN_MAX: usize = 255;
/// A frame other than DATA from a client.
pub const MESSAGE_LEN_MAX: usize = 5119;
/// One filter rule.
pub const RULE_LEN_MAX: usize = 1023;
/// Filter rules of one connection.
pub const RULES_MAX: usize = 4096;
/// A file of filter rules in a tree.
pub const MERGE_FILE_LEN_MAX: usize = 64 * 1024;
/// Directories that one list reaches through symbolic links.
pub const LINKED_DIRECTORIES_MAX: usize = 10_000;
/// Symbolic links on one way.
pub const LINKS_MAX: usize = 40;
/// Wildcards in one filter rule.
pub const RULE_WILDCARDS_MAX: usize = 64;
/// Steps that all filter rules and wildcards of one list may take together: some seconds of one core.
pub const MATCH_STEPS_MAX: u64 = 1 << 31;
/// Results of the wildcards in all arguments together.
pub const WILDCARD_RESULTS_MAX: usize = 10_000;
/// One name of a list of files.
pub const FILES_FROM_NAME_LEN_MAX: usize = 4095;
/// Names in a list of files.
pub const FILES_FROM_NAMES_MAX: usize = 1_000_000;
/// Octets of a list of files.
pub const FILES_FROM_LEN_MAX: usize = 64 * 1024 * 1024;
/// A name in the file list.
pub const NAME_LEN_MAX: usize = 4095;
/// Block sums of one request that are kept for matching; longer ones are read and dropped.
pub const BLOCK_SUMS_KEPT_MAX: u64 = 2 * 1024 * 1024;
/// Block sums of the requests that wait for their reply; above it the rest stays unread.
pub const BLOCK_SUMS_WAITING_MAX: usize = 1024 * 1024;
/// Block sums of one request at all.
pub const BLOCK_SUMS_LEN_MAX: u64 = 64 * 1024 * 1024;
/// The block length of protocol 30 and later.
pub const BLOCK_LEN_MAX: i32 = 131_072;
/// The block length of protocol 29.
pub const BLOCK_LEN_MAX_29: i32 = 1 << 29;
/// One value of the deletion statistics.
pub const DELETIONS_MAX: i32 = 1 << 28;
/// Requests that wait for their reply; the rest stays unread.
pub const REQUESTS_WAITING_MAX: usize = 1024;
/// Octets of input that are kept; above it the socket is not read.
pub const INPUT_LEN_MAX: usize = 256 * 1024;
/// A text to the client, below the 1024 octets that are sent at most.
pub const TEXT_LEN_MAX: usize = 900;
/// The payload of a DATA frame, and one literal of the plain token form: some clients abort above it.
pub const DATA_LEN_MAX: usize = 32 * 1024;
/// Octets that one batch of replies may produce before it returns.
pub const BATCH_LEN_MAX: usize = 256 * 1024;
/// One read of contents.
pub const READ_LEN_MAX: usize = 128 * 1024;
/// Octets of a file whose reply is made as a whole, to be kept: all of a repository of ebuilds is smaller.
pub const MADE_LEN_MAX: usize = 4 << 20;

/// Greeting, request and arguments together.
pub const HANDSHAKE_MAX: Duration = Duration::from_mins(1);
/// Silence on both sides when no timeout was agreed.
pub const IDLE_MAX: Duration = Duration::from_mins(10);
/// How long a client may take to close after the last word to it.
pub const LINGER_MAX: Duration = Duration::from_secs(2);
/// How long a client may take to report an empty list back.
pub const EMPTY_LIST_MAX: Duration = Duration::from_secs(5);

/// How often the files of a list may be asked for: twice each and some more. A client could ask for
/// the same one forever otherwise.
#[must_use]
pub fn transfers_max(entries: usize) -> usize {
    entries.saturating_mul(2).saturating_add(64)
}
