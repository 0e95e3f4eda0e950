//! Deterministic simulation of publication: writers, rollbacks and readers on a faulty store, in
//! as many interleavings as there are seeds.
//!
//! Each store operation is two steps: it takes effect, it is answered. Between any two steps
//! another actor may run, an actor may die, a write given up long ago may land, time may leap. The
//! store keeps a ghost log of every effective change, against which all that is said or read is
//! checked. One seed is one schedule, always the same.
//!
//! `RANKMILL_SIM_SEEDS=200000 cargo test --release -p rankmill-jobs simulation` runs longer;
//! `RANKMILL_SIM_SEED=n` replays seed `n` and prints its trace.

mod actors;
mod executor;
mod ghost;
mod rng;
mod store;
mod world;

use std::env;
use std::ops::AddAssign;
use std::thread;

use self::actors::Mutation;
use self::executor::simulate;

/// What happened in one simulation, or in many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    steps: u64,
    commits: u64,
    rollbacks: u64,
    /// Runs that learned only from the chain that they had committed.
    committed_unawares: u64,
    already_current: u64,
    fenced: u64,
    unknown: u64,
    /// Runs that failed for sure.
    failed: u64,
    crashes: u64,
    /// Writes that took effect after their client had been told they had failed, or had died.
    landed_late: u64,
    whole_reads: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.commits += other.commits;
        self.rollbacks += other.rollbacks;
        self.committed_unawares += other.committed_unawares;
        self.already_current += other.already_current;
        self.fenced += other.fenced;
        self.unknown += other.unknown;
        self.failed += other.failed;
        self.crashes += other.crashes;
        self.landed_late += other.landed_late;
        self.whole_reads += other.whole_reads;
    }
}

/// How one simulation went.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    tally: Tally,
    violation: Option<String>,
    trace: Vec<String>,
}

/// Runs seeds `0..count` on all cores. The violation is that of the smallest seed found.
fn simulate_many(count: u64, mutation: Mutation) -> (Tally, Option<(u64, String)>) {
    let threads = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let run = |first: u64| {
        let mut tally = Tally::default();
        for seed in (first..count).step_by(threads as usize) {
            let report = simulate(seed, mutation, false);
            tally += report.tally;
            if let Some(violation) = report.violation {
                return (tally, Some((seed, violation)));
            }
        }
        (tally, None)
    };
    let run = &run;
    let results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || run(first)))
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let mut total = Tally::default();
    let mut found: Vec<(u64, String)> = Vec::new();
    for (tally, violation) in results {
        total += tally;
        found.extend(violation);
    }
    (total, found.into_iter().min())
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().expect("a seed or a count of seeds"))
}

fn fail(seed: u64, violation: &str) -> ! {
    panic!(
        "seed {seed}: {violation}\n\
         replay: RANKMILL_SIM_SEED={seed} cargo test -p rankmill-jobs simulation -- --nocapture"
    )
}

#[test]
fn the_contract_holds_in_every_interleaving() {
    if let Some(seed) = number("RANKMILL_SIM_SEED") {
        let report = simulate(seed, Mutation::None, true);
        println!("{}\n{:?}", report.trace.join("\n"), report.tally);
        if let Some(violation) = report.violation {
            fail(seed, &violation);
        }
        return;
    }
    let count = number("RANKMILL_SIM_SEEDS").unwrap_or(3_000);
    let started = std::time::Instant::now();
    let (tally, violation) = simulate_many(count, Mutation::None);
    println!("{count} seeds in {:.1?}: {tally:?}", started.elapsed());
    if let Some((seed, violation)) = violation {
        fail(seed, &violation);
    }
    if count >= 3_000 {
        // A simulation in which nothing goes wrong proves nothing.
        for (what, times) in [
            ("commits", tally.commits),
            ("rollbacks", tally.rollbacks),
            ("commits learned of late", tally.committed_unawares),
            ("already current", tally.already_current),
            ("fenced", tally.fenced),
            ("unknown outcomes", tally.unknown),
            ("crashes", tally.crashes),
            ("late writes", tally.landed_late),
            ("whole reads", tally.whole_reads),
        ] {
            assert!(times >= count / 300, "{what}: only {times}");
        }
    }
}

#[test]
fn a_seed_is_one_schedule() {
    for seed in 0..20 {
        let report = simulate(seed, Mutation::None, true);
        assert!(!report.trace.is_empty());
        assert_eq!(report, simulate(seed, Mutation::None, true));
    }
}

/// A simulation that cannot fail is a defect: each of these faults must be found.
fn finds(mutation: Mutation, expected: &[&str]) {
    let (_, violation) = simulate_many(3_000, mutation);
    let (seed, violation) = violation.expect("no violation found");
    println!("{mutation:?}: seed {seed}: {violation}");
    assert!(
        expected.iter().any(|part| violation.contains(part)),
        "{violation}"
    );
}

#[test]
fn finds_a_store_that_ignores_if_match() {
    finds(Mutation::StoreIgnoresIfMatch, &["does not follow"]);
}

#[test]
fn finds_an_unconditional_commit() {
    finds(Mutation::UnconditionalCommit, &["does not follow"]);
}

#[test]
fn finds_a_commit_before_its_data() {
    finds(Mutation::CommitBeforeData, &["is not whole"]);
}

#[test]
fn finds_a_conflict_taken_for_a_fence() {
    finds(Mutation::ConflictMeansFenced, &["was told", "was removed"]);
}

#[test]
fn finds_a_chain_that_is_not_walked() {
    finds(Mutation::ChainNotWalked, &["but committed", "was removed"]);
}

#[test]
fn finds_fencing_that_does_not_fence() {
    finds(Mutation::NeverFenced, &["does not rise"]);
}

#[test]
fn finds_data_removed_while_in_doubt() {
    finds(Mutation::DiscardInDoubt, &["is not whole", "was removed"]);
}

#[test]
fn finds_a_second_publication_of_the_same() {
    finds(Mutation::NeverAlreadyCurrent, &["published again"]);
}
