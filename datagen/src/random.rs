//! Randomness addressed by counter: a value is a pure function of (seed, purpose, row), so that any part can be
//! made alone, in any order, on any thread.

/// The odd constant of splitmix64 (2^64 divided by the golden ratio).
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finalizer of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[inline]
pub(crate) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// What a stream of random words is for: one per independent choice.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    DayWeight = 1,
    ClickWho,
    ClickWhat,
    WebWho,
    WebWhat,
    WebResponse,
    SessionKind,
    SessionUser,
    SessionDevice,
    SessionInterest,
    Bot,
    UserBirth,
    UserProfile,
    UserIp,
    ItemRank,
    ItemGenre,
    ItemProfile,
    ItemDrift,
    ItemAppears,
    FileSize,
    GroupSize,
    FileDelay,
    Spike,
}

/// The random words of one purpose: word `n` is splitmix64's `n`-th from a start of the stream's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    start: u64,
}

impl Stream {
    pub(crate) fn new(seed: u64, purpose: Purpose) -> Self {
        let start = mix(mix(seed.wrapping_add(GOLDEN)) ^ mix((purpose as u64) << 32 | 1));
        Self { start }
    }

    /// The stream's 64 random bits for a row, a user, a session, …
    #[inline]
    pub(crate) fn at(self, row: u64) -> u64 {
        mix(self.start.wrapping_add(row.wrapping_mul(GOLDEN)))
    }
}

/// A number in `0..bound` from a word's upper half (`bound` ≤ 2^32): a multiplication instead of a division.
#[inline]
pub(crate) fn below(word: u64, bound: u64) -> u64 {
    ((word >> 32) * bound) >> 32
}

/// An event of a fixed probability, decided by 32 random bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance {
    below: u64,
}

impl Chance {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 ≤ share ≤ 1"
    )]
    pub(crate) fn new(share: f64) -> Self {
        let below = (share * 4_294_967_296.0) as u64;
        Self { below }
    }

    /// Decides by the lower half of a word.
    #[inline]
    pub(crate) fn hit(self, word: u64) -> bool {
        (word & 0xFFFF_FFFF) < self.below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_seed_purpose_and_row() {
        let a = Stream::new(1, Purpose::ClickWho);
        assert_eq!(a.at(7), Stream::new(1, Purpose::ClickWho).at(7));
        assert_ne!(a.at(7), a.at(8));
        assert_ne!(a.at(7), Stream::new(1, Purpose::ClickWhat).at(7));
        assert_ne!(a.at(7), Stream::new(2, Purpose::ClickWho).at(7));
    }

    #[test]
    fn chances_cover_never_and_always() {
        assert!(!Chance::new(0.0).hit(0));
        assert!(Chance::new(1.0).hit(u64::MAX));
        let stream = Stream::new(3, Purpose::Bot);
        let tenth = Chance::new(0.1);
        let hits = (0..100_000).filter(|&i| tenth.hit(stream.at(i))).count();
        assert!((9_500..10_500).contains(&hits), "{hits}");
    }
}
