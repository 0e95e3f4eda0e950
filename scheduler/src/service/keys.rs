//! Idempotency keys: what a request under a key has led to lies in the lake, written before
//! anything is queued and only if nothing is there. So the store decides, whichever scheduler is
//! asked, and however often.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Caller;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::model::{BackfillId, DateStatus, RunId};
use crate::records::{Written, encode, parse};

/// Characters of a key.
const MAX_KEY: usize = 255;

/// `_rankmill/keys/{digest of caller and key}.json`. Never changed.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    /// Digest of the request.
    request_sha256: String,
    #[serde(flatten)]
    led_to: LedTo,
}

/// What a request leads to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "led_to", rename_all = "snake_case")]
pub(super) enum LedTo {
    /// A run of this id.
    Run { run_id: RunId },
    /// A backfill.
    Backfill(Queued),
}

/// What a backfill queues.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Queued {
    pub(super) id: BackfillId,
    pub(super) in_order: bool,
    pub(super) dates: Vec<DateStatus>,
    /// For each date its run.
    pub(super) run_ids: Vec<RunId>,
    /// Those among them that the backfill queues; others were under way already.
    pub(super) new: Vec<RunId>,
}

/// What a request is, so that two can be told apart.
pub(super) fn digest(request: &impl Serialize) -> Result<String> {
    let bytes = serde_json::to_vec(request).map_err(|e| Error::invalid("request", e))?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a key is one.
pub(super) fn check(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > MAX_KEY {
        let reason = format!("an idempotency key has 1 to {MAX_KEY} characters");
        return Err(Error::invalid("idempotency_key", reason));
    }
    Ok(())
}

/// The key has led to something else.
pub(super) fn used(key: &str, led_to: &impl Display) -> Error {
    Error::Conflict {
        reason: format!("the key '{key}' was used for another request, of run {led_to}"),
    }
}

/// What a request under a key has led to, if it was made before.
pub(super) async fn find(
    core: &Core,
    caller: &Caller,
    key: &str,
    request_sha256: &str,
) -> Result<Option<LedTo>> {
    let path = path_of(core, caller, key)?;
    let claim = core.folder.read_record::<Claim>(&path).await?;
    claim
        .map(|claim| same(claim.value, key, request_sha256))
        .transpose()
}

/// Puts down what a request under a key leads to, or gives what it has led to before.
pub(super) async fn claim(
    core: &Core,
    caller: &Caller,
    key: &str,
    request_sha256: &str,
    led_to: LedTo,
) -> Result<LedTo> {
    core.check_open()?;
    let path = path_of(core, caller, key)?;
    let claim = Claim {
        request_sha256: request_sha256.to_owned(),
        led_to,
    };
    match core
        .folder
        .write(&path, encode(&path, &claim)?, None)
        .await?
    {
        Written::Done(_) => Ok(claim.led_to),
        Written::Conflict(Some((bytes, _))) => same(parse(&path, &bytes)?, key, request_sha256),
        Written::Conflict(None) => Err(Error::Conflict {
            reason: format!("{path} was removed meanwhile; ask again"),
        }),
    }
}

fn path_of(core: &Core, caller: &Caller, key: &str) -> Result<object_store::path::Path> {
    // Two tokens never share a key.
    Ok(core.layout.key(&digest(&(&caller.name, key))?))
}

fn same(claim: Claim, key: &str, request_sha256: &str) -> Result<LedTo> {
    match claim.request_sha256 == request_sha256 {
        true => Ok(claim.led_to),
        false => Err(match claim.led_to {
            LedTo::Run { run_id } => used(key, &run_id),
            LedTo::Backfill(queued) => used(key, &queued.id),
        }),
    }
}
