//! An inspection foretells what a run does, whatever happened before.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::TimeUnit;
use object_store::memory::InMemory;
use proptest::prelude::*;
use rankmill_jobs::{Change, DateOutcome, Inspection, Inspector, Status};

use crate::job::{Job, day, epoch_day};
use crate::lake::{Lake, Value, ints, texts, timestamps};

const DAYS: i64 = 5;
const ALL: [i64; DAYS as usize] = [0, 1, 2, 3, 4];
/// More than are looked at one by one.
const MANY: i64 = 20;

/// How a job knows the date of a row, and what else it reads.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Folders,
    Window,
    RankChange,
    Column,
    Dimensions,
    Query,
    DateInPath,
}

const SHAPES: [Shape; 7] = [
    Shape::Folders,
    Shape::Window,
    Shape::RankChange,
    Shape::Column,
    Shape::Dimensions,
    Shape::Query,
    Shape::DateInPath,
];

impl Shape {
    fn yaml(self, top: u32) -> String {
        let source = match self {
            Self::Window => "{ path: '{lake}/log/', date: { partition: date }, window_days: 2 }",
            Self::Column => {
                "{ path: '{lake}/stream/', date: { column: at, timezone: Asia/Seoul }, window_days: 2 }"
            }
            Self::DateInPath => "{ path: '{lake}/log/date={date}/', date: { partition: date } }",
            _ => "{ path: '{lake}/log/', date: { partition: date } }",
        };
        let what = match self {
            Self::Query => {
                return format!(
                    "version: 1
name: test
sources:
  log: {{ path: '{{lake}}/log/', date: {{ partition: date }}, window_days: 3 }}
  same: {{ path: '{{lake}}/log/date=*/*.parquet', date: {{ partition: date }} }}
  stream: {{ path: '{{lake}}/stream/', date: {{ column: at }} }}
  users: {{ path: '{{lake}}/users.parquet' }}
sql: SELECT item, count(*) AS n FROM log WHERE '{{date}}' <> '' GROUP BY item ORDER BY n LIMIT {top}
output: {{ path: '{{lake}}/out/' }}
"
                );
            }
            Self::Dimensions => {
                "lookups: [{ path: '{lake}/users.parquet', on: item, attributes: { band: name } }]
labels: [{ path: '{lake}/titles/', on: item, columns: [name] }]
ranking:
  per: [date, band]
"
            }
            Self::RankChange => "ranking:\n  rank_change: true\n",
            _ => "ranking:\n",
        };
        format!(
            "version: 1
name: test
source: {source}
{what}  item: item
  measures: {{ n: 'count(*)' }}
  order_by: [n]
  top: {top}
output: {{ path: '{{lake}}/out/' }}
"
        )
    }
}

/// Something that happens to a lake.
#[derive(Debug, Clone)]
enum Step {
    /// A file of a day comes, or is written anew.
    Write(i64, u8, Vec<u8>),
    /// A file of a stream that spans days, with rows of some hours.
    Stream(u8, Vec<i64>),
    Remove(i64, u8),
    RemoveStream(u8),
    Dimension(u8),
    /// The spec changes.
    Top(u32),
    Run(i64),
    Force(i64),
    AllowEmpty(i64),
    RollBack(i64, prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let items = || prop::collection::vec(0u8..3, 1..4);
    prop_oneof![
        4 => (0..DAYS, 0u8..2, items()).prop_map(|(d, f, items)| Step::Write(d, f, items)),
        3 => (0u8..3, prop::collection::vec(0..DAYS * 24, 1..4))
            .prop_map(|(f, hours)| Step::Stream(f, hours)),
        2 => (0..DAYS, 0u8..2).prop_map(|(d, f)| Step::Remove(d, f)),
        1 => (0u8..3).prop_map(Step::RemoveStream),
        1 => (0u8..3).prop_map(Step::Dimension),
        1 => (1..3u32).prop_map(Step::Top),
        12 => (0..DAYS).prop_map(Step::Run),
        1 => (0..DAYS).prop_map(Step::Force),
        1 => (0..DAYS).prop_map(Step::AllowEmpty),
        2 => (0..DAYS, any::<prop::sample::Index>()).prop_map(|(d, to)| Step::RollBack(d, to)),
    ]
}

struct World {
    lake: Lake,
    shape: Shape,
    /// Where it publishes.
    output: &'static str,
    job: Job,
    files: BTreeSet<String>,
    /// Sees the whole history.
    inspector: Inspector,
}

impl World {
    fn new(shape: Shape, output: &'static str) -> Self {
        let lake = Lake::new();
        let job = Job::new(&lake, &shape.yaml(2).replace("{lake}/out/", output));
        job.use_store("s3://memory", Arc::new(InMemory::new()));
        let mut world = Self {
            inspector: job.inspector(),
            lake,
            shape,
            output,
            job,
            files: BTreeSet::new(),
        };
        world.dimension(0);
        world
    }

    fn dimension(&mut self, version: u8) {
        let ids: Vec<Value> = (0..3).map(Value::Int).collect();
        let names = vec![Value::text(format!("v{version}")); 3];
        let columns = [("item", ints(&ids)), ("name", texts(&names))];
        self.lake.write("users.parquet", &columns, 10);
        self.lake
            .write(&format!("titles/{version}.parquet"), &columns, 10);
        // One row for each key, wherever it comes from.
        for other in (0..3).filter(|other| *other != version) {
            let file = format!("titles/{other}.parquet");
            if self.files.remove(&file) {
                self.lake.remove(&file);
            }
        }
        self.files.insert(format!("titles/{version}.parquet"));
    }

    fn write(&mut self, file: String, hours: &[i64], items: &[u8]) {
        let rows = hours.len().max(items.len());
        let hours: Vec<Value> = (0..rows)
            .map(|i| hours.get(i).or(hours.last()).copied().unwrap_or(0))
            // Days begin at 15:00 UTC in Seoul: the last hours belong to the next one.
            .map(|hour| Value::Int(i128::from(epoch_day(0) * 24 + hour) * 3_600_000_000))
            .collect();
        let items: Vec<Value> = (0..rows)
            .map(|i| Value::Int(items.get(i).copied().unwrap_or(1).into()))
            .collect();
        let at = timestamps(&hours, TimeUnit::Millisecond, None);
        self.lake
            .write(&file, &[("item", ints(&items)), ("at", at)], 100);
        self.files.insert(file);
    }

    fn remove(&mut self, file: &str) {
        if self.files.remove(file) {
            self.lake.remove(file);
        }
    }

    fn take(&mut self, step: &Step) {
        let log = |number: i64, file: u8| format!("log/date={}/{file}.parquet", day(number));
        match step {
            Step::Write(number, file, items) => self.write(log(*number, *file), &[], items),
            Step::Stream(file, hours) => self.write(format!("stream/{file}.parquet"), hours, &[]),
            Step::Remove(number, file) => self.remove(&log(*number, *file)),
            Step::RemoveStream(file) => self.remove(&format!("stream/{file}.parquet")),
            Step::Dimension(version) => self.dimension(*version),
            Step::Top(top) => {
                let yaml = self.shape.yaml(*top).replace("{lake}/out/", self.output);
                self.job.change_spec(&yaml);
            }
            Step::Run(number) => self.run(*number),
            Step::Force(number) => drop(self.job.clone().forced().run(&[*number])),
            Step::AllowEmpty(number) => drop(self.job.clone().allowing_empty().run(&[*number])),
            Step::RollBack(number, to) => {
                let generations = self.job.generations(*number);
                if !generations.is_empty() {
                    self.job
                        .roll_back(*number, generations[to.index(generations.len())]);
                }
            }
        }
    }

    /// Inspects all days, then runs one: what was found must be what happens.
    fn run(&self, number: i64) {
        let days: Vec<i64> = (0..MANY).collect();
        let found = self.job.inspect(&self.inspector, &days).unwrap();
        let anew = self.job.inspect(&self.job.inspector(), &days).unwrap();
        assert_eq!(found, anew, "what is remembered must not matter");
        let alone = self.job.inspect(&self.inspector, &[number]).unwrap();
        let found = found[number as usize];
        assert_eq!(alone, [found], "nor what else is asked for");
        let report = self.job.run(&[number]).unwrap();
        let mut outcome = report.dates[0].outcome.clone();
        match &mut outcome {
            DateOutcome::Published { rows, .. } => *rows = 0,
            DateOutcome::Gap { path } => path.clear(),
            _ => {}
        }
        assert_eq!(foretold(&found), outcome, "day {number}: {found:?}");
        let after = self.job.inspect(&self.inspector, &[number]).unwrap()[0];
        let expected = match found.status {
            Status::NoSource => Status::NoSource,
            _ => Status::Published,
        };
        assert_eq!(after.status, expected, "day {number} after the run");
    }
}

/// The outcome that an inspection foretells; rows are 0.
fn foretold(found: &Inspection) -> DateOutcome {
    let generation = found.generation.unwrap_or(0);
    match found.status {
        Status::NoSource => DateOutcome::Gap {
            path: String::new(),
        },
        Status::Missing => DateOutcome::Published {
            generation: 1,
            rows: 0,
        },
        Status::Stale(_) => DateOutcome::Published {
            generation: generation + 1,
            rows: 0,
        },
        Status::Published => DateOutcome::AlreadyCurrent { generation },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_run_does_what_was_foretold(
        shape in prop::sample::select(SHAPES.to_vec()),
        output in prop::sample::select(vec!["{lake}/out/", "s3://memory/out/"]),
        full: bool,
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let mut world = World::new(shape, output);
        if full {
            world.take(&Step::Stream(0, vec![0, 30, 50, DAYS * 24 - 1]));
            ALL.iter().for_each(|number| world.take(&Step::Write(*number, 0, vec![1])));
        }
        steps.iter().for_each(|step| world.take(step));
        ALL.iter().for_each(|number| world.run(*number));
    }
}

#[test]
fn what_changed_is_told() {
    let mut world = World::new(Shape::Folders, "{lake}/out/");
    let status = |world: &World| world.job.inspect(&world.inspector, &[0]).unwrap()[0].status;
    assert_eq!(status(&world), Status::NoSource);
    world.take(&Step::Write(0, 0, vec![1]));
    assert_eq!(status(&world), Status::Missing);
    world.run(0);
    world.take(&Step::Write(0, 1, vec![1, 2]));
    assert_eq!(status(&world), Status::Stale(Change::Input));
    world.run(0);
    world.take(&Step::Top(1));
    assert_eq!(status(&world), Status::Stale(Change::Spec));
    world.run(0);
    // A rollback stands, whatever it goes back to, until something changes.
    world.job.roll_back(0, 1);
    assert_eq!(status(&world), Status::Published);
    world.take(&Step::Write(0, 1, vec![1, 2, 2]));
    assert_eq!(status(&world), Status::Stale(Change::Input));
}

#[test]
fn a_missing_dimension_is_an_error_as_it_is_for_a_run() {
    let world = World::new(Shape::Dimensions, "{lake}/out/");
    world.lake.remove("users.parquet");
    let error = world.job.inspect(&world.inspector, &ALL).unwrap_err();
    let run = world.job.run(&[0]).unwrap_err();
    assert_eq!(format!("{error:?}"), format!("{run:?}"));
}
