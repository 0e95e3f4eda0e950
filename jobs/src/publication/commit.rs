//! The content of `current.json` and of the manifests.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, Utc};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Error;

/// The version of [`Commit`] that this build reads and writes.
pub const VERSION: u32 = 1;

/// Identifies one run. Ids of one process on one machine mostly increase with time, but nothing
/// depends on that: their order only breaks ties between runs of the same epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(Uuid);

impl RunId {
    /// A new id (UUID version 7).
    #[expect(
        clippy::new_without_default,
        reason = "each call differs: a default would hide that"
    )]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl From<Uuid> for RunId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

impl TryFrom<String> for RunId {
    type Error = uuid::Error;

    fn try_from(text: String) -> Result<Self, uuid::Error> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.to_string()
    }
}

/// One input file as it was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InputFile {
    /// Its path in the store it was read from.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its ETag, where the store has one.
    pub e_tag: Option<String>,
}

/// All that a ranking's content depends on. The order of `inputs` does not matter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Digest of the resolved job spec.
    pub spec_hash: String,
    /// Version of the engine that computed it.
    pub engine_version: String,
    /// The files read.
    pub inputs: Vec<InputFile>,
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        self.spec_hash == other.spec_hash
            && self.engine_version == other.engine_version
            && self.inputs.len() == other.inputs.len()
            && (self.inputs == other.inputs || self.sorted_inputs() == other.sorted_inputs())
    }
}

impl Eq for Fingerprint {}

impl Fingerprint {
    fn sorted_inputs(&self) -> Vec<&InputFile> {
        let mut inputs: Vec<_> = self.inputs.iter().collect();
        inputs.sort_unstable();
        inputs
    }
}

/// One published file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedFile {
    /// Relative to the date's folder.
    pub path: String,
    /// Rows it holds.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Digest of its content, in hex.
    pub sha256: String,
}

impl PublishedFile {
    /// The file's name without its folder.
    pub fn name(&self) -> &str {
        self.path
            .rsplit_once('/')
            .map_or(self.path.as_str(), |(_, name)| name)
    }
}

/// Names one commit of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CommitRef {
    /// 1 for a date's first commit, then one more for each.
    pub generation: u64,
    /// One more than the epoch that the run found when it began.
    pub epoch: u64,
    /// The run that committed it.
    pub run_id: RunId,
}

/// A committed generation of one date: the content of `current.json` while it is the newest, and
/// of its manifest for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Layout version, [`VERSION`].
    pub version: u32,
    /// Name of the job.
    pub job: String,
    /// The date ranked.
    pub date: NaiveDate,
    /// Which commit this is.
    #[serde(flatten)]
    pub id: CommitRef,
    /// What `files` were computed from.
    #[serde(flatten)]
    pub fingerprint: Fingerprint,
    /// Rows of the ranking (not a sum over `files`, which hold the same rows in two formats).
    pub rows: u64,
    /// The files that make up the ranking.
    pub files: Vec<PublishedFile>,
    /// When the run began to commit, by its own clock. Informative only.
    pub committed_at: DateTime<Utc>,
    /// The commit that this one replaced. Following it through the manifests gives the history;
    /// a manifest that is not met on the way was never committed.
    pub previous: Option<CommitRef>,
    /// Set by a rollback: the generation whose files are published again. The generation that was
    /// rolled back from is `previous`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_to: Option<u64>,
    /// Set by a rollback: what must not be published again on its own, because it was rolled back
    /// from. See [`Commit::covers`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Fingerprint>,
}

impl Commit {
    /// Whether a run from `fingerprint` would publish nothing new: this commit was computed from
    /// the same, or is a rollback from it. Without the second, the next scheduled run would undo a
    /// rollback; with it, only new inputs, a new spec, a new engine or `force` do.
    pub fn covers(&self, fingerprint: &Fingerprint) -> bool {
        self.fingerprint == *fingerprint || self.rejected.contains(fingerprint)
    }

    /// The published file called `name`.
    pub fn file(&self, name: &str) -> Option<&PublishedFile> {
        self.files.iter().find(|file| file.name() == name)
    }

    pub(super) fn parse(bytes: &[u8], path: &Path, date: NaiveDate) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let corrupt = |source| Error::Corrupt {
            path: path.to_string(),
            source,
        };
        // First, so that a newer layout is reported as that and not as corrupt.
        let Versioned { version } = serde_json::from_slice(bytes).map_err(corrupt)?;
        if version != VERSION {
            return Err(Error::UnsupportedVersion {
                path: path.to_string(),
                found: version,
                supported: VERSION,
            });
        }
        let commit: Self = serde_json::from_slice(bytes).map_err(corrupt)?;
        if commit.date != date {
            return Err(Error::Inconsistent {
                path: path.to_string(),
                field: "date",
                expected: date.to_string(),
                found: commit.date.to_string(),
            });
        }
        Ok(commit)
    }
}

/// The SHA-256 of `bytes` in hex.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: NaiveDate = NaiveDate::from_ymd_opt(2026, 1, 2).unwrap();
    const JSON: &str = r#"{
      "version": 1, "job": "popularity", "date": "2026-01-02",
      "generation": 3, "epoch": 4, "run_id": "01890000-0000-7000-8000-000000000001",
      "spec_hash": "s", "engine_version": "0.1.0",
      "inputs": [{"key": "b", "size": 2, "e_tag": "x"}, {"key": "a", "size": 1, "e_tag": null}],
      "rows": 7,
      "files": [{"path": "data/r/ranking.json", "rows": 7, "bytes": 9, "sha256": "00"}],
      "committed_at": "2026-01-03T00:10:00Z",
      "previous": {"generation": 2, "epoch": 2, "run_id": "01890000-0000-7000-8000-000000000002"}
    }"#;

    fn parse(json: &str) -> Result<Commit, Error> {
        Commit::parse(json.as_bytes(), &Path::from("current.json"), DATE)
    }

    #[test]
    fn json_is_flat_and_survives_a_round_trip() {
        let commit = parse(JSON).unwrap();
        assert_eq!(commit.id.generation, 3);
        assert_eq!(commit.file("ranking.json").unwrap().rows, 7);
        let written = serde_json::to_value(&commit).unwrap();
        let original: serde_json::Value = serde_json::from_str(JSON).unwrap();
        assert_eq!(written, original);
    }

    #[test]
    fn order_of_inputs_does_not_matter() {
        let commit = parse(JSON).unwrap();
        let mut same = commit.fingerprint.clone();
        same.inputs.reverse();
        assert!(commit.covers(&same));
        same.inputs[0].size += 1;
        assert!(!commit.covers(&same));
    }

    #[test]
    fn what_is_not_a_commit_of_this_date_is_refused() {
        let newer = parse(r#"{"version": 2, "shape": "unknown"}"#);
        assert!(matches!(
            newer,
            Err(Error::UnsupportedVersion { found: 2, .. })
        ));
        for garbage in ["", "{", "[]", "null", r#"{"version": 1}"#, &JSON[..99]] {
            assert!(
                matches!(parse(garbage), Err(Error::Corrupt { .. })),
                "{garbage}"
            );
        }
        let other_date = parse(&JSON.replace(r#""date": "2026-01-02""#, r#""date": "2026-01-03""#));
        assert!(matches!(other_date, Err(Error::Inconsistent { .. })));
    }
}
