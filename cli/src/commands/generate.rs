//! `rankmill generate`: skewed logs to try things on, looked at and appended to.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use chrono::{TimeDelta, Timelike, Utc};
use rankmill_datagen::{self as datagen, Config, Pace, Plan, Report, Table, generate};
use rankmill_engine::Location;

use crate::args::{Format, GenerateArgs, GenerateCommand};
use crate::environment::Environment;
use crate::load::{CLICK_ROWS, LoadOptions, WEB_ROWS};
use crate::nodes::Stop;
use crate::outcome::{FAILED, Usage};
use crate::progress::Progress;
use crate::{charts, human, output};

/// Of each second that is appended, how long a stop may take to be noticed.
const TICK: Duration = Duration::from_millis(200);
const DAY_SECONDS: u64 = 86_400;
/// With --rate: the time of which a file holds the events, and days, where nothing is said.
const EVERY: Duration = Duration::from_secs(60);
const APPENDED_DAYS: u32 = 30;

pub(crate) async fn run(environment: &Environment, args: &GenerateArgs) -> anyhow::Result<u8> {
    let load = LoadOptions {
        from: args.from,
        ..args.load.clone()
    };
    match &args.command {
        Some(GenerateCommand::Verify { path, deep }) => {
            verify(environment, path.as_deref(), *deep).await
        }
        Some(GenerateCommand::Describe { path, svg, files }) => {
            describe(environment, path.as_deref(), svg, files.get()).await
        }
        None => match args.rate {
            Some(rate) => append(environment, args, &load, rate).await,
            None => make(environment, &load).await,
        },
    }
}

async fn make(environment: &Environment, load: &LoadOptions) -> anyhow::Result<u8> {
    let report = generate_lake(environment, load.config(), load.replace).await?;
    match environment.format {
        Format::Table => {
            output::line(format_args!("{}", summary(environment, &report).trim_end()))?
        }
        Format::Json => output::line(format_args!(
            "{}",
            serde_json::json!({
                "lake": environment.lake,
                "already_there": report.already_there,
                "kept_files": report.kept_files,
                "elapsed_seconds": report.elapsed.as_secs_f64(),
                "tables": report.tables,
            })
        ))?,
    }
    Ok(0)
}

/// The lake that is to be looked at.
fn place_of(environment: &Environment, path: Option<&str>) -> anyhow::Result<Location> {
    match path {
        Some(path) => Location::parse(path).map_err(|e| Usage(e.to_string()).into()),
        None => environment.lake_location(),
    }
}

async fn verify(environment: &Environment, path: Option<&str>, deep: bool) -> anyhow::Result<u8> {
    let place = place_of(environment, path)?;
    let store = environment.session()?.stores().of(&place)?;
    let (threads, runtime) = (environment.threads, tokio::runtime::Handle::current());
    let looked_at = place.clone();
    let findings = tokio::task::spawn_blocking(move || {
        datagen::verify(store, looked_at.path(), threads, &runtime, deep)
    });
    let findings = findings.await??;
    match environment.format {
        Format::Table => {
            for fault in &findings.faults {
                output::line(fault)?;
            }
            let said = match findings.faults.len() {
                0 => "right".to_owned(),
                1 => "1 fault".to_owned(),
                faults => format!("{faults} faults"),
            };
            let how = if deep {
                "made again"
            } else {
                "by their footers (--deep: by all bytes)"
            };
            output::line(format_args!(
                "'{place}': {said}; {} files {how}, {} rows of logs counted again from the seed",
                findings.files,
                human::count(findings.rows)
            ))?;
        }
        Format::Json => output::line(serde_json::json!({
            "lake": place.to_string(),
            "deep": deep,
            "faults": findings.faults,
            "files": findings.files,
            "rows": findings.rows,
        }))?,
    }
    Ok(if findings.faults.is_empty() {
        0
    } else {
        FAILED
    })
}

async fn describe(
    environment: &Environment,
    path: Option<&str>,
    svg: &Path,
    files: usize,
) -> anyhow::Result<u8> {
    let place = place_of(environment, path)?;
    let store = environment.session()?.stores().of(&place)?;
    let (threads, runtime) = (environment.threads, tokio::runtime::Handle::current());
    let described = tokio::task::spawn_blocking(move || {
        datagen::describe(store, place.path(), threads, &runtime, files)
    });
    let lake = described.await??;
    let picture = charts::svg(&lake);
    std::fs::write(svg, picture).with_context(|| format!("cannot write '{}'", svg.display()))?;
    match environment.format {
        Format::Table => {
            output::line(charts::text(&lake))?;
            output::line(format_args!("the same as a picture: {}", svg.display()))?;
        }
        Format::Json => output::line(serde_json::json!({
            "files": lake.files,
            "files_read": lake.files_read,
            "clicks": lake.clicks,
            "hours": lake.hours,
            "dates": lake.dates,
            "item_exponent": lake.item_exponent(),
            "user_exponent": lake.user_exponent(),
            "items": lake.items.iter().take(1_000).collect::<Vec<_>>(),
            "users": lake.users.iter().take(1_000).collect::<Vec<_>>(),
            "anonymous_clicks": lake.anonymous_clicks,
            "clicks_without_item": lake.clicks_without_item,
            "late_clicks": lake.late_clicks,
            "svg": svg.display().to_string(),
        }))?,
    }
    Ok(0)
}

/// Appends traffic as time goes by.
async fn append(
    environment: &Environment,
    args: &GenerateArgs,
    load: &LoadOptions,
    rate: u64,
) -> anyhow::Result<u8> {
    let mut stop = Stop::new(false)?;
    let place = environment.lake_location()?;
    let store = environment.session()?.stores().of(&place)?;
    let begun = datagen::begun(Arc::clone(&store), place.path()).await?;
    let config = appended_config(args, load, rate, begun)?;
    let plan = Plan::new(&config)?;
    let progress = Progress::new(environment.quiet).of_lake(&place);
    progress.line(&format!(
        "appending {} clicks a second in the mean, from {} on for {} days, a file each {} s; Ctrl-C ends it",
        human::count(rate),
        config.from,
        config.days,
        config.seconds_per_file
    ));
    let pace = Arc::new(Clock {
        progress,
        stop: AtomicBool::new(false),
        at_most: args.at_most,
        end: OnceLock::new(),
    });
    let watched = Arc::clone(&pace);
    let runtime = tokio::runtime::Handle::current();
    let (replace, threads) = (load.replace, environment.threads);
    let mut appending = tokio::task::spawn_blocking(move || {
        let prefix = place.path();
        datagen::append(
            &plan,
            store,
            prefix,
            threads,
            &runtime,
            replace,
            watched.as_ref(),
        )
    });
    let appended = tokio::select! {
        appended = &mut appending => appended,
        () = stop.asked() => {
            pace.stop.store(true, Ordering::Relaxed);
            appending.await
        }
    };
    let appended = appended??;
    match environment.format {
        Format::Table => output::line(format_args!(
            "{} rows in {} files, {}; {}",
            human::count(appended.rows),
            appended.files,
            human::bytes(appended.bytes),
            match appended.is_whole {
                true => "the last day is over: the right answers are in truth.json",
                false => "the same command goes on with it",
            }
        ))?,
        Format::Json => output::line(serde_json::json!({
            "lake": environment.lake,
            "rows": appended.rows,
            "files": appended.files,
            "bytes": appended.bytes,
            "is_whole": appended.is_whole,
        }))?,
    }
    Ok(0)
}

/// What is appended: so many clicks a second, requests in proportion, from today on or from where the same was begun.
fn appended_config(
    args: &GenerateArgs,
    load: &LoadOptions,
    rate: u64,
    begun: Option<Config>,
) -> anyhow::Result<Config> {
    let now = (Utc::now() + TimeDelta::hours(9)).naive_utc();
    let today = now.date();
    let mut config = LoadOptions {
        from: Some(load.from.unwrap_or(today)),
        days: Some(load.days.unwrap_or(APPENDED_DAYS)),
        ..load.clone()
    }
    .config();
    if rate == 0 {
        let wrong = "--rate takes at least 1 click a second";
        return Err(Usage(wrong.to_owned()).into());
    }
    let every = args.every.unwrap_or(EVERY);
    let span = every.as_secs();
    if every.subsec_nanos() > 0 || span == 0 || span > DAY_SECONDS {
        let wrong = "--every takes whole seconds, up to a day, such as 10s or 5m";
        return Err(Usage(wrong.to_owned()).into());
    }
    config.seconds_per_file = span as u32;
    if config.from == today {
        // What has passed of today comes at once, in few files.
        let passed = now.time().num_seconds_from_midnight();
        config.cut_from_second = passed / config.seconds_per_file * config.seconds_per_file;
    }
    let seconds = DAY_SECONDS * u64::from(config.days);
    let too_many = || {
        Usage(format!(
            "--rate {rate} is too much for {} days",
            config.days
        ))
    };
    config.click_rows = rate.checked_mul(seconds).ok_or_else(too_many)?;
    config.web_rows = match load.web_rows {
        Some(rows) => rows,
        None => config.click_rows / (CLICK_ROWS / WEB_ROWS),
    };
    match begun {
        // The same but for the first day, where nobody gave another, and for the time of its beginning.
        Some(begun) if load.from.is_none_or(|from| from == begun.from) => {
            let same = Config {
                from: begun.from,
                cut_from_second: begun.cut_from_second,
                ..config.clone()
            };
            Ok(if same == begun { begun } else { config })
        }
        _ => Ok(config),
    }
}

/// The clock on the wall, until it is stopped.
struct Clock {
    progress: Progress,
    stop: AtomicBool,
    /// How long to go on once nothing is overdue, and when that ends.
    at_most: Option<Duration>,
    end: OnceLock<Instant>,
}

impl datagen::Progress for Clock {
    fn part_done(&self, part: &datagen::Part, rows: u64, bytes: u64) {
        self.progress.part_done(part, rows, bytes);
    }

    fn truth_started(&self) {
        self.progress.truth_started();
    }

    fn free_bytes(&self) -> Option<u64> {
        self.progress.free_bytes()
    }
}

impl Pace for Clock {
    fn now_us(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |now| now.as_micros() as i64)
    }

    fn wait_until(&self, at_us: i64) -> bool {
        loop {
            let is_over = self.end.get().is_some_and(|end| *end <= Instant::now());
            if is_over || self.stop.load(Ordering::Relaxed) {
                return false;
            }
            let left = at_us - self.now_us();
            if let (1.., Some(span)) = (left, self.at_most) {
                self.end.get_or_init(|| Instant::now() + span);
            }
            match left {
                ..=0 => return true,
                left => std::thread::sleep(Duration::from_micros(left as u64).min(TICK)),
            }
        }
    }
}

/// Makes a lake with a progress bar; does nothing where the same lake is already.
pub(crate) async fn generate_lake(
    environment: &Environment,
    config: Config,
    replace: bool,
) -> anyhow::Result<Report> {
    let plan = Plan::new(&config)?;
    let place = environment.lake_location()?;
    let store = environment.session()?.stores().of(&place)?;
    let threads = environment.threads;
    let progress = Progress::new(environment.quiet).of_lake(&place);
    let progress = Arc::new(progress.with_bar(plan.total_rows()));
    let observer = Arc::clone(&progress);
    let runtime = tokio::runtime::Handle::current();
    let generated = tokio::task::spawn_blocking(move || {
        let prefix = place.path();
        generate(
            &plan,
            store,
            prefix,
            threads,
            &runtime,
            replace,
            observer.as_ref(),
        )
    })
    .await?;
    progress.finish();
    Ok(generated?)
}

/// What was made, in a few lines.
pub(crate) fn summary(environment: &Environment, report: &Report) -> String {
    if report.already_there {
        return format!("the same lake is at '{}' already\n", environment.lake);
    }
    let mut text = String::new();
    let mut rows = 0;
    for table in Table::ALL {
        if let Some(totals) = report.tables.get(&table) {
            rows += totals.rows;
            text.push_str(&format!(
                "{:<20} {:>9} rows  {:>10}  {} files\n",
                table.folder(),
                human::count(totals.rows),
                human::bytes(totals.bytes),
                totals.files
            ));
        }
    }
    if report.kept_files > 0 {
        let kept = report.kept_files;
        text.push_str(&format!("{kept} of the files were there already\n"));
    }
    let seconds = report.elapsed.as_secs_f64();
    let rate = human::count((rows as f64 / seconds.max(1e-9)) as u64);
    text.push_str(&format!(
        "at '{}' in {seconds:.1} s, {rate} rows/s; the right answers are in truth.json\n",
        environment.lake
    ));
    text
}
