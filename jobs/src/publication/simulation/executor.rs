//! The scheduler: one thread, one generator, every choice from the seed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use chrono::NaiveDate;

use super::Report;
use super::actors::{Mutation, Plan, auditor, reader, writer};
use super::world::World;

/// More steps than any schedule needs: a run that takes them is caught in a loop.
const STEPS_MAX: u64 = 50_000;

type Actor = Pin<Box<dyn Future<Output = ()>>>;

struct Slot {
    actor: Option<Actor>,
    /// What to begin anew when it dies. Readers do not.
    plan: Option<Plan>,
}

struct Executor {
    world: World,
    slots: Vec<Slot>,
    crashes_left: usize,
    /// How likely the same actor goes on, in thousandths: high for long solo runs.
    stickiness: u64,
}

/// Runs the schedule of one seed.
pub(super) fn simulate(seed: u64, mutation: Mutation, traced: bool) -> Report {
    let world = World::new(seed, mutation, traced);
    let mut executor = Executor::cast(world.clone());
    executor.run();
    {
        let mut state = world.state();
        while !state.adrift.is_empty() {
            land_one(&mut state);
        }
        state.check_end();
        state.faults = 0;
    }
    executor.crashes_left = 0;
    executor.spawn(Box::pin(auditor(world.clone())), None);
    executor.run();
    let mut state = world.state();
    Report {
        tally: state.tally,
        violation: state.violation.take(),
        trace: state.trace.take().unwrap_or_default(),
    }
}

impl Executor {
    /// Chooses who takes part.
    fn cast(world: World) -> Self {
        let (writers, readers, days, crashes_left, stickiness) = {
            let rng = &mut world.state().rng;
            (
                rng.pick(&[2, 2, 3]),
                rng.pick(&[1, 2]),
                rng.pick(&[1, 1, 1, 2]),
                rng.pick(&[0, 0, 1, 2]),
                rng.pick(&[0, 300, 900]),
            )
        };
        let mut executor = Self {
            world: world.clone(),
            slots: Vec::new(),
            crashes_left,
            stickiness,
        };
        let same_inputs = world.state().rng.chance(400);
        for number in 0..writers {
            let plan = plan(&world, days, if same_inputs { 0 } else { number });
            executor.spawn(Box::pin(writer(world.clone(), plan.clone())), Some(plan));
        }
        for _ in 0..readers {
            let (date, reads) = {
                let rng = &mut world.state().rng;
                (date(rng.below(days)), 2 + rng.below(5))
            };
            executor.spawn(Box::pin(reader(world.clone(), date, reads)), None);
        }
        executor
    }

    fn spawn(&mut self, actor: Actor, plan: Option<Plan>) {
        let actor = Some(actor);
        self.slots.push(Slot { actor, plan });
        self.world.state().wake_at_ms.push(0);
    }

    fn run(&mut self) {
        let mut last = None;
        for _ in 0..STEPS_MAX {
            let Some(next) = self.next(last) else {
                return;
            };
            last = next;
            let Some(number) = next else {
                continue;
            };
            let slot = &mut self.slots[number];
            if let Some(actor) = &mut slot.actor {
                let mut context = Context::from_waker(Waker::noop());
                if actor.as_mut().poll(&mut context).is_ready() {
                    slot.actor = None;
                }
            }
            self.maybe_crash(number);
        }
        self.world
            .state()
            .fail(format!("no end after {STEPS_MAX} steps"));
    }

    /// Who runs next; `Some(None)` if something else happened instead, `None` when all is over.
    fn next(&mut self, last: Option<usize>) -> Option<Option<usize>> {
        let mut state = self.world.state();
        let state = &mut *state;
        if state.violation.is_some() {
            return None;
        }
        state.tally.steps += 1;
        state.now_ms += state.rng.next() % 3;
        if state.rng.chance(2) {
            state.now_ms += 3_600_000;
        }
        if !state.adrift.is_empty() && state.rng.chance(60) {
            land_one(state);
            return Some(None);
        }
        let alive = |number: &usize| self.slots[*number].actor.is_some();
        let awake = |number: &usize| state.wake_at_ms[*number] <= state.now_ms;
        let all: Vec<usize> = (0..self.slots.len()).filter(alive).collect();
        let ready: Vec<usize> = all.iter().copied().filter(awake).collect();
        if ready.is_empty() {
            let earliest = all.iter().map(|number| state.wake_at_ms[*number]).min()?;
            state.now_ms = earliest;
            return Some(None);
        }
        let sticky = state.rng.chance(self.stickiness);
        let number = match last.filter(|last| sticky && ready.contains(last)) {
            Some(last) => last,
            None => state.rng.pick(&ready),
        };
        state.actor = number;
        Some(Some(number))
    }

    /// The actor may die here, and may be started again: as a new run, with the same inputs or
    /// with others.
    fn maybe_crash(&mut self, number: usize) {
        let crashes = self.crashes_left > 0
            && self.slots[number].actor.is_some()
            && self.slots[number].plan.is_some()
            && self.world.state().rng.chance(15);
        if !crashes {
            return;
        }
        self.crashes_left -= 1;
        let slot = &mut self.slots[number];
        slot.actor = None; // dropping it may lock the world
        let Some(mut plan) = slot.plan.take() else {
            return;
        };
        let mut state = self.world.state();
        state.tally.crashes += 1;
        state.note(|| "CRASHED".to_owned());
        let restarts = state.rng.chance(700);
        if state.rng.chance(500) {
            plan.inputs += 100;
        }
        drop(state);
        if restarts {
            let actor = Box::pin(writer(self.world.clone(), plan.clone()));
            self.spawn(actor, Some(plan));
        }
    }
}

/// One of the writes that nobody waits for takes effect, if it still can.
fn land_one(state: &mut super::world::State) {
    let number = state.rng.below(state.adrift.len());
    let write = state.adrift.swap_remove(number);
    state.note(|| format!("a late write of {} arrives", write.path));
    if state.apply(write).is_ok() {
        state.tally.landed_late += 1;
    }
}

fn date(number: usize) -> NaiveDate {
    NaiveDate::default() + chrono::Days::new(number as u64)
}

fn plan(world: &World, days: usize, inputs: usize) -> Plan {
    let rng = &mut world.state().rng;
    Plan {
        date: date(rng.below(days)),
        runs: rng.pick(&[1, 1, 2, 3]),
        inputs,
        force: rng.chance(200),
        rolls_back: rng.chance(150),
        nap: Duration::from_secs(rng.pick(&[0, 0, 0, 1, 7200])),
    }
}
