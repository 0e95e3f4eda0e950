//! Client addresses: numbered, shared by users, and written without formatting machinery.

use arrow::array::StringArray;
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;

use crate::Config;
use crate::random::{Purpose, Stream, below, mix};

/// First bytes of address blocks in use in Korea.
const FIRST_BYTES: [u8; 32] = [
    1, 14, 27, 39, 42, 49, 58, 59, 61, 101, 106, 110, 112, 114, 115, 116, 117, 118, 119, 121, 122,
    123, 124, 125, 175, 180, 182, 183, 203, 210, 211, 218,
];
const V4_BITS: u32 = 29;
/// Permutes the 2^29 addresses of these blocks, being odd.
const V4_MULTIPLIER: u32 = 0x9E37_79B1;
/// One address in this many is IPv6.
const V6_EVERY: u32 = 50;
/// Of 64 sessions of a user, how many come from elsewhere than home.
const AWAY_OF_64: u64 = 12;

/// The addresses of a lake, numbered from 0: fewer than users, since households and offices share one.
#[derive(Debug)]
pub(crate) struct Addresses {
    count: u64,
    home: Stream,
    /// Decimal texts of the bytes, each followed by a dot, padded; and their lengths.
    bytes: Vec<([u8; 4], u8)>,
}

impl Addresses {
    pub(crate) fn new(config: &Config) -> Self {
        let bytes = (0..=u8::MAX).map(|byte| {
            let mut text = [b'.'; 4];
            let digits = byte.to_string();
            text[..digits.len()].copy_from_slice(digits.as_bytes());
            (text, digits.len() as u8 + 1)
        });
        Self {
            count: (config.users * 3 / 4).max(1),
            home: Stream::new(config.seed, Purpose::UserIp),
            bytes: bytes.collect(),
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The address of a user (0: anonymous) in a session, given the session's random word.
    #[inline]
    pub(crate) fn of(&self, user: u32, session: u64) -> u32 {
        let word = if user == 0 || (session >> 40) % 64 < AWAY_OF_64 {
            mix(session)
        } else {
            self.home.at(u64::from(user))
        };
        below(word, self.count) as u32
    }

    pub(crate) fn column(&self, rows: usize) -> Column<'_> {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Column {
            addresses: self,
            text: Vec::with_capacity(rows * 15),
            offsets,
        }
    }
}

/// A column of addresses being written.
#[derive(Debug)]
pub(crate) struct Column<'a> {
    addresses: &'a Addresses,
    text: Vec<u8>,
    offsets: Vec<i32>,
}

impl Column<'_> {
    #[inline]
    pub(crate) fn push(&mut self, number: u32) {
        if number % V6_EVERY == V6_EVERY - 1 {
            self.push_v6(number);
        } else {
            let place = number.wrapping_mul(V4_MULTIPLIER) & ((1 << V4_BITS) - 1);
            let [block, b, c, d] = place.to_be_bytes();
            for byte in [FIRST_BYTES[usize::from(block)], b, c, d] {
                let (text, length) = self.addresses.bytes[usize::from(byte)];
                // All four bytes, then back: a copy of fixed length is the cheaper one.
                let end = self.text.len() + usize::from(length);
                self.text.extend_from_slice(&text);
                self.text.truncate(end);
            }
            self.text.pop();
        }
        self.offsets.push(self.text.len() as i32);
    }

    #[cold]
    fn push_v6(&mut self, number: u32) {
        let (high, low) = (number >> 16 | 0x1000, number & 0xFFFF);
        let host = mix(number.into()) >> 48;
        let text = format!("2001:2d8:{high:x}:{low:x}::{host:x}");
        self.text.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn finish(self) -> Result<StringArray, ArrowError> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        StringArray::try_new(offsets, Buffer::from_vec(self.text), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::IpAddr;

    #[test]
    fn every_number_is_another_address() {
        let addresses = Addresses::new(&Config::default());
        let mut column = addresses.column(10_000);
        (0..10_000).for_each(|number| column.push(number));
        let texts = column.finish().unwrap();
        let parsed: HashSet<IpAddr> = texts
            .iter()
            .map(|text| text.unwrap().parse().unwrap())
            .collect();
        assert_eq!(parsed.len(), 10_000);
        assert_eq!(parsed.iter().filter(|ip| ip.is_ipv6()).count(), 200);
    }
}
