//! Times a generation into a folder: `cargo run --release --example timing -- FOLDER [CLICKS] [REQUESTS] [THREADS] [DAYS] [USERS]`.

use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use rankmill_datagen::{Config, Part, Plan, Progress, Table, generate};

struct Quiet;

impl Progress for Quiet {
    fn part_done(&self, _: &Part, _: u64, _: u64) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments
        .next()
        .ok_or("usage: timing FOLDER [CLICKS] [REQUESTS] [THREADS] [DAYS] [USERS]")?;
    let mut number = |default: u64| -> Result<u64, std::num::ParseIntError> {
        arguments.next().map_or(Ok(default), |text| text.parse())
    };
    let config = Config {
        click_rows: number(5_000_000)?,
        web_rows: number(1_000_000)?,
        days: 3,
        ..Config::default()
    };
    let threads = number(2)? as usize;
    let config = Config {
        days: number(3)? as u32,
        users: number(200_000)?,
        ..config
    };
    std::fs::create_dir_all(&folder)?;
    let store = Arc::new(LocalFileSystem::new_with_prefix(&folder)?);
    let runtime = tokio::runtime::Runtime::new()?;
    let plan = Plan::new(&config)?;
    let lake = Path::default();
    let report = generate(&plan, store, &lake, threads, runtime.handle(), true, &Quiet)?;
    let seconds = report.elapsed.as_secs_f64();
    let mut cells = 0;
    for (table, totals) in &report.tables {
        cells += totals.rows * table.schema().fields().len() as u64;
        eprintln!("{table}: {totals:?}");
    }
    eprintln!(
        "{seconds:.2} s: {:.2} M rows/s, {:.1} M cells/s, {:.2} M clicks/s",
        plan.total_rows() as f64 / seconds / 1e6,
        cells as f64 / seconds / 1e6,
        report.tables[&Table::TicketClicks].rows as f64 / seconds / 1e6,
    );
    Ok(())
}
