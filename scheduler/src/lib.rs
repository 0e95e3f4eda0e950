//! When and where rankmill computes: runs, calendar, API. Arrives with the cluster.
