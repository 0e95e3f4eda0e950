//! Where records lie.

use object_store::path::Path;

use crate::model::RunId;

/// Paths below `{lake}/_rankmill/`.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: Path,
}

impl Layout {
    /// Of the lake at this path of its store.
    pub(crate) fn new(lake: &Path) -> Self {
        Self {
            root: lake.clone().join("_rankmill"),
        }
    }

    /// Of the records beside a `leader.json`.
    pub(crate) fn beside(leader: &Path) -> Self {
        let mut parts: Vec<_> = leader.parts().collect();
        parts.pop();
        Self {
            root: parts.into_iter().collect(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn leader(&self) -> Path {
        self.root.clone().join("leader.json")
    }

    pub(crate) fn jobs(&self) -> Path {
        self.root.clone().join("jobs")
    }

    pub(crate) fn job(&self, name: &str) -> Path {
        self.jobs().join(format!("{name}.json"))
    }

    pub(crate) fn runs(&self) -> Path {
        self.root.clone().join("runs")
    }

    pub(crate) fn run(&self, id: RunId) -> Path {
        self.runs().join(id.month()).join(format!("{id}.json"))
    }

    /// What a request under an idempotency key has led to.
    pub(crate) fn key(&self, digest: &str) -> Path {
        let folder = self.root.clone().join("keys");
        folder.join(format!("{digest}.json"))
    }

    pub(crate) fn index(&self) -> Path {
        self.root.clone().join("index")
    }

    pub(crate) fn segment(&self, month: &str, name: &str) -> Path {
        self.index().join(month).join(format!("{name}.json"))
    }
}

/// The run whose record lies at a path.
pub(crate) fn run_of(path: &Path) -> Option<RunId> {
    path.filename()?.strip_suffix(".json")?.parse().ok()
}
