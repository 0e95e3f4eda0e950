//! What is asked, from `rankmill.v1` to the model.

use crate::api::problem::Problem;
use crate::error::Error;
use crate::model;
use crate::proto;
use crate::proto::submit_run_request::What;
use crate::service::RunFilter;

/// Longer keys are refused.
const MAX_KEY_CHARACTERS: usize = 255;

/// proto3 has no other way to leave a text out.
fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// The id of a run; what isn't one belongs to no run.
pub(in crate::api) fn run_id(text: &str) -> Result<model::RunId, Problem> {
    let not_found = |_| {
        let name = text.to_owned();
        Problem::from(Error::NotFound { what: "run", name })
    };
    text.parse().map_err(not_found)
}

/// A key that keeps a request from being done twice; empty: none.
pub(in crate::api) fn idempotency_key(field: &str, key: &str) -> Result<Option<String>, Problem> {
    let fine = |c: char| c.is_ascii_graphic() || c == ' ';
    if key.len() > MAX_KEY_CHARACTERS || !key.chars().all(fine) {
        let reason = format!("must have 1 to {MAX_KEY_CHARACTERS} printable ASCII characters");
        return Err(Problem::invalid(field, reason));
    }
    Ok(given(key.to_owned()))
}

/// The run to submit, and its idempotency key.
pub(in crate::api) fn submit(
    request: proto::SubmitRunRequest,
) -> Result<(model::SubmitRun, Option<String>), Problem> {
    let mut submit = model::SubmitRun {
        job: None,
        spec: None,
        generate: None,
        set: request.set.into_iter().collect(),
        from: given(request.from),
        to: given(request.to),
        force: request.force,
        allow_empty: request.allow_empty,
    };
    match request.what {
        None => {}
        Some(What::Job(job)) => submit.job = Some(job),
        Some(What::Spec(spec)) => submit.spec = Some(spec),
        Some(What::Generate(options)) => {
            let options = serde_json::from_str(&options);
            let options = options.map_err(|error| Problem::invalid(model::GENERATE, error))?;
            submit.generate = Some(options);
        }
    }
    let key = idempotency_key("idempotency_key", &request.idempotency_key)?;
    Ok((submit, key))
}

pub(in crate::api) fn run_filter(request: proto::ListRunsRequest) -> Result<RunFilter, Problem> {
    use model::RunState as M;
    use proto::RunState as P;
    let state = |state: i32| match P::try_from(state) {
        Ok(P::Queued) => Ok(M::Queued),
        Ok(P::Running) => Ok(M::Running),
        Ok(P::Publishing) => Ok(M::Publishing),
        Ok(P::Succeeded) => Ok(M::Succeeded),
        Ok(P::Failed) => Ok(M::Failed),
        Ok(P::Cancelled) => Ok(M::Cancelled),
        Ok(P::Fenced) => Ok(M::Fenced),
        Ok(P::Unspecified) | Err(_) => Err(Problem::invalid(
            "states",
            format!("{state} is not a state"),
        )),
    };
    if request.page_size > 1000 {
        return Err(Problem::invalid(
            "page_size",
            "must be 1 to 1000, or 0 for 50",
        ));
    }
    Ok(RunFilter {
        job: given(request.job),
        states: request
            .states
            .into_iter()
            .map(state)
            .collect::<Result<_, _>>()?,
        page_size: request.page_size,
        page_token: given(request.page_token),
    })
}

/// The backfill to queue, and its idempotency key.
pub(in crate::api) fn backfill(
    request: proto::BackfillRequest,
) -> Result<(model::BackfillRequest, Option<String>), Problem> {
    use model::BackfillOnly as M;
    use proto::BackfillOnly as P;
    let only = match P::try_from(request.only) {
        Ok(P::Unspecified | P::Needed) => M::Needed,
        Ok(P::Missing) => M::Missing,
        Ok(P::Stale) => M::Stale,
        Ok(P::Failed) => M::Failed,
        Ok(P::All) => M::All,
        Err(_) => {
            let reason = format!("{} is not known", request.only);
            return Err(Problem::invalid("only", reason));
        }
    };
    let key = idempotency_key("idempotency_key", &request.idempotency_key)?;
    let backfill = model::BackfillRequest {
        job: request.job,
        from: request.from,
        to: request.to,
        only,
        order: match request.oldest_first {
            true => model::BackfillOrder::Oldest,
            false => model::BackfillOrder::Newest,
        },
        max_parallel: request.max_parallel.max(1),
        dry_run: request.dry_run,
    };
    Ok((backfill, key))
}
