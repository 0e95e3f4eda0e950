//! A generation whose parts are made elsewhere, in any order and more than once: what is to be made, and what was.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::lake::Lake;
use crate::runner::{Begun, Found, finish, prepare};
use crate::truth::{DateTruth, FILE, Totals, add_part};
use crate::{Config, Error, Maker, Part, Plan, inspect};

/// A part that was made and written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// Its path, relative to the lake.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
}

/// A generation that has begun.
#[derive(Debug)]
pub struct Spread {
    lake: Lake,
    plan: Plan,
    present: BTreeMap<String, u64>,
}

impl Spread {
    /// Makes room at `prefix` of a store for the lake of a plan, as [`generate`](crate::generate) does; `None` if the
    /// whole lake is there. `free_bytes` is the room there is, if that is known.
    ///
    /// # Errors
    /// [`Error::LakeExists`], [`Error::NoRoom`] and the store's.
    pub async fn begin(
        plan: &Plan,
        store: Arc<dyn ObjectStore>,
        prefix: &Path,
        replace: bool,
        free_bytes: Option<u64>,
    ) -> Result<Option<Self>, Error> {
        let lake = Lake::new(store, prefix);
        match prepare(plan, &lake, replace, free_bytes).await? {
            Found::Whole(_) => Ok(None),
            Found::Parts(present) => Ok(Some(Self {
                lake,
                plan: plan.clone(),
                present,
            })),
        }
    }

    /// The parts that are not there yet, with their numbers in the plan.
    pub fn missing(&self) -> impl Iterator<Item = (usize, &Part)> {
        let parts = self.plan.parts().iter().enumerate();
        parts.filter(|(_, part)| !self.present.contains_key(&part.path))
    }

    /// Checks that each missing part was made and lies in the store as large as it was made, and writes the truth.
    ///
    /// # Errors
    /// [`Error::NotMade`] for a part that wasn't, or was made in two ways; the store's.
    pub async fn finish(
        self,
        maker: Arc<Maker>,
        made: &[Made],
        dates: Vec<DateTruth>,
    ) -> Result<(), Error> {
        let mut reported: BTreeMap<&str, &Made> = BTreeMap::new();
        for made in made {
            let before = reported.insert(&made.path, made);
            if before.is_some_and(|before| before != made) {
                let path = made.path.clone();
                return Err(Error::NotMade { path });
            }
        }
        let mut there = inspect::sizes(&self.lake).await?;
        let mut tables = Totals::new();
        for part in self.plan.parts() {
            let bytes = there.remove(&self.lake.path(&part.path));
            let expected = match reported.get(part.path.as_str()) {
                Some(made) => (made.rows == part.row_count()).then_some(made.bytes),
                None => self.present.get(&part.path).copied(),
            };
            let Some(bytes) = bytes.filter(|_| bytes == expected) else {
                let path = part.path.clone();
                return Err(Error::NotMade { path });
            };
            add_part(&mut tables, part, bytes);
        }
        if let Some(foreign) = there.keys().next() {
            let path = foreign.to_string();
            return Err(Error::LakeExists { path });
        }
        let truth = tokio::task::spawn_blocking(move || maker.truth(tables, dates)).await;
        let truth = truth.map_err(|source| Error::Upload {
            path: FILE.to_owned(),
            source,
        })?;
        finish(&self.lake, &truth).await
    }
}

/// Writes a part of the lake that is being made at `prefix` of a store from `config`, whole or not at all. Who makes parts
/// may learn late that they aren't wanted any more: nothing is written once another generation has begun there.
///
/// # Errors
/// [`Error::LakeExists`] if another one has begun or the lake is whole; [`Error::Store`] if the store fails.
pub async fn put(
    store: Arc<dyn ObjectStore>,
    prefix: &Path,
    config: &Config,
    relative: &str,
    bytes: Vec<u8>,
) -> Result<(), Error> {
    let lake = Lake::new(store, prefix);
    let begun = Begun::read(&lake).await?;
    if begun.is_none_or(|begun| begun.config != *config) {
        let path = lake.path(relative).to_string();
        return Err(Error::LakeExists { path });
    }
    lake.put(relative, bytes.into()).await
}
