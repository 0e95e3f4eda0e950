//! The logical plans of the shipped specs. Physical plans name temporary files.

use datafusion::arrow::datatypes::TimeUnit;
use rankmill_jobs::shipped::SHIPPED;

use crate::job::{Job, day, epoch_day};
use crate::lake::{Kind, Lake, Value, dates, ints, texts, timestamps};

/// A row of each table of the data model, with the columns that the specs read and one more.
fn lake() -> Lake {
    let lake = Lake::new();
    let one = || ints(&[Value::Int(1)]);
    let text = || texts(&[Value::text("view")]);
    let small = |kind: Kind| kind.array(&[Value::Int(1)]);
    let at = || timestamps(&[Value::Int(1)], TimeUnit::Microsecond, Some("UTC"));
    let born = dates(&[Value::Int((epoch_day(0) - 9_999).into())]);
    lake.write_nullable(
        &format!("stage/ticket_clicks/date={}/part-0.parquet", day(0)),
        &[
            ("click_id", one()),
            ("clicked_at", at()),
            ("user_id", one()),
            ("performance_id", small(Kind::Int32)),
            ("action", text()),
        ],
        1,
    );
    lake.write_nullable(
        &format!("stage/web_logs/date={}/part-0.parquet", day(0)),
        &[
            ("request_id", one()),
            ("client_ip", text()),
            ("path", text()),
            ("status", small(Kind::Int16)),
            ("latency_ms", small(Kind::Int32)),
        ],
        1,
    );
    let users = [("user_id", one()), ("birth_date", born), ("gender", text())];
    lake.write_nullable("dim/users/part-0.parquet", &users, 1);
    lake.write_nullable(
        "dim/performances/part-0.parquet",
        &[
            ("performance_id", small(Kind::Int32)),
            ("title", text()),
            ("genre", text()),
            ("venue", text()),
        ],
        1,
    );
    lake
}

#[test]
fn of_the_shipped_specs() {
    let lake = lake();
    for shipped in SHIPPED {
        let plan = Job::new(&lake, shipped.yaml)
            .split(2, 8_192)
            .explain(0)
            .unwrap();
        let (logical, physical) = plan.split_once("\n\nPhysical plan\n").unwrap();
        let logical = logical.strip_prefix("Logical plan\n").unwrap();
        assert!(physical.contains("DataSourceExec"), "{physical}");
        assert!(!logical.contains(lake.path()), "{logical}");
        insta::assert_snapshot!(shipped.name, logical);
    }
}
