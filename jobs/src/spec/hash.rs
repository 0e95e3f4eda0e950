//! A spec's identity: what makes two runs the same computation.

use sha2::{Digest, Sha256};

use super::{Params, Spec};

impl Spec {
    /// SHA-256 over what decides the result: the spec without its schedule and description, and
    /// the values given with `--set`. Where the lake lies doesn't count.
    pub fn hash(&self, params: &Params) -> String {
        let mut decisive = self.clone();
        decisive.schedule = None;
        decisive.description = None;
        let mut hasher = Sha256::new();
        // Serialising a struct of strings and numbers can't fail.
        hasher.update(serde_json::to_vec(&decisive).unwrap_or_default());
        for (name, value) in params.set() {
            hasher.update([0]);
            hasher.update(name);
            hasher.update([0]);
            hasher.update(value);
        }
        format!("sha256:{}", hex(&hasher.finalize()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
