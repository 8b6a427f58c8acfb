//! What both sides agree on after the arguments (section 5).

use crate::codec::{Reader, put_vstring};
use crate::compress::CompressorKind;
use crate::limits::NAMES_LEN_MAX;
use crate::options::{Capabilities, Options};
use crate::sums::ChecksumKind;
use crate::{ExitCode, Protocol, Refusal, WireError};

/// The compatibility flags (5.2). Incremental recursion (bit 0) is never among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CompatFlags(u16);

impl CompatFlags {
    const SYMLINK_TIMES: u16 = 0x002;
    const SAFE_FILE_LIST: u16 = 0x008;
    const AVOID_XATTR_OPTIMISATION: u16 = 0x010;
    const SEED_ORDER_FIX: u16 = 0x020;
    const INPLACE_PARTIAL_DIR: u16 = 0x040;
    const VARINT_FLIST_FLAGS: u16 = 0x080;
    const ID0_NAMES: u16 = 0x100;

    /// No flags: before protocol 30.
    pub const NONE: Self = Self(0);

    /// The flags for a client: a bit whose letter it did not send would break the stream.
    #[must_use]
    pub fn answer(capabilities: Capabilities) -> Self {
        let pairs = [
            (b'f', Self::SAFE_FILE_LIST),
            (b'x', Self::AVOID_XATTR_OPTIMISATION),
            (b'C', Self::SEED_ORDER_FIX),
            (b'I', Self::INPLACE_PARTIAL_DIR),
            (b'v', Self::VARINT_FLIST_FLAGS),
            (b'u', Self::ID0_NAMES),
        ];
        let granted = pairs.iter().filter(|(letter, _)| capabilities.has(*letter));
        Self(granted.fold(Self::SYMLINK_TIMES, |flags, (_, bit)| flags | bit))
    }

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// Block sums of MD5 have the seed first.
    #[must_use]
    pub fn seed_order_fix(self) -> bool {
        self.0 & Self::SEED_ORDER_FIX != 0
    }

    /// The end of a list may say what went wrong.
    #[must_use]
    pub fn safe_file_list(self) -> bool {
        self.0 & Self::SAFE_FILE_LIST != 0
    }

    /// File-list flags are varints, and names are negotiated.
    #[must_use]
    pub fn varint_flist_flags(self) -> bool {
        self.0 & Self::VARINT_FLIST_FLAGS != 0
    }

    /// The id lists end with the name of id 0.
    #[must_use]
    pub fn id0_names(self) -> bool {
        self.0 & Self::ID0_NAMES != 0
    }
}

/// Which lists of names are exchanged (5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// The checksums are negotiated.
    pub checksums: bool,
    /// The compressors are negotiated.
    pub compressors: bool,
}

impl Exchange {
    /// What is not chosen by the client's options is negotiated, if it can.
    #[must_use]
    pub fn new(flags: CompatFlags, options: &Options) -> Self {
        let negotiates = flags.varint_flist_flags();
        Self {
            checksums: negotiates && options.checksum_choice.is_none(),
            compressors: negotiates && options.compress && options.compress_choice.is_none(),
        }
    }

    /// Appends our lists.
    pub fn put_offers(self, out: &mut Vec<u8>) {
        if self.checksums {
            put_vstring(out, ChecksumKind::OFFERED.map(ChecksumKind::as_str).join(" ").as_bytes());
        }
        if self.compressors {
            put_vstring(out, CompressorKind::OFFERED.map(CompressorKind::as_str).join(" ").as_bytes());
        }
    }

    /// Reads the client's lists and settles what is used. The seed is that of the connection.
    ///
    /// # Errors
    /// [`WireError::Short`], a list that is too long, or [`WireError::Refused`] without a common name.
    pub fn settle(
        self,
        reader: &mut Reader<'_>,
        options: &Options,
        protocol: Protocol,
        seed: i32,
    ) -> Result<Agreement, WireError> {
        let checksums = if self.checksums { Some(reader.vstring(NAMES_LEN_MAX)?) } else { None };
        let compressors = if self.compressors { Some(reader.vstring(NAMES_LEN_MAX)?) } else { None };
        let (transfer, list) = match (checksums, options.checksum_choice) {
            (Some(names), _) => {
                let common = first_common(names, offered_checksum).ok_or_else(|| no_common("checksum"))?;
                (common, common)
            }
            (None, Some(choice)) => (choice.transfer, choice.list),
            (None, None) if protocol < Protocol::V30 => (ChecksumKind::SeededMd4 { seed }, ChecksumKind::Md4),
            (None, None) => (ChecksumKind::Md5, ChecksumKind::Md5),
        };
        let compressor = match compressors {
            Some(names) => {
                first_common(names, CompressorKind::from_name).ok_or_else(|| no_common("compress"))?
            }
            None if !options.compress => CompressorKind::None,
            None => options.compress_choice.unwrap_or(CompressorKind::Zlib),
        };
        Ok(Agreement { transfer, list, compressor })
    }
}

/// The algorithms of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// The sum after a file's contents.
    pub transfer: ChecksumKind,
    /// The sum in the file list, if `--checksum` asks for it.
    pub list: ChecksumKind,
    /// How contents are compressed.
    pub compressor: CompressorKind,
}

fn offered_checksum(name: &str) -> Option<ChecksumKind> {
    ChecksumKind::from_name(name).filter(|kind| ChecksumKind::OFFERED.contains(kind))
}

/// The first name in the CLIENT's list that we offer: both ends can tell, and every release but the newest
/// daemon's goes by it (5.3).
fn first_common<K>(names: &[u8], known: impl Fn(&str) -> Option<K>) -> Option<K> {
    std::str::from_utf8(names).ok()?.split_ascii_whitespace().find_map(known)
}

fn no_common(what: &str) -> WireError {
    let text = format!("Failed to negotiate a {what} choice.");
    WireError::Refused(Refusal::new(ExitCode::Unsupported, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vstring(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put_vstring(&mut out, text.as_bytes());
        out
    }

    #[test]
    fn flags_follow_the_clients_letters() {
        let of = |letters: &str| CompatFlags::answer(Capabilities::new(letters.as_bytes())).number();
        // Bits 0 and 2 are ours to leave out: 0x1FF and 0x03F were seen from other servers.
        assert_eq!(of(".iLsfxCIvu"), 0x1FA);
        assert_eq!(of(".iLsfxC"), 0x03A);
        assert_eq!(of(".iLs"), 0x002);
    }

    #[test]
    fn the_clients_first_acceptable_name_wins() {
        let exchange = Exchange { checksums: true, compressors: true };
        let options = Options { compress: true, ..Options::default() };
        let settle = |sums: &str, compressors: &str| {
            let octets = [vstring(sums), vstring(compressors)].concat();
            exchange.settle(&mut Reader::new(&octets), &options, Protocol::NEWEST, 1)
        };
        let agreed = settle("md4 md5 xxh128", "brotli ZLIBX zstd").unwrap();
        assert_eq!(agreed.transfer, ChecksumKind::Md5);
        assert_eq!(agreed.list, ChecksumKind::Md5);
        assert_eq!(agreed.compressor, CompressorKind::Zlibx);
        let refused = settle("md4 none", "zstd").unwrap_err().refusal();
        assert_eq!(refused.text(), "Failed to negotiate a checksum choice.");
        assert_eq!(refused.code().number(), 4);
        assert!(settle("md5", "").is_err());
        assert!(settle(&"md5 ".repeat(64), "zstd").is_err());
    }

    #[test]
    fn old_clients_get_md5_and_zlib() {
        let options = Options { compress: true, ..Options::default() };
        let exchange = Exchange::new(CompatFlags::answer(Capabilities::new(b".iLsfxC")), &options);
        let settle = |protocol| exchange.settle(&mut Reader::new(&[]), &options, protocol, 7).unwrap();
        let agreed = settle(Protocol::V31);
        assert_eq!(agreed.transfer, ChecksumKind::Md5);
        assert_eq!(agreed.compressor, CompressorKind::Zlib);
        let agreed = settle(Protocol::OLDEST);
        assert_eq!((agreed.transfer, agreed.list), (ChecksumKind::SeededMd4 { seed: 7 }, ChecksumKind::Md4));
    }
}
