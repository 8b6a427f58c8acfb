//! Packets (RFC 9580, 4.2): where each begins and ends. Only those that are asked for are parsed.

use pgp::packet::PacketHeader;
use pgp::types::{PacketLength, Tag};

/// One packet.
pub(crate) struct Raw<'a> {
    pub(crate) tag: Tag,
    header: PacketHeader,
    pub(crate) body: &'a [u8],
}

impl Raw<'_> {
    /// Reads the body with one of `pgp`'s parsers, which has to take all of it.
    pub(crate) fn parse<T>(
        &self,
        parser: impl FnOnce(PacketHeader, &mut &[u8]) -> pgp::errors::Result<T>,
    ) -> Result<T, String> {
        let mut rest = self.body;
        let parsed = parser(self.header, &mut rest).map_err(|error| error.to_string())?;
        match rest.len() {
            0 => Ok(parsed),
            excess => Err(format!("{excess} octets too many")),
        }
    }
}

/// The packets of a sequence, up to the first that is damaged.
pub(crate) fn split(octets: &[u8]) -> impl Iterator<Item = Result<Raw<'_>, String>> {
    let mut rest = octets;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let start = octets.len() - rest.len();
        let packet = next(&mut rest).map_err(|why| format!("the packet at octet {start}: {why}"));
        if packet.is_err() {
            rest = &[];
        }
        Some(packet)
    })
}

fn next<'a>(rest: &mut &'a [u8]) -> Result<Raw<'a>, String> {
    let header = PacketHeader::try_from_reader(&mut *rest).map_err(|error| error.to_string())?;
    // RFC 9580, 4.2.1.4: partial lengths are for data alone.
    let PacketLength::Fixed(length) = header.packet_length() else {
        return Err("no definite length".to_owned());
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let (body, after) = rest.split_at_checked(length).ok_or("cut off")?;
    *rest = after;
    Ok(Raw { tag: header.tag(), header, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(octets: &[u8]) -> Result<Vec<Tag>, String> {
        split(octets).map(|packet| packet.map(|packet| packet.tag)).collect()
    }

    #[test]
    fn packets_of_both_forms_are_found() {
        assert_eq!(tags(&[]), Ok(vec![]));
        assert_eq!(tags(&[0xcd, 1, b'x', 0xb4, 1, b'y']), Ok(vec![Tag::UserId, Tag::UserId]));
    }

    #[test]
    fn what_is_no_packet_or_cut_off_ends_it() {
        for octets in
            [&[0x11][..], &[0xcd], &[0xcd, 2, 1], &[0xcd, 0xe1, 1, 2], &[0xb7, 1], &[0xcd, 0xff, 0xff]]
        {
            assert!(tags(octets).is_err(), "{octets:x?}");
            assert_eq!(split(octets).count(), 1, "{octets:x?}");
        }
    }
}
