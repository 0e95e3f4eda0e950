//! Why a cluster could not do what was asked.

use tonic::{Code, Status};

/// An error of the cluster's client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No address leads to a scheduler that does the work.
    #[error(
        "no scheduler can be reached; tried {}. Is one running (`rankmill scheduler`, or \
         `rankmill dev` to try a cluster)? Another address: --cluster URL or RANKMILL_CLUSTER",
        list(.tried)
    )]
    Unreachable {
        /// Each address, with what came of it.
        tried: Vec<(String, String)>,
    },
    /// Schedulers answer, but none of them leads.
    #[error("no scheduler leads at the moment; tried {}. Try again in a while", list(.tried))]
    NoLeader {
        /// Each address, with what came of it.
        tried: Vec<(String, String)>,
    },
    /// The connection broke before the answer came, or the scheduler itself can't tell, and asking
    /// again might do it twice.
    #[error(
        "it is not known whether {address} did it: {reason}. Look whether it was done (`rankmill \
         runs list`) before asking again"
    )]
    Lost {
        /// Whose.
        address: String,
        /// How it broke.
        reason: String,
    },
    /// The scheduler refused or failed.
    #[error("{}{}", .status.message(), advice(.status.code()))]
    Refused {
        /// Its answer.
        status: Box<Status>,
    },
}

impl Error {
    /// Whether the user, or where the command runs, is at fault.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoLeader { .. } | Self::Lost { .. } => true,
            Self::Refused { status } => !matches!(
                status.code(),
                Code::Internal | Code::Unknown | Code::DataLoss | Code::Aborted
            ),
        }
    }
}

fn list(tried: &[(String, String)]) -> String {
    let each = tried
        .iter()
        .map(|(address, reason)| format!("{address} ({reason})"));
    each.collect::<Vec<_>>().join(", ")
}

fn advice(code: Code) -> &'static str {
    match code {
        Code::Unauthenticated => {
            "; give a token of the scheduler's API: RANKMILL_TOKEN or --token-file FILE"
        }
        Code::PermissionDenied => "; ask for a token or a prefix that may",
        Code::Unimplemented => "; the scheduler is of another version of rankmill",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_whose_fault() {
        let refused = |code| Error::Refused {
            status: Box::new(Status::new(code, "no")),
        };
        for code in [
            Code::NotFound,
            Code::InvalidArgument,
            Code::Unauthenticated,
            Code::FailedPrecondition,
        ] {
            assert!(refused(code).is_usage(), "{code:?}");
        }
        assert!(!refused(Code::Internal).is_usage());
        let text = refused(Code::Unauthenticated).to_string();
        assert!(text.contains("RANKMILL_TOKEN"), "{text}");
    }

    #[test]
    fn all_that_was_tried_is_told() {
        let tried = ["a", "b"].map(|at| (format!("http://{at}:1"), "connection refused".into()));
        let text = Error::Unreachable {
            tried: tried.to_vec(),
        }
        .to_string();
        for part in [
            "http://a:1 (connection refused)",
            "http://b:1",
            "rankmill dev",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
