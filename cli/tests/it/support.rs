//! The binary as a process, lakes to run it on, and what it published read back.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Float64Type, Int16Type, Int32Type, Int64Type, UInt64Type,
};
use bytes::Bytes;
use chrono::NaiveDate;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use rankmill_datagen::{Config, Part, Plan, Progress, generate};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The folder of this test process; a watchdog removes it when the process ends, however it does.
pub(crate) fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<(PathBuf, Child)> = OnceLock::new();
    let (folder, _) = SCRATCH.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let folder = folder.join(format!("it-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let watchdog = watchdog(
            "cat >/dev/null; sleep 1; rm -rf -- \"$0\"",
            &[folder.to_str().unwrap()],
        );
        (folder, watchdog)
    });
    folder
}

/// A shell script whose standard input ends when this process does: statics are not dropped, and
/// a killed process could not clean up anyway.
pub(crate) fn watchdog(script: &str, arguments: &[&str]) -> Child {
    Command::new("sh")
        .arg("-c")
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}

pub(crate) fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// A lake for one test: a folder, or a bucket.
pub(crate) struct Lake {
    /// What `--lake` gets.
    pub(crate) address: String,
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Of the S3 server; empty for a folder.
    pub(crate) variables: Vec<(String, String)>,
    /// Removed with the lake.
    pub(crate) folder: Option<TempDir>,
}

impl Lake {
    /// An empty folder.
    pub(crate) fn local() -> Self {
        let folder = tempfile::tempdir_in(scratch()).unwrap();
        let lake = Self::at(folder.path());
        Self {
            folder: Some(folder),
            ..lake
        }
    }

    /// A folder that somebody else looks after.
    pub(crate) fn at(folder: &Path) -> Self {
        Self {
            address: folder.to_str().unwrap().to_owned(),
            store: Arc::new(LocalFileSystem::new_with_prefix(folder).unwrap()),
            variables: Vec::new(),
            folder: None,
        }
    }

    /// A bucket.
    pub(crate) fn bucket(
        name: &str,
        store: Arc<dyn ObjectStore>,
        variables: Vec<(String, String)>,
    ) -> Self {
        Self {
            address: format!("s3://{name}"),
            store,
            variables,
            folder: None,
        }
    }

    /// The same lake for processes that see `variable` set to `value`.
    pub(crate) fn with_variable(mut self, variable: &str, value: &str) -> Self {
        self.variables.retain(|(name, _)| name != variable);
        self.variables.push((variable.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    /// Generates the data model; a few files a day, so that work is split.
    pub(crate) fn generate(&self, config: &Config) {
        struct Quiet;
        impl Progress for Quiet {
            fn part_done(&self, _: &Part, _: u64, _: u64) {}
        }
        let plan = Plan::new(config).unwrap();
        let (store, root) = (Arc::clone(&self.store), StorePath::default());
        generate(&plan, store, &root, 2, runtime().handle(), false, &Quiet).unwrap();
    }

    /// Runs `rankmill` on this lake.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        let output = self.command(arguments).output().unwrap();
        Outcome::of(arguments, output)
    }

    /// Runs `rankmill`, which must succeed; what it says on stdout, as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let outcome = self.run(&[arguments, &["--format", "json"]].concat()).ok();
        serde_json::from_str(&outcome.stdout).unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rankmill"));
        command
            .args(arguments)
            .args(["--lake", &self.address])
            .current_dir(scratch())
            // What the developer's shell has must not matter.
            .env_remove("RUST_LOG")
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let not_ours = |name: &str| name.starts_with("AWS_") || name.starts_with("RANKMILL_");
        for (name, _) in std::env::vars().filter(|(name, _)| not_ours(name)) {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().cloned());
        command
    }

    pub(crate) fn get(&self, path: &str) -> Option<Bytes> {
        let path = StorePath::parse(path).unwrap();
        runtime().block_on(async {
            match self.store.get(&path).await {
                Ok(found) => Some(found.bytes().await.unwrap()),
                Err(object_store::Error::NotFound { .. }) => None,
                Err(error) => panic!("{error}"),
            }
        })
    }

    pub(crate) fn put(&self, path: &str, bytes: impl Into<Bytes>) {
        let path = StorePath::parse(path).unwrap();
        let put = self.store.put(&path, bytes.into().into());
        runtime().block_on(put).unwrap();
    }

    pub(crate) fn delete(&self, path: &str) {
        let path = StorePath::parse(path).unwrap();
        runtime().block_on(self.store.delete(&path)).unwrap();
    }

    pub(crate) fn put_rows(&self, path: &str, columns: Vec<(&str, ArrayRef)>) {
        self.put(path, parquet_of(columns));
    }

    /// All paths below a folder, in order.
    pub(crate) fn list(&self, folder: &str) -> Vec<String> {
        let folder = StorePath::parse(folder).unwrap();
        let listed = self.store.list(Some(&folder)).try_collect::<Vec<_>>();
        let listed = runtime().block_on(listed).unwrap();
        let mut paths: Vec<String> = listed.into_iter().map(|m| m.location.to_string()).collect();
        paths.sort();
        paths
    }

    /// The commit point of a date, and its files, each checked against its digest.
    pub(crate) fn published(&self, job: &str, date: &str) -> Option<Published> {
        let folder = format!("rankings/{job}/date={date}");
        let current = self.get(&format!("{folder}/current.json"))?;
        let commit: Value = serde_json::from_slice(&current).unwrap();
        let mut parquet = Bytes::new();
        let mut json = Value::Null;
        for file in commit["files"].as_array().unwrap() {
            let path = format!("{folder}/{}", file["path"].as_str().unwrap());
            let bytes = self
                .get(&path)
                .unwrap_or_else(|| panic!("{path} is missing"));
            assert_eq!(
                bytes.len() as u64,
                file["bytes"].as_u64().unwrap(),
                "{path}"
            );
            let digest = format!("{:x}", Sha256::digest(&bytes));
            assert_eq!(digest, file["sha256"].as_str().unwrap(), "{path}");
            match path.ends_with(".parquet") {
                true => parquet = bytes,
                false => json = serde_json::from_slice(&bytes).unwrap(),
            }
        }
        let rows = Table::of_parquet(parquet.clone());
        assert_eq!(commit["rows"].as_u64().unwrap() as usize, rows.rows.len());
        // The two files hold the same rows.
        assert_eq!((&json["job"], &json["date"]), (&job.into(), &date.into()));
        assert_eq!(json["rows"], rows.objects(), "ranking.json of {job} {date}");
        Some(Published {
            generation: commit["generation"].as_u64().unwrap(),
            rows,
            parquet,
        })
    }
}

/// What is current for a date.
pub(crate) struct Published {
    pub(crate) generation: u64,
    pub(crate) rows: Table,
    pub(crate) parquet: Bytes,
}

/// How a process ended.
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    command: String,
}

impl Outcome {
    pub(crate) fn of(arguments: &[&str], output: Output) -> Self {
        let outcome = Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            command: arguments.join(" "),
        };
        // Whatever went wrong, nobody wants to read these.
        for word in ["panicked", "backtrace", "likely caused by a bug"] {
            let said = outcome.stderr.to_lowercase().contains(word);
            assert!(!said, "{}: {}", outcome.command, outcome.stderr);
        }
        outcome
    }

    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}: {}", self.command, self.stderr);
        self
    }

    /// It failed with `code`, and its standard error has all of `words`.
    pub(crate) fn fails(self, code: i32, words: &[&str]) -> Self {
        let said = &self.stderr;
        assert_eq!(self.code, Some(code), "{}: {said}", self.command);
        for word in words {
            assert!(
                said.contains(word),
                "{}: no {word:?} in: {said}",
                self.command
            );
        }
        self
    }
}

/// Rows as JSON values: what the oracle computes and what was published, in one form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Table {
    pub(crate) fn new(columns: &[&str], rows: Vec<Vec<Value>>) -> Self {
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        Self { columns, rows }
    }

    pub(crate) fn of_parquet(file: Bytes) -> Self {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let schema = Arc::clone(reader.schema());
        let mut rows = Vec::new();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let cells = |row| batch.columns().iter().map(move |c| cell(c, row)).collect();
            rows.extend((0..batch.num_rows()).map(cells));
        }
        let columns = schema.fields().iter().map(|f| f.name().clone()).collect();
        Self { columns, rows }
    }

    /// One object a row.
    pub(crate) fn objects(&self) -> Value {
        let object = |row: &Vec<Value>| {
            let pairs = self.columns.iter().cloned().zip(row.iter().cloned());
            Value::Object(pairs.collect())
        };
        self.rows.iter().map(object).collect()
    }

    /// Fails with the first row that differs, rather than with both tables.
    pub(crate) fn assert_eq(&self, expected: &Self, what: &str) {
        assert_eq!(self.columns, expected.columns, "{what}");
        for (i, (row, wanted)) in self.rows.iter().zip(&expected.rows).enumerate() {
            assert_eq!(row, wanted, "{what}: row {i}");
        }
        assert_eq!(
            self.rows.len(),
            expected.rows.len(),
            "{what}: number of rows"
        );
    }
}

fn cell(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Date32 => {
            let dates = column.as_primitive::<Date32Type>();
            dates.value_as_date(row).unwrap().to_string().into()
        }
        other => panic!("{other} is not expected in a published ranking"),
    }
}

pub(crate) fn parquet_of(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    )
    .unwrap();
    let mut file = Vec::new();
    // Small groups: several of them, as in large files.
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(100))
        .build();
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    file
}
