//! `--memory` as the kernel sees it.

use rankmill_datagen::Config;

use crate::support::{Lake, day, scratch};

const DATE: &str = "2026-01-05";
/// Of the whole process, its program included.
const LIMIT: u64 = 192 << 20;

/// A group for each click, with a histogram and a visitor: far more than the limit in all.
fn spec(name: &str) -> String {
    format!(
        r#"
version: 1
name: {name}
source: {{ path: "{{lake}}/stage/ticket_clicks/", date: {{ partition: date }} }}
ranking:
  item: click_id
  per: [date]
  measures:
    clicks: "count(*)"
    visitors: "count(distinct user_id)"
    p95: "approx_percentile_cont(session_id, 0.95)"
  order_by: [clicks desc, p95 desc]
  top: 1000
output: {{ path: "{{lake}}/rankings/{name}/" }}
"#
    )
}

/// Each side of the join is larger than the limit.
fn join(name: &str) -> String {
    format!(
        r#"
version: 1
name: {name}
sources:
  clicks: {{ path: "{{lake}}/stage/ticket_clicks/", date: {{ partition: date }} }}
sql: |
  WITH wide AS (SELECT click_id, action, concat(repeat(platform, 40), click_id) AS text FROM clicks)
  SELECT a.action, count(*) AS pairs, max(a.text) AS widest, min(b.text) AS other
  FROM wide a JOIN wide b ON a.click_id = b.click_id GROUP BY a.action
output: {{ path: "{{lake}}/rankings/{name}/", key: [action] }}
"#
    )
}

#[test]
fn resident_memory_stays_within_a_fifth_of_the_limit() {
    let lake = Lake::local();
    lake.generate(&Config {
        seed: 5,
        click_rows: 1_000_000,
        web_rows: 10,
        users: 300_000,
        performances: 1_000,
        from: day(DATE),
        days: 1,
        rows_per_file: 250_000,
        ..Config::default()
    });
    for (spec, says) in [
        (spec as fn(&str) -> String, "groups went to disk"),
        (join, "written to disk"),
    ] {
        stays_within_a_fifth(&lake, spec, says);
    }
}

fn stays_within_a_fifth(lake: &Lake, spec: fn(&str) -> String, says: &str) {
    let run = |name: &str, options: &[&str]| {
        let file = scratch().join(format!("{name}.yaml"));
        std::fs::write(&file, spec(name)).unwrap();
        let file = file.to_str().unwrap();
        let arguments = ["run", file, "--date", DATE, "--threads", "2"];
        let summary = lake.json(&[&arguments[..], options].concat());
        let peak = summary["peak_memory_bytes"].as_u64().unwrap();
        (summary, peak, lake.published(name, DATE).unwrap().rows)
    };
    let (_, needed, expected) = run("unlimited", &["--force"]);
    assert!(needed > 2 * LIMIT, "{needed}");
    let (summary, peak, rows) = run("limited", &["--force", "--memory", &LIMIT.to_string()]);
    assert!(peak <= LIMIT + LIMIT / 5, "{peak}: {summary:#}");
    assert!(summary.to_string().contains(says), "{summary:#}");
    rows.assert_eq(&expected, "with a limit");
}
