//! Rows in memory: the same ones in every run.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Date32Array, Int32Array, Int64Array, RecordBatch, StringViewArray,
};
use datafusion::datasource::MemTable;
use rankmill_engine::Session;

const BATCH_ROWS: usize = 8_192;
const DAYS: usize = 4;
const ITEMS: u64 = 20_000;
/// Between keys that no array would hold.
const STEP: i64 = (1 << 33) + 1;

/// How large the tables are.
pub(crate) struct Sizes {
    /// Of `log` and of `items`.
    pub(crate) rows: usize,
    /// Of `users`.
    pub(crate) users: usize,
}

/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A rank below `n` by a Zipf law of exponent 1: ranks are spread evenly by their logarithm.
    fn zipf(&mut self, n: u64) -> u64 {
        let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        ((n as f64 + 1.0).powf(unit) as u64 - 1).min(n - 1)
    }
}

/// Makes the tables `log`, `users` and `items`.
pub(crate) fn register(session: &Session, rows: usize) -> anyhow::Result<Sizes> {
    let users = rows / 4;
    let mut random = Random(42);
    let starts = (0..rows).step_by(BATCH_ROWS);
    let spans: Vec<_> = starts
        .map(|start| start..(start + BATCH_ROWS).min(rows))
        .collect();
    let mut tables: [(&str, Vec<RecordBatch>); 3] = [
        ("log", Vec::new()),
        ("items", Vec::new()),
        ("users", Vec::new()),
    ];
    for span in spans {
        let days = span.clone().map(|row| (row * DAYS / rows) as i32);
        let days: ArrayRef = Arc::new(Date32Array::from_iter_values(days));
        tables[0].1.push(log(&days, users as u64, &mut random)?);
        let clicks = span.clone().map(|_| random.zipf(1 << 40) as i64);
        tables[1].1.push(RecordBatch::try_from_iter(vec![
            ("date", Arc::clone(&days)),
            (
                "item",
                Arc::new(Int64Array::from_iter_values(span.map(|row| row as i64))),
            ),
            ("clicks", Arc::new(Int64Array::from_iter_values(clicks))),
        ])?);
    }
    for start in (0..users).step_by(BATCH_ROWS) {
        let numbers: Vec<u64> = (start..(start + BATCH_ROWS).min(users))
            .map(|u| u as u64)
            .collect();
        let regions = numbers.iter().map(|user| format!("region {}", user % 17));
        let mut columns = keys(&numbers);
        let regions: ArrayRef = Arc::new(StringViewArray::from_iter_values(regions));
        columns.push(("region", regions));
        tables[2].1.push(RecordBatch::try_from_iter(columns)?);
    }
    let context = session.context();
    let partitions = context.copied_config().target_partitions();
    for (name, batches) in tables {
        let schema = batches[0].schema();
        let of_partition = batches.len().div_ceil(partitions);
        let parts = batches.chunks(of_partition).map(<[_]>::to_vec).collect();
        context.register_table(name, Arc::new(MemTable::try_new(schema, parts)?))?;
    }
    Ok(Sizes { rows, users })
}

fn log(days: &ArrayRef, users: u64, random: &mut Random) -> anyhow::Result<RecordBatch> {
    let rows = days.len();
    // Hot users lie anywhere among the numbers.
    let of_log: Vec<u64> = (0..rows)
        .map(|_| random.zipf(users).wrapping_mul(7_919) % users)
        .collect();
    let items: Vec<u64> = (0..rows).map(|_| random.zipf(ITEMS)).collect();
    let hot = items.iter().map(|item| match random.below(2) {
        0 => 0,
        _ => *item as i32,
    });
    let hot = Int32Array::from_iter_values(hot);
    let latencies = (0..rows).map(|_| random.zipf(60_000) as i32);
    let mut columns = keys(&of_log);
    columns.push(("date", Arc::clone(days)));
    let items = items.iter().map(|item| *item as i64);
    columns.push(("item", Arc::new(Int64Array::from_iter_values(items))));
    columns.push(("hot", Arc::new(hot)));
    columns.push(("latency", Arc::new(Int32Array::from_iter_values(latencies))));
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// Users by number, by numbers far from each other, and by name.
fn keys(users: &[u64]) -> Vec<(&'static str, ArrayRef)> {
    let numbers = users.iter().map(|user| *user as i64);
    let sparse = numbers.clone().map(|user| user * STEP);
    let names = users.iter().map(|user| format!("user-{user:012}"));
    vec![
        ("user", Arc::new(Int64Array::from_iter_values(numbers))),
        ("sparse", Arc::new(Int64Array::from_iter_values(sparse))),
        ("name", Arc::new(StringViewArray::from_iter_values(names))),
    ]
}
