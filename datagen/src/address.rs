//! Client addresses: numbered, shared by users, and written without formatting machinery.

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

    /// Appends an address as text.
    #[inline]
    pub(crate) fn write(&self, number: u32, text: &mut Vec<u8>) {
        if number % V6_EVERY == V6_EVERY - 1 {
            return write_v6(number, text);
        }
        let place = number.wrapping_mul(V4_MULTIPLIER) & ((1 << V4_BITS) - 1);
        let [block, b, c, d] = place.to_be_bytes();
        for byte in [FIRST_BYTES[usize::from(block)], b, c, d] {
            let (digits, length) = self.bytes[usize::from(byte)];
            // All four bytes, then back: a copy of fixed length is the cheaper one.
            let end = text.len() + usize::from(length);
            text.extend_from_slice(&digits);
            text.truncate(end);
        }
        text.pop();
    }
}

#[cold]
fn write_v6(number: u32, text: &mut Vec<u8>) {
    let (high, low) = (number >> 16 | 0x1000, number & 0xFFFF);
    let host = mix(number.into()) >> 48;
    text.extend_from_slice(format!("2001:2d8:{high:x}:{low:x}::{host:x}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::IpAddr;

    #[test]
    fn every_number_is_another_address() {
        let addresses = Addresses::new(&Config::default());
        let text = |number| {
            let mut text = Vec::new();
            addresses.write(number, &mut text);
            String::from_utf8(text).unwrap()
        };
        let parsed: HashSet<IpAddr> = (0..10_000).map(|n| text(n).parse().unwrap()).collect();
        assert_eq!(parsed.len(), 10_000);
        assert_eq!(parsed.iter().filter(|ip| ip.is_ipv6()).count(), 200);
    }
}
