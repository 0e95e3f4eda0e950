//! Seeded, skewed click and web logs of a ticket shop, as zstd-compressed Parquet partitioned by date.
//!
//! What it makes, under any prefix of an object store:
//!
//! ```text
//! stage/ticket_clicks/date=2026-06-01/part-00000.parquet   the clicks, sorted by time
//! stage/web_logs/date=2026-06-01/part-00000.parquet        the requests, sorted by time
//! dim/users/part-00000.parquet
//! dim/performances/part-00000.parquet
//! truth.json                                               exact answers, written last
//! ```
//!
//! `date` is the calendar date in Asia/Seoul (UTC+9). Popularity follows Zipf's law, moves from day to day and differs
//! by age; users are skewed, some anonymous, some unknown, a few are bots; traffic has the shape of days and weeks.
//!
//! Every value is a pure function of (seed, purpose, row), so equal [`Config`]s give byte-identical files on any number
//! of threads. It is a generator of load and of rankings to check, not a model of a real shop, and it never reads a
//! query engine's mind: this crate does not depend on one.
//!
//! ```
//! use std::sync::Arc;
//! use object_store::{memory::InMemory, path::Path};
//! use rankmill_datagen::{Config, Part, Plan, Progress, Table, generate, truth};
//!
//! struct Quiet;
//! impl Progress for Quiet {
//!     fn part_done(&self, _: &Part, _: u64, _: u64) {}
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config { click_rows: 1_000, web_rows: 100, users: 50, performances: 20, ..Config::default() };
//! let plan = Plan::new(&config)?;
//! let runtime = tokio::runtime::Runtime::new()?;
//! let store = Arc::new(InMemory::new());
//! let lake = Path::from("lake");
//! let report = generate(&plan, store.clone(), &lake, 2, runtime.handle(), false, &Quiet)?;
//! assert_eq!(report.tables[&Table::TicketClicks].rows, 1_000);
//!
//! let truth = runtime.block_on(truth::read(store.as_ref(), &lake))?.expect("a whole lake");
//! let winner = &truth.daily_popularity[0].top[0];
//! assert!(winner.visitors > 1 && winner.clicks >= winner.visitors);
//! # Ok(())
//! # }
//! ```

mod address;
mod age;
mod catalogue;
mod clock;
mod config;
mod describe;
mod draw;
mod encode;
mod error;
mod inspect;
mod lake;
mod live;
mod make;
mod plan;
mod population;
mod random;
mod runner;
mod site;
mod spread;
mod tables;
mod timeline;
mod traffic;
pub mod truth;
mod work;

pub use age::{AgeBand, age_band};
pub use config::{Config, Profile};
pub use describe::{Description, describe};
pub use error::Error;
pub use inspect::{Findings, verify};
pub use live::{Appended, Pace, append, begun};
pub use make::Maker;
pub use plan::{Part, Plan};
pub use runner::{Progress, Report, generate};
pub use spread::{Made, Spread, put};
pub use tables::Table;
pub use truth::Truth;
