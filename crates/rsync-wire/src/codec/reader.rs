//! Reads values from octets that may end in the middle of one.

use super::varint::extra_octets;
use crate::{Protocol, WireError};

/// A position in octets. Every method fails with [`WireError::Short`] if the value is not there in full;
/// the caller then starts over at its last whole value when more has arrived.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    octets: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `octets`.
    #[must_use]
    pub fn new(octets: &'a [u8]) -> Self {
        Self { octets, position: 0 }
    }

    /// How many octets were read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.position == self.octets.len()
    }

    /// The next `count` octets.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let end = self.position.checked_add(count).ok_or(WireError::Short)?;
        let taken = self.octets.get(self.position..end).ok_or(WireError::Short)?;
        self.position = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// One octet.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn byte(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two octets, unsigned.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn short(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four octets, signed.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn int(&mut self) -> Result<i32, WireError> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    /// A 32-bit value of 1 to 5 octets (1.1).
    ///
    /// # Errors
    /// [`WireError::Short`], or too many leading ones.
    pub fn varint(&mut self) -> Result<i32, WireError> {
        let first = self.byte()?;
        let extra = extra_octets(first);
        if extra > 4 {
            return Err(WireError::Malformed("varint"));
        }
        let value = self.tail(first, extra, extra)?;
        // The result is taken modulo 2^32, signed.
        let [a, b, c, d, ..] = value;
        Ok(i32::from_le_bytes([a, b, c, d]))
    }

    /// A 64-bit value of `octets_min` to 9 octets (1.2).
    ///
    /// # Errors
    /// [`WireError::Short`], or too many leading ones.
    pub fn varlong(&mut self, octets_min: usize) -> Result<i64, WireError> {
        let first = self.byte()?;
        let extra = extra_octets(first);
        if octets_min + extra > 9 {
            return Err(WireError::Malformed("varlong"));
        }
        let value = self.tail(first, octets_min - 1 + extra, extra)?;
        let mut octets = [0; 8];
        octets.copy_from_slice(&value[..8]);
        Ok(i64::from_le_bytes(octets))
    }

    /// An int of the protocol: see [`super::put_number`].
    ///
    /// # Errors
    /// [`WireError::Short`], or too many leading ones.
    pub fn number(&mut self, protocol: Protocol) -> Result<i32, WireError> {
        if protocol < Protocol::V30 { self.int() } else { self.varint() }
    }

    /// A long of the protocol: see [`super::put_long`].
    ///
    /// # Errors
    /// [`WireError::Short`], or too many leading ones.
    pub fn long(&mut self, octets_min: usize, protocol: Protocol) -> Result<i64, WireError> {
        if protocol >= Protocol::V30 {
            return self.varlong(octets_min);
        }
        match self.int()? {
            -1 => Ok(i64::from_le_bytes(self.array()?)),
            small => Ok(i64::from(small)),
        }
    }

    /// The low octets that follow, then what is below the leading ones of the first octet.
    fn tail(&mut self, first: u8, count: usize, extra: usize) -> Result<[u8; 9], WireError> {
        let mut value = [0; 9];
        value[..count].copy_from_slice(self.take(count)?);
        let bits = 8 - extra;
        value[count] = if bits >= 8 { first } else { first & ((1 << bits) - 1) };
        Ok(value)
    }

    /// A string with its length in front, of at most `len_max` octets.
    ///
    /// # Errors
    /// [`WireError::Short`], or the limit.
    pub fn vstring(&mut self, len_max: usize) -> Result<&'a [u8], WireError> {
        let first = self.byte()?;
        let mut len = usize::from(first & 0x7F);
        if first & 0x80 != 0 {
            len = len << 8 | usize::from(self.byte()?);
        }
        if len > len_max {
            return Err(WireError::Limit { what: "a string's length", limit: len_max });
        }
        self.take(len)
    }
}
