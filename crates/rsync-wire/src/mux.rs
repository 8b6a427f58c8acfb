//! The framed stream that both directions use after the seed (section 2).

use crate::limits::{DATA_LEN_MAX, MESSAGE_LEN_MAX};
use crate::{Protocol, WireError, codec::Reader};
use bytes::{Bytes, BytesMut};

const HEADER_LEN: usize = 4;
/// What is added to a code in a header.
const CODE_BASE: u8 = 7;

/// The kinds of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Octets of the data stream; an empty one keeps the connection alive.
    Data,
    /// A text about one file; the client will exit with 23.
    ErrorXfer,
    /// A text that is no error.
    Info,
    /// A text about a fatal error.
    Error,
    /// A text that warns.
    Warning,
    /// A bit mask of what went wrong while listing.
    IoError,
    /// The timeout that is in force, in seconds.
    IoTimeout,
    /// Keeps the connection alive at protocol 30.
    Noop,
    /// Ends both sides, with an exit code or empty.
    ErrorExit,
    /// A name that the client deleted.
    Deleted,
    /// A requested file can't be sent.
    NoSend,
}

impl Code {
    fn number(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::ErrorXfer => 1,
            Self::Info => 2,
            Self::Error => 3,
            Self::Warning => 4,
            Self::IoError => 22,
            Self::IoTimeout => 33,
            Self::Noop => 42,
            Self::ErrorExit => 86,
            Self::Deleted => 101,
            Self::NoSend => 102,
        }
    }

    /// What says the same at an older protocol, if anything does (section 2).
    fn at(self, protocol: Protocol) -> Option<Self> {
        let since = match self {
            Self::IoTimeout | Self::ErrorExit => Protocol::V31,
            Self::Error | Self::Warning | Self::IoError | Self::NoSend => Protocol::V30,
            Self::Data | Self::ErrorXfer | Self::Info | Self::Noop | Self::Deleted => Protocol::OLDEST,
        };
        if protocol >= since {
            return Some(self);
        }
        let texts = [(Self::Error, Self::ErrorXfer), (Self::Warning, Self::Info)];
        texts.iter().find(|(newer, _)| *newer == self).map(|&(_, older)| older)
    }

    /// The code of a frame that a receiving client may send.
    fn from_client(number: u8) -> Option<Self> {
        const ACCEPTED: [Code; 10] = [
            Code::Data,
            Code::ErrorXfer,
            Code::Info,
            Code::Error,
            Code::Warning,
            Code::IoError,
            Code::Noop,
            Code::ErrorExit,
            Code::Deleted,
            Code::NoSend,
        ];
        ACCEPTED.into_iter().find(|code| code.number() == number)
    }
}

/// Collects frames: [`Self::data`] fills DATA frames, [`Self::message`] puts another frame between them.
#[derive(Debug)]
pub struct FrameWriter {
    protocol: Protocol,
    out: BytesMut,
    /// Where the header of the unfinished DATA frame is.
    open_at: Option<usize>,
}

impl Default for FrameWriter {
    fn default() -> Self {
        Self::new(Protocol::NEWEST)
    }
}

impl FrameWriter {
    /// A writer for a connection of this protocol.
    #[must_use]
    pub fn new(protocol: Protocol) -> Self {
        Self { protocol, out: BytesMut::new(), open_at: None }
    }

    /// Appends to the data stream.
    pub fn data(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let start = *self.open_at.get_or_insert_with(|| {
                let start = self.out.len();
                self.out.extend_from_slice(&[0; HEADER_LEN]);
                start
            });
            let room = DATA_LEN_MAX - (self.out.len() - start - HEADER_LEN);
            let (now, later) = octets.split_at(room.min(octets.len()));
            self.out.extend_from_slice(now);
            octets = later;
            if now.len() == room {
                self.close();
            }
        }
    }

    /// Appends a frame other than DATA, or an empty DATA frame. What the protocol has no way to say is not said.
    pub fn message(&mut self, code: Code, payload: &[u8]) {
        let Some(code) = code.at(self.protocol) else { return };
        self.close();
        let payload = &payload[..payload.len().min(MESSAGE_LEN_MAX)];
        self.out.extend_from_slice(&header(code, payload.len()));
        self.out.extend_from_slice(payload);
    }

    /// Appends a text frame; the line end is added.
    pub fn text(&mut self, code: Code, text: &str) {
        self.message(code, format!("{text}\n").as_bytes());
    }

    /// Appends a frame whose payload is one int.
    pub fn number(&mut self, code: Code, value: i32) {
        self.message(code, &value.to_le_bytes());
    }

    /// How many octets are collected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing is collected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Takes all that is collected, as whole frames.
    pub fn take(&mut self) -> Bytes {
        self.close();
        self.out.split().freeze()
    }

    /// Fills in the header of the unfinished DATA frame.
    fn close(&mut self) {
        if let Some(start) = self.open_at.take() {
            let len = self.out.len() - start - HEADER_LEN;
            self.out[start..start + HEADER_LEN].copy_from_slice(&header(Code::Data, len));
        }
    }
}

fn header(code: Code, len: usize) -> [u8; HEADER_LEN] {
    let [a, b, c, ..] = len.to_le_bytes();
    [a, b, c, CODE_BASE + code.number()]
}

/// A frame that is not part of the data stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its kind; never [`Code::Data`].
    pub code: Code,
    /// Its payload, at most [`MESSAGE_LEN_MAX`] octets.
    pub payload: Vec<u8>,
}

/// What a piece of input turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A part of the data stream, up to the end of one frame.
    Data,
    /// Another frame.
    Message(Message),
    /// Nothing that is whole.
    Nothing,
}

/// Takes a client's frames apart.
#[derive(Debug, Default)]
pub struct FrameReader {
    data_left: usize,
}

impl FrameReader {
    /// Whether there is more to come of a DATA frame.
    #[must_use]
    pub fn is_amid_frame(&self) -> bool {
        self.data_left > 0
    }

    /// Reads one frame: a DATA payload, or what there is of it, is moved from `raw` to `data`. Never more than one,
    /// because what follows a frame is not always one (6.5).
    ///
    /// # Errors
    /// A frame that no receiving client sends, or one that is too long.
    pub fn read(&mut self, raw: &mut BytesMut, data: &mut BytesMut) -> Result<Received, WireError> {
        while self.data_left == 0 {
            if raw.len() < HEADER_LEN {
                return Ok(Received::Nothing);
            }
            let [a, b, c, code] = Reader::new(raw).int()?.to_le_bytes();
            let len = u32::from_le_bytes([a, b, c, 0]) as usize;
            let code = code.checked_sub(CODE_BASE).and_then(Code::from_client);
            let code = code.ok_or(WireError::Malformed("unknown frame"))?;
            if code == Code::Data {
                drop(raw.split_to(HEADER_LEN));
                self.data_left = len;
                continue;
            }
            if len > MESSAGE_LEN_MAX {
                return Err(WireError::Limit { what: "a message's length", limit: MESSAGE_LEN_MAX });
            }
            if raw.len() < HEADER_LEN + len {
                return Ok(Received::Nothing);
            }
            drop(raw.split_to(HEADER_LEN));
            return Ok(Received::Message(Message { code, payload: raw.split_to(len).to_vec() }));
        }
        let now = self.data_left.min(raw.len());
        if now == 0 {
            return Ok(Received::Nothing);
        }
        data.extend_from_slice(&raw.split_to(now));
        self.data_left -= now;
        Ok(Received::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_data_header_is_as_documented() {
        let mut writer = FrameWriter::default();
        writer.data(&[7; 43]);
        assert_eq!(writer.take()[..4], [0x2B, 0x00, 0x00, 0x07]);
        writer.message(Code::Data, &[]);
        assert_eq!(writer.take()[..], [0x00, 0x00, 0x00, 0x07]);
        writer.number(Code::IoTimeout, 180);
        assert_eq!(writer.take()[..], [0x04, 0x00, 0x00, 40, 0xB4, 0, 0, 0]);
    }

    #[test]
    fn older_protocols_say_less() {
        let codes =
            [Code::Error, Code::Warning, Code::NoSend, Code::IoError, Code::IoTimeout, Code::ErrorExit];
        let said = |version| {
            let mut writer = FrameWriter::new(Protocol::negotiate(version, 0).unwrap());
            for &code in &codes {
                writer.message(code, &[]);
            }
            writer.take().chunks(4).map(|header| header[3] - 7).collect::<Vec<_>>()
        };
        assert_eq!(said(31), [3, 4, 102, 22, 33, 86]);
        assert_eq!(said(30), [3, 4, 102, 22]);
        assert_eq!(said(29), [1, 2]);
    }

    #[test]
    fn bad_frames_are_errors() {
        let read = |octets: &[u8]| FrameReader::default().read(&mut octets.into(), &mut BytesMut::new());
        assert!(read(&[0, 0, 0, 3]).is_err(), "below the base");
        assert!(read(&[0, 0, 0, 7 + 5]).is_err(), "never sent by a client");
        assert!(read(&[0, 0, 1, 7 + 2]).is_err(), "too long a text");
        assert!(read(b"GET ").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn data_survives_any_frames_and_any_cuts(
            pieces in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..50_000), any::<bool>()), 0..6),
            step in 1_usize..5000,
        ) {
            let mut writer = FrameWriter::default();
            let mut expected = Vec::new();
            for (piece, message) in &pieces {
                writer.data(piece);
                expected.extend_from_slice(piece);
                if *message {
                    writer.text(Code::Info, "between");
                }
            }
            let (mut reader, mut raw, mut data) = (FrameReader::default(), BytesMut::new(), BytesMut::new());
            let mut messages = 0;
            for part in writer.take().chunks(step) {
                raw.extend_from_slice(part);
                loop {
                    match reader.read(&mut raw, &mut data).unwrap() {
                        Received::Message(message) => {
                            prop_assert_eq!(message.payload, b"between\n");
                            messages += 1;
                        }
                        Received::Data => {}
                        Received::Nothing => break,
                    }
                }
            }
            prop_assert_eq!(messages, pieces.iter().filter(|p| p.1).count());
            prop_assert!(raw.is_empty());
            prop_assert_eq!(&data[..], expected.as_slice());
        }
    }
}
