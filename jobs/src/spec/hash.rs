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

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    const REST: &str = "
source: { path: '{lake}/log/', date: { partition: date } }
ranking: { item: item, measures: { n: 'count(*)' }, order_by: [n], top: 10 }
output: { path: '{lake}/out/' }
";

    fn hash(head: &str) -> String {
        let params = Params::new("lake", Default::default());
        let spec = parse(
            &format!("version: 1\nname: test\n{head}{REST}"),
            "test",
            &params,
        );
        spec.unwrap().hash(&params)
    }

    /// A hash that changes makes every ranking that is published stale.
    #[test]
    fn hashes_stay_what_they_were() {
        assert_eq!(
            hash(""),
            "sha256:8789832cb5285c299390148afdbb655f4d89020650974ad23e9f3d59a5227458"
        );
    }

    #[test]
    fn when_a_job_runs_and_what_is_said_of_it_do_not_count() {
        for head in [
            "description: something",
            "schedule: { cron: '@daily' }",
            "schedule: { cron: '0 1 * * *', timezone: UTC, date: today, lookback_days: 3 }",
            "schedule: { cron: '0 1 * * *', catch_up: false, deadline: 2h, repair_days: 30 }",
        ] {
            assert_eq!(hash(head), hash(""), "{head}");
        }
    }
}
