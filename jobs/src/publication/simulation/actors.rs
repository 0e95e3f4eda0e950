//! Who takes part: writers, rollbacks and readers, and writers with a known fault.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::NaiveDate;
use object_store::memory::InMemory;
use object_store::path::Path;
use uuid::Uuid;

use super::ghost::{Run, Told};
use super::store::FaultyStore;
use super::world::{JumpyClock, World};
use crate::publication::decide::{Claim, Decision, decide};
use crate::publication::land::Judge;
use crate::publication::{
    Clock, Commit, Draft, DraftFile, Error, Fingerprint, InputFile, Outcome, Publication, Retry,
    RunId, Target, history, read_current, read_file, rollback,
};

/// A fault built in on purpose, for the simulation to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutation {
    None,
    StoreIgnoresIfMatch,
    UnconditionalCommit,
    CommitBeforeData,
    ConflictMeansFenced,
    ChainNotWalked,
    NeverFenced,
    NeverAlreadyCurrent,
    DiscardInDoubt,
}

impl Mutation {
    fn judge(self) -> Judge {
        match self {
            Self::ConflictMeansFenced => |_, current, _| match current {
                Some(current) => Decision::Fenced { by: current.id },
                None => Decision::Retry,
            },
            Self::ChainNotWalked => |claim, current, _| decide(claim, current, &[]),
            Self::NeverFenced => |claim, current, earlier| {
                let decision = decide(claim, current, earlier);
                match decision {
                    Decision::Fenced { .. } => Decision::Retry,
                    other => other,
                }
            },
            Self::NeverAlreadyCurrent => |claim, current, earlier| {
                let force = true;
                let claim = Claim {
                    force,
                    ..claim.clone()
                };
                decide(&claim, current, earlier)
            },
            _ => decide,
        }
    }
}

/// What a writer will do.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) date: NaiveDate,
    /// Runs one after the other.
    pub(super) runs: usize,
    /// Which inputs it reads: equal numbers publish the same.
    pub(super) inputs: usize,
    pub(super) force: bool,
    /// Rolls back instead of publishing.
    pub(super) rolls_back: bool,
    /// How long it sleeps between begin and commit.
    pub(super) nap: Duration,
}

const PREFIX: &str = "rankings/popularity";

fn target(world: &World) -> Target {
    let retry = Retry {
        attempts: world.state().rng.pick(&[2, 4, 8]),
        ..Retry::default()
    };
    Target::new(Arc::new(FaultyStore(world.clone())), Path::from(PREFIX))
        .with_clock(Arc::new(JumpyClock(world.clone())))
        .with_retry(retry)
}

/// The files and the manifest of a commit, with digests of the files.
pub(super) fn target_paths(commit: &Commit) -> Vec<(Path, Option<String>)> {
    let target = Target::new(Arc::new(InMemory::new()), Path::from(PREFIX));
    let manifest = target.manifest_path(commit.date, &commit.id);
    let files = commit.files.iter().map(|file| {
        let path = target.file_path(commit.date, file).unwrap();
        (path, Some(file.sha256.clone()))
    });
    files.chain([(manifest, None)]).collect()
}

pub(super) async fn writer(world: World, plan: Plan) {
    let target = target(&world);
    let mut runs = plan.runs;
    while runs > 0 {
        runs -= 1;
        let id = {
            let rng = &mut world.state().rng;
            u128::from(rng.next()) << 64 | u128::from(rng.next())
        };
        let run_id = RunId::from(Uuid::from_u128(id));
        let fingerprint = fingerprint(plan.inputs);
        world.state().ghost.begin(
            run_id,
            Run {
                fingerprint: (!plan.rolls_back).then(|| fingerprint.clone()),
                force: plan.force,
                epoch: None,
                told: None,
            },
        );
        let result = match plan.rolls_back {
            true => roll_back(&world, &target, &plan, run_id).await,
            false => Some(publish(&world, &target, &plan, run_id, fingerprint).await),
        };
        let Some(result) = result else {
            return;
        };
        let mut state = world.state();
        state.note(|| format!("run {run_id} was told {result:?}"));
        if let Err(error) = &result {
            match error.retryable() {
                true if runs == 0 && state.rng.chance(500) => runs = 1,
                true => {}
                false => state.fail(format!("run {run_id}: {error}")),
            }
        }
        if let Ok(Outcome::Committed { generation }) = result {
            let newest = state.ghost.log(plan.date).last();
            if newest.is_some_and(|newest| newest.id.generation != generation) {
                state.tally.committed_unawares += 1;
            }
        }
        state.ghost.run(run_id).told = Some(Told::from(result));
    }
}

async fn publish(
    world: &World,
    target: &Target,
    plan: &Plan,
    run_id: RunId,
    fingerprint: Fingerprint,
) -> Result<Outcome, Error> {
    let mut publication = Publication::begin(target, plan.date, run_id).await?;
    world.state().ghost.run(run_id).epoch = Some(publication.epoch);
    if !plan.nap.is_zero() {
        JumpyClock(world.clone()).sleep(plan.nap).await;
    }
    let file = |name: &str| DraftFile {
        name: name.to_owned(),
        rows: 1,
        bytes: Bytes::from(format!("{name} of {run_id} from {}", plan.inputs)),
    };
    let draft = Draft {
        job: "popularity".to_owned(),
        fingerprint,
        rows: 1,
        files: vec![file("part-0.parquet"), file("ranking.json")],
    };
    let mutation = world.state().mutation;
    let judge = mutation.judge();
    let covered = !plan.force && publication.is_current(&draft.fingerprint);
    match mutation {
        _ if covered => publication.commit(draft, plan.force).await,
        Mutation::CommitBeforeData => {
            let body = publication.describe(&draft)?;
            let outcome = publication.land(judge, &body, plan.force).await?;
            publication.write_data(&draft).await?;
            Ok(outcome)
        }
        Mutation::DiscardInDoubt => {
            let body = publication.describe(&draft)?;
            publication.write_data(&draft).await?;
            let outcome = publication.land(judge, &body, plan.force).await;
            if !matches!(outcome, Ok(Outcome::Committed { .. })) {
                publication.discard().await;
            }
            outcome
        }
        _ => publication.commit_judged_by(judge, draft, plan.force).await,
    }
}

/// `None` if there is nothing to roll back to.
async fn roll_back(
    world: &World,
    target: &Target,
    plan: &Plan,
    run_id: RunId,
) -> Option<Result<Outcome, Error>> {
    for _ in 0..10 {
        let newest = match read_current(target, plan.date).await {
            Ok(current) => current.map_or(0, |current| current.id.generation),
            Err(error) => return Some(Err(error)),
        };
        if newest > 1 {
            let generation = 1 + world.state().rng.below(newest as usize - 1) as u64;
            return Some(rollback(target, plan.date, generation, run_id).await);
        }
        let clock = JumpyClock(world.clone());
        clock.sleep(Duration::from_secs(1)).await;
    }
    None
}

pub(super) async fn reader(world: World, date: NaiveDate, reads: usize) {
    let target = target(&world);
    let mut seen = 0;
    for _ in 0..reads {
        let before = world.state().ghost.log(date).len();
        match read_whole(&target, date).await {
            Ok(commit) => {
                let mut state = world.state();
                state.check_read(date, before, commit.as_ref(), &mut seen);
            }
            Err(error) => tolerate(&world, &error),
        }
        let wait = Duration::from_millis(world.state().rng.pick(&[0, 5, 100]));
        JumpyClock(world.clone()).sleep(wait).await;
    }
    check_history(&world, &target, date).await;
}

async fn read_whole(target: &Target, date: NaiveDate) -> Result<Option<Commit>, Error> {
    let current = read_current(target, date).await?;
    if let Some(commit) = &current {
        for file in &commit.files {
            read_file(target, commit, file).await?;
        }
    }
    Ok(current)
}

/// The history as it can be read is the log as it was at some time meanwhile.
pub(super) async fn check_history(world: &World, target: &Target, date: NaiveDate) {
    let before = world.state().ghost.log(date).len();
    match history(target, date).await {
        Ok(mut commits) => {
            commits.reverse();
            let mut state = world.state();
            let log = state.ghost.log(date);
            if commits.len() < before || !log.starts_with(&commits) {
                state.fail(format!("the history of {date} is not what happened"));
            }
        }
        Err(error) => tolerate(world, &error),
    }
}

/// Reads everything when all is quiet: now nothing may fail.
pub(super) async fn auditor(world: World) {
    let target = target(&world);
    let dates = world.state().ghost.dates();
    for date in dates {
        let read = read_whole(&target, date).await;
        if let Err(error) = read {
            world
                .state()
                .fail(format!("{date} cannot be read: {error}"));
        }
        check_history(&world, &target, date).await;
    }
}

fn tolerate(world: &World, error: &Error) {
    if !error.retryable() {
        world.state().fail(format!("a reader met: {error}"));
    }
}

fn fingerprint(inputs: usize) -> Fingerprint {
    Fingerprint {
        spec_hash: "spec".to_owned(),
        engine_version: "1".to_owned(),
        inputs: vec![InputFile {
            key: "stage/part-0.parquet".to_owned(),
            size: inputs as u64,
            e_tag: None,
        }],
    }
}
