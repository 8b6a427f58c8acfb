//! The long options (4.5).

use super::{ChecksumChoice, Options, refused_option, unknown_option};
use crate::compress::CompressorKind;
use crate::sums::ChecksumKind;
use crate::{ExitCode, Refusal};

/// Accepted without effect: they act on the receiver only, or say how to do what we do in our own way.
const IGNORED: [&str; 10] = [
    "--safe-links",
    "--specials",
    "--no-specials",
    "--list-only",
    "--partial",
    "--open-noatime",
    "--msgs2stderr",
    "--no-msgs2stderr",
    "--use-qsort",
    "--stats",
];

/// Likewise, with a value: after `=`, or in the next argument.
const IGNORED_WITH_VALUE: [&str; 14] = [
    "--skip-compress",
    "--compress-threads",
    "--info",
    "--debug",
    "--log-format",
    "--max-alloc",
    "--suffix",
    "--backup-dir",
    "--temp-dir",
    "--partial-dir",
    "--compare-dest",
    "--copy-dest",
    "--link-dest",
    "--block-size",
];

const REFUSED: [(&str, &str); 9] = [
    ("--iconv", "names are sent as they are"),
    ("--copy-devices", "there are no devices"),
    ("--write-devices", "there are no devices"),
    ("--insecure-links", "links are never followed"),
    ("--delete-missing-args", "name what there is"),
    ("--daemon", "this is one"),
    ("--config", "it is the server's own"),
    ("--log-file", "it is the server's own"),
    ("--log-file-format", "it is the server's own"),
];

/// Reads one long option, with its dashes. `next` gives the argument after it.
pub(super) fn read(
    options: &mut Options,
    argument: &[u8],
    next: &mut dyn FnMut() -> Option<Vec<u8>>,
) -> Result<(), Refusal> {
    let text = std::str::from_utf8(argument).map_err(|_| unknown_option(argument))?;
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    if read_flag(options, name) || IGNORED.contains(&name) {
        return Ok(());
    }
    if IGNORED_WITH_VALUE.contains(&name) {
        if value.is_none() {
            drop(next());
        }
        return Ok(());
    }
    if let Some((name, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Err(refused_option(name, why));
    }
    if name == "--remove-source-files" || name == "--remove-sent-files" {
        let text = format!("ERROR: {name} cannot be used with a read-only module");
        return Err(Refusal::new(ExitCode::Usage, text));
    }
    if !VALUED.contains(&name) {
        return Err(unknown_option(argument));
    }
    let from_next = if value.is_none() { next() } else { None };
    let from_next = from_next.map(|octets| String::from_utf8_lossy(&octets).into_owned());
    let value = value.or(from_next.as_deref()).unwrap_or("");
    read_valued(options, name, value).ok_or_else(|| {
        let shown = crate::error::printable(value.as_bytes());
        refused_option(
            name,
            &format!("'{}' is not a value for it", &shown.chars().take(100).collect::<String>()),
        )
    })
}

fn read_flag(options: &mut Options, name: &str) -> bool {
    match name {
        // Names of a list always end with a NUL on the wire.
        "--server" | "--from0" => {}
        "--sender" => options.sender = true,
        "--append" => options.append = options.append.saturating_add(1),
        "--numeric-ids" => options.numeric_ids = true,
        "--no-relative" | "--no-R" => options.relative = false,
        "--copy-unsafe-links" => options.follow.unsafe_ones = true,
        "--inplace" => options.in_place = true,
        "--relative" => options.relative = true,
        "--no-implied-dirs" => options.no_implied_dirs = true,
        "--no-r" | "--no-recursive" => options.recurse = false,
        "--dirs" => options.dirs = true,
        "--no-dirs" | "--no-d" => options.dirs = false,
        "--ignore-errors" => options.ignore_errors = true,
        "--ignore-missing-args" => options.ignore_missing_args = true,
        "--new-compress" => choose_compressor(options, CompressorKind::Zlibx),
        "--old-compress" => choose_compressor(options, CompressorKind::Zlib),
        _ => return false,
    }
    true
}

fn choose_compressor(options: &mut Options, kind: CompressorKind) {
    options.compress = true;
    options.compress_choice = Some(kind);
}

const VALUED: [&str; 7] = [
    "--timeout",
    "--bwlimit",
    "--checksum-choice",
    "--compress-choice",
    "--compress-level",
    "--checksum-seed",
    "--files-from",
];

/// `None` if the value is none for this option.
fn read_valued(options: &mut Options, name: &str, value: &str) -> Option<()> {
    match name {
        "--timeout" => options.timeout_s = value.parse().ok()?,
        "--bwlimit" => options.bandwidth_kib = value.parse().ok()?,
        "--compress-level" => options.compress_level = Some(value.parse().ok()?),
        "--checksum-seed" => options.checksum_seed = Some(value.parse().ok()?),
        // A choice turns the negotiation off even if it is refused: the client sends no names.
        "--compress-choice" => {
            let choice = CompressorKind::from_name(value);
            choose_compressor(options, choice.unwrap_or(CompressorKind::None));
            choice?;
        }
        "--checksum-choice" => {
            let (transfer, list) = value.split_once(',').unwrap_or((value, value));
            let (transfer, list) = (ChecksumKind::from_name(transfer), ChecksumKind::from_name(list));
            let or_none = |kind: Option<ChecksumKind>| kind.unwrap_or(ChecksumKind::None);
            options.checksum_choice =
                Some(ChecksumChoice { transfer: or_none(transfer), list: or_none(list) });
            transfer.and(list)?;
        }
        // Any other value would read a file of the server's.
        "--files-from" if value == "-" => {
            options.files_from = true;
            options.dirs = true;
            options.relative = true;
        }
        _ => return None,
    }
    Some(())
}
