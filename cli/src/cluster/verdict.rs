//! What to do about a failed call.

use tonic::{Code, Status};

/// Metadata that names the API address of the scheduler that leads.
const LEADER: &str = "rankmill-leader";

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Ask another scheduler, the named one first: this one did nothing.
    Elsewhere {
        /// What it called the leader.
        leader: Option<String>,
    },
    /// Whether the request was carried out isn't known.
    Lost {
        /// The scheduler said so itself; otherwise the connection broke.
        told: bool,
    },
    /// It is the answer.
    Final,
}

/// Judges a failed call.
pub(crate) fn judge(status: &Status) -> Verdict {
    // A status that the server sent has no cause on this side.
    let from_transport = std::error::Error::source(status).is_some();
    match status.code() {
        Code::Unavailable if !from_transport => Verdict::Elsewhere {
            leader: status
                .metadata()
                .get(LEADER)
                .and_then(|leader| leader.to_str().ok())
                .filter(|leader| !leader.is_empty())
                .map(str::to_owned),
        },
        _ if from_transport => Verdict::Lost { told: false },
        // How a server says good-bye to the calls that it had not finished.
        Code::Cancelled => Verdict::Lost { told: false },
        // It lost the lead, or the store, in the middle of it.
        Code::Unknown => Verdict::Lost { told: true },
        _ => Verdict::Final,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let mut standby = Status::unavailable("this scheduler is a standby");
        assert_eq!(judge(&standby), Verdict::Elsewhere { leader: None });
        let leader = "http://10.0.0.2:7400".parse().unwrap();
        standby.metadata_mut().insert(LEADER, leader);
        let leader = Some("http://10.0.0.2:7400".to_owned());
        assert_eq!(judge(&standby), Verdict::Elsewhere { leader });
        assert_eq!(judge(&Status::not_found("no such job")), Verdict::Final);
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let lost = |told| Verdict::Lost { told };
        assert_eq!(judge(&Status::from_error(broken.into())), lost(false));
        assert_eq!(judge(&Status::unknown("perhaps done")), lost(true));
    }
}
