//! The specs that come with rankmill, over the data model of `rankmill generate`.

/// A spec that comes with rankmill.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    /// Name of the job.
    pub name: &'static str,
    /// The spec, in YAML.
    pub yaml: &'static str,
}

/// All of them, in the order in which `quickstart` runs them.
pub const SHIPPED: [Shipped; 4] = [
    Shipped {
        name: "daily-popularity",
        yaml: include_str!("../specs/daily-popularity.yaml"),
    },
    Shipped {
        name: "age-date-ranking",
        yaml: include_str!("../specs/age-date-ranking.yaml"),
    },
    Shipped {
        name: "daily-web-pages",
        yaml: include_str!("../specs/daily-web-pages.yaml"),
    },
    Shipped {
        name: "frequent-visitors",
        yaml: include_str!("../specs/frequent-visitors.yaml"),
    },
];

/// The shipped spec of a name.
pub fn find(name: &str) -> Option<Shipped> {
    SHIPPED.into_iter().find(|shipped| shipped.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Params, parse};

    #[test]
    fn all_are_valid_and_bear_their_name() {
        for shipped in SHIPPED {
            let params = Params::new("lake", Default::default());
            let spec = parse(shipped.yaml, shipped.name, &params).unwrap();
            assert_eq!(spec.name, shipped.name);
        }
    }
}
