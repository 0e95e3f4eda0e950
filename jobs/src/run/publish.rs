//! Publishes the result of one date.

use chrono::NaiveDate;
use datafusion::arrow::array::RecordBatch;
use datafusion::error::DataFusionError;

use super::{DateOutcome, JSON_NAME, PARQUET_NAME, Pass, publication_error, read_ranking};
use crate::error::{Error, Result};
use crate::inputs::Inputs;
use crate::publication::{Draft, DraftFile, Fingerprint, Outcome, Publication, read_current};
use crate::result::{encode_json, encode_parquet, verify_key, verify_ranking, with_rank_change};

/// What the result of a date is computed from; with rank changes also the ranking of the day
/// before, as it is published now.
pub(super) async fn fingerprint(
    pass: &Pass<'_>,
    inputs: &Inputs,
    date: NaiveDate,
) -> Result<Fingerprint> {
    let previous = match (pass.spec.compares_ranks(), date.pred_opt()) {
        (true, Some(day_before)) => read_current(pass.target, day_before)
            .await
            .map_err(publication_error(&pass.spec))?,
        _ => None,
    };
    Ok(inputs.fingerprint(&pass.spec_hash, date, previous.as_ref()))
}

/// Completes, verifies and commits the result of a date.
pub(super) async fn publish(
    pass: &Pass<'_>,
    publication: Publication,
    inputs: &Inputs,
    date: NaiveDate,
    mut rows: RecordBatch,
) -> Result<DateOutcome> {
    let spec = &pass.spec;
    let encode_error = |format| {
        move |source: DataFusionError| Error::Encode {
            job: spec.name.clone(),
            format,
            source: Box::new(source),
        }
    };
    let refused = |reason: String| Error::Verification {
        job: spec.name.clone(),
        date,
        reason,
    };
    let mut previous = None;
    if let Some(ranking) = &spec.ranking {
        if ranking.rank_change {
            previous = match date.pred_opt() {
                Some(day_before) => read_ranking(pass.target, &spec.name, day_before).await?,
                None => None,
            };
            let before = previous.as_ref().map(|(_, rows)| rows);
            rows = with_rank_change(ranking, &rows, before).map_err(encode_error("parquet"))?;
        }
        let verdict = verify_ranking(ranking, &rows).map_err(encode_error("parquet"))?;
        verdict.map_or(Ok(()), |reason| Err(refused(reason)))?;
    } else if !spec.output.key.is_empty() {
        let verdict = verify_key(&rows, &spec.output.key).map_err(encode_error("parquet"))?;
        verdict.map_or(Ok(()), |reason| Err(refused(reason)))?;
    }
    let count = rows.num_rows() as u64;
    if let Some(least) = spec.output.min_rows.filter(|least| count < *least) {
        let reason = format!("it has {count} rows; output.min_rows asks for {least}");
        return Err(refused(reason));
    }
    let parquet = encode_parquet(&rows).map_err(encode_error("parquet"))?;
    let json = encode_json(&spec.name, &date.to_string(), &rows).map_err(encode_error("json"))?;
    let file = |name: &str, bytes| DraftFile {
        name: name.to_owned(),
        rows: count,
        bytes,
    };
    let draft = Draft {
        job: spec.name.clone(),
        fingerprint: inputs.fingerprint(
            &pass.spec_hash,
            date,
            previous.as_ref().map(|(commit, _)| commit),
        ),
        rows: count,
        files: vec![file(PARQUET_NAME, parquet), file(JSON_NAME, json)],
    };
    let outcome = publication
        .commit(draft, pass.request.force)
        .await
        .map_err(publication_error(spec))?;
    Ok(match outcome {
        Outcome::Committed { generation } => DateOutcome::Published {
            generation,
            rows: count,
        },
        Outcome::AlreadyCurrent { by } => DateOutcome::AlreadyCurrent {
            generation: by.generation,
        },
        Outcome::Fenced { by } => DateOutcome::Fenced {
            generation: by.generation,
            run_id: by.run_id,
        },
    })
}
