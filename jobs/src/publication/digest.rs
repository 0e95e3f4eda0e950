//! Fingerprints in short: what is compared where thousands of them are kept in memory.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;

use super::commit::{Fingerprint, InputFile};

/// Stands for a [`Fingerprint`]: two of one process are equal if the fingerprints are, and else
/// but for chance (128 bits under keys that nobody knows).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) spec: u128,
    pub(crate) engine: u128,
    pub(crate) inputs: FilesDigest,
}

/// Stands for input files, in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct FilesDigest {
    files: u64,
    sum: u128,
}

impl Digest {
    pub(crate) fn new(spec_hash: &str, engine_version: &str, inputs: FilesDigest) -> Self {
        Self {
            spec: hash(spec_hash),
            engine: hash(engine_version),
            inputs,
        }
    }
}

impl From<&Fingerprint> for Digest {
    fn from(fingerprint: &Fingerprint) -> Self {
        let inputs = fingerprint.inputs.iter().map(FilesDigest::from).collect();
        Self::new(&fingerprint.spec_hash, &fingerprint.engine_version, inputs)
    }
}

impl From<&InputFile> for FilesDigest {
    fn from(file: &InputFile) -> Self {
        Self {
            files: 1,
            sum: hash(file),
        }
    }
}

impl FromIterator<FilesDigest> for FilesDigest {
    fn from_iter<T: IntoIterator<Item = FilesDigest>>(parts: T) -> Self {
        let add = |all: Self, part: Self| Self {
            files: all.files + part.files,
            sum: all.sum.wrapping_add(part.sum),
        };
        parts.into_iter().fold(Self::default(), add)
    }
}

fn hash(value: impl Hash) -> u128 {
    static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);
    let [high, low] = KEYS
        .each_ref()
        .map(|keys| u128::from(keys.hash_one(&value)));
    high << 64 | low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fingerprint() -> impl Strategy<Value = Fingerprint> {
        let file = ("[ab]{0,2}", 0..2u64, prop::option::of("[x]{0,1}"));
        let file = file.prop_map(|(key, size, e_tag)| InputFile { key, size, e_tag });
        let files = prop::collection::vec(file, 0..4);
        ("[s]{0,1}", "[e]{0,1}", files).prop_map(|(spec_hash, engine_version, inputs)| {
            Fingerprint {
                spec_hash,
                engine_version,
                inputs,
            }
        })
    }

    proptest! {
        #[test]
        fn digests_are_equal_where_fingerprints_are(a in fingerprint(), b in fingerprint()) {
            prop_assert_eq!(Digest::from(&a) == Digest::from(&b), a == b);
            let mut turned = a.clone();
            turned.inputs.reverse();
            prop_assert_eq!(Digest::from(&a), Digest::from(&turned));
        }
    }
}
