//! A lake on disk, with a little log.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{NaiveDate, Utc};
use datafusion::arrow::array::{Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::parquet::arrow::ArrowWriter;
use tempfile::TempDir;

use crate::model::{Run, RunKind, RunState, Trigger};

/// A day of January 2026.
pub(crate) fn day(number: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 1, number).unwrap()
}

/// A folder that is gone after the test.
pub(crate) struct Lake(TempDir);

impl Lake {
    /// With a log of the days named.
    pub(crate) fn new(days: impl IntoIterator<Item = u32>) -> Self {
        let lake = Self(tempfile::tempdir().unwrap());
        for number in days {
            lake.write_day(day(number), &[1, 2, 2, 3, 3, 3]);
        }
        lake
    }

    pub(crate) fn path(&self) -> String {
        self.0.path().to_str().unwrap().to_owned()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write_day(&self, date: NaiveDate, items: &[i64]) {
        let file = self.file(&format!("log/date={date}/0.parquet"));
        write(&file, items);
    }

    /// Writes the record of a run, as a scheduler before has left it.
    pub(crate) fn write_run(&self, run: &Run) {
        let folder = self.file(&format!("_rankmill/runs/{}", run.id.month()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}.json", run.id));
        std::fs::write(path, serde_json::to_vec(run).unwrap()).unwrap();
    }

    /// A new run of a job over the first day, which has just come to a state.
    pub(crate) fn run_of(job: &str, state: RunState) -> Run {
        let now = Utc::now();
        let kind = RunKind::Ranking {
            job: job.to_owned(),
            spec: Self::spec(job),
            set: Default::default(),
            from: day(1),
            to: day(1),
            force: false,
            allow_empty: false,
        };
        Run {
            state,
            started_at: Some(now),
            finished_at: Some(now),
            ..Run::new(kind, Trigger::Manual, now)
        }
    }

    /// A spec over the log.
    pub(crate) fn spec(name: &str) -> String {
        Self::spec_with(name, "")
    }

    /// The same with more top-level fields.
    pub(crate) fn spec_with(name: &str, more: &str) -> String {
        format!(
            "version: 1
name: {name}
{more}
source: {{ path: '{{lake}}/log/', date: {{ partition: date }} }}
ranking:
  item: item
  measures: {{ clicks: 'count(*)' }}
  order_by: [clicks desc]
  top: 10
output: {{ path: '{{lake}}/out/{name}/' }}
"
        )
    }

    /// The generation that is published.
    pub(crate) fn generation(&self, job: &str, date: NaiveDate) -> Option<u64> {
        let file = self.file(&format!("out/{job}/date={date}/current.json"));
        let text = std::fs::read_to_string(file).ok()?;
        let current: serde_json::Value = serde_json::from_str(&text).unwrap();
        Some(current["generation"].as_u64().unwrap())
    }
}

fn write(path: &Path, items: &[i64]) {
    let schema = Arc::new(Schema::new(vec![Field::new("item", DataType::Int64, true)]));
    let column = Arc::new(Int64Array::from(items.to_vec()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}
