//! The stream: raw at first, then frames, with the protocol's integers on top.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

/// No line of the text prologue is longer.
const LINE_BYTES_MAX: u64 = 4096;

/// No text that a server sends beside the data is longer.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Frame codes, with 7 added as on the wire.
const DATA: u8 = 7;
const ERROR_XFER: u8 = 8;
const ERROR: u8 = 10;
const IO_ERROR: u8 = 29;
const ERROR_EXIT: u8 = 93;
const NO_SEND: u8 = 109;

pub(super) struct Wire {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    framed: bool,
    frame_left: usize,
    index_read: i64,
    index_written: i64,
    listing_is_whole: bool,
    said: Vec<String>,
}

impl Wire {
    pub(super) fn new(socket: TcpStream) -> io::Result<Self> {
        Ok(Self {
            writer: socket.try_clone()?,
            reader: BufReader::with_capacity(64 * 1024, socket),
            framed: false,
            frame_left: 0,
            index_read: -1,
            index_written: -1,
            listing_is_whole: true,
            said: Vec::new(),
        })
    }

    /// From here on both directions are framed.
    pub(super) fn start_frames(&mut self) {
        self.framed = true;
    }

    pub(super) fn listing_is_whole(&self) -> bool {
        self.listing_is_whole
    }

    pub(super) fn listing_failed(&mut self) {
        self.listing_is_whole = false;
    }

    /// `what`, and what the server said about it.
    pub(super) fn error(&self, what: &str) -> io::Error {
        let said = self.said.join(" | ");
        io::Error::other(if said.is_empty() { what.to_owned() } else { format!("{what}: {said}") })
    }

    /// One line of the text prologue, without its end.
    pub(super) fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Writes `octets`, in frames if it is time for them.
    pub(super) fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        if !self.framed {
            return self.writer.write_all(octets);
        }
        let mut out = Vec::with_capacity(octets.len() + 4);
        for piece in octets.chunks(4096) {
            let [a, b, c, ..] = piece.len().to_le_bytes();
            out.extend_from_slice(&[a, b, c, DATA]);
            out.extend_from_slice(piece);
        }
        self.writer.write_all(&out)
    }

    /// Fills `buffer` from the data stream.
    pub(super) fn exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        if !self.framed {
            return self.reader.read_exact(buffer);
        }
        let mut done = 0;
        while done < buffer.len() {
            while self.frame_left == 0 {
                self.next_frame()?;
            }
            let now = self.frame_left.min(buffer.len() - done);
            self.reader.read_exact(&mut buffer[done..done + now])?;
            self.frame_left -= now;
            done += now;
        }
        Ok(())
    }

    fn next_frame(&mut self) -> io::Result<()> {
        let mut header = [0; 4];
        if let Err(error) = self.reader.read_exact(&mut header) {
            return Err(self.error(&error.to_string()));
        }
        let [a, b, c, code] = header;
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        if code == DATA {
            self.frame_left = length;
            return Ok(());
        }
        if length > MESSAGE_BYTES_MAX {
            return Err(self.error("a message that is too long"));
        }
        let mut payload = vec![0; length];
        self.reader.read_exact(&mut payload)?;
        match code {
            ERROR_XFER | ERROR => self.said.push(String::from_utf8_lossy(&payload).trim().to_owned()),
            IO_ERROR => self.listing_is_whole = false,
            ERROR_EXIT => return Err(self.error("the server gave up")),
            NO_SEND => return Err(self.error("a listed file can't be sent")),
            // Information, warnings, the timeout in force.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn byte(&mut self) -> io::Result<u8> {
        let mut octet = [0];
        self.exact(&mut octet)?;
        Ok(octet[0])
    }

    pub(super) fn int(&mut self) -> io::Result<u32> {
        let mut octets = [0; 4];
        self.exact(&mut octets)?;
        Ok(u32::from_le_bytes(octets))
    }

    /// 1 to 5 octets; the leading ones of the first say how many follow.
    pub(super) fn varint(&mut self) -> io::Result<u32> {
        let value = self.variable(1)?;
        u32::try_from(value & 0xFFFF_FFFF).map_err(io::Error::other)
    }

    /// `octets_min` to 9 octets.
    pub(super) fn varlong(&mut self, octets_min: usize) -> io::Result<u64> {
        self.variable(octets_min)
    }

    fn variable(&mut self, octets_min: usize) -> io::Result<u64> {
        let first = self.byte()?;
        let extra = first.leading_ones().min(6);
        let follow = octets_min - 1 + extra as usize;
        if follow > 8 {
            return Err(self.error("a number that is too long"));
        }
        let mut octets = [0; 9];
        self.exact(&mut octets[..follow])?;
        octets[follow] = first & (0xFF_u16 >> extra).to_le_bytes()[0];
        Ok(octets.first_chunk().map_or(0, |octets| u64::from_le_bytes(*octets)))
    }

    /// A short text with its length in front.
    pub(super) fn vstring(&mut self) -> io::Result<Vec<u8>> {
        let first = usize::from(self.byte()?);
        let length = if first & 0x80 == 0 { first } else { (first & 0x7F) << 8 | usize::from(self.byte()?) };
        let mut text = vec![0; length];
        self.exact(&mut text)?;
        Ok(text)
    }

    /// The next file index, `None` for the end of a phase.
    pub(super) fn index(&mut self) -> io::Result<Option<usize>> {
        let first = self.byte()?;
        let value = match first {
            0x00 => return Ok(None),
            0xFF => return Err(self.error("an index below zero")),
            0xFE => {
                let (high, low) = (self.byte()?, self.byte()?);
                if high & 0x80 == 0 {
                    self.index_read + i64::from(u16::from_be_bytes([high, low]))
                } else {
                    let (b, c) = (self.byte()?, self.byte()?);
                    i64::from(u32::from_le_bytes([low, b, c, high & 0x7F]))
                }
            }
            difference => self.index_read + i64::from(difference),
        };
        self.index_read = value;
        usize::try_from(value).map(Some).map_err(|_| self.error("an index below zero"))
    }

    /// Appends a file index to `out`.
    pub(super) fn put_index(&mut self, out: &mut Vec<u8>, index: usize) {
        let value = i64::try_from(index).unwrap_or(i64::MAX);
        let difference = value - self.index_written;
        self.index_written = value;
        let [a, b, c, d, ..] = value.to_le_bytes();
        let [low, high, ..] = difference.to_le_bytes();
        match difference {
            1..=0xFD => out.push(low),
            0..=0x7FFF => out.extend_from_slice(&[0xFE, high, low]),
            _ => out.extend_from_slice(&[0xFE, 0x80 | d, a, b, c]),
        }
    }
}
