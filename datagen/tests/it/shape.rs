//! The lake has the shape that was asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rankmill_datagen::{Config, Table};

use crate::lake::{Lake, small};

#[test]
fn files_have_the_declared_columns() {
    let lake = Lake::of(&small(), 2);
    for table in Table::ALL {
        let files = lake.files(table);
        assert!(!files.is_empty());
        for (path, schema, _) in files {
            assert_eq!(schema, table.schema(), "{path}");
        }
    }
}

#[test]
fn files_and_row_groups_are_no_larger_than_asked() {
    let lake = Lake::of(&small(), 2);
    for (path, bytes) in lake.objects() {
        if !path.contains("/stage/") {
            continue;
        }
        let reader = parquet::file::reader::SerializedFileReader::new(bytes).unwrap();
        let metadata = parquet::file::reader::FileReader::metadata(&reader);
        assert!(metadata.file_metadata().num_rows() <= 1_000, "{path}");
        for group in metadata.row_groups() {
            assert!(group.num_rows() <= 400, "{path}");
        }
    }
}

#[test]
fn rows_are_of_their_date_in_order_and_all_there() {
    let clean = Config {
        late_share: 0.0,
        duplicate_share: 0.0,
        ..small()
    };
    let lake = Lake::of(&clean, 2);
    let (clicks, requests) = (lake.clicks(), lake.requests());
    let rows: [Vec<_>; 2] = [
        clicks.iter().map(|c| (c.date, c.id, c.at_us)).collect(),
        requests.iter().map(|r| (r.date, r.id, r.at_us)).collect(),
    ];
    for (rows, count) in rows.iter().zip([6_000_usize, 2_000]) {
        assert!(rows.iter().map(|row| row.1).eq(1..=count as i64));
        assert!(rows.is_sorted_by_key(|row| row.2));
        for (date, _, at_us) in rows {
            let at = chrono::DateTime::from_timestamp_micros(*at_us).unwrap();
            let kst = at + chrono::TimeDelta::hours(9);
            assert_eq!(kst.date_naive(), *date);
        }
    }
    let truth = lake.truth().unwrap();
    assert_eq!(truth.days.len(), 3);
    for day in &truth.days {
        let clicks = clicks.iter().filter(|c| c.date == day.date).count();
        let requests = requests.iter().filter(|r| r.date == day.date).count();
        assert_eq!(
            (clicks, requests),
            (day.click_rows as usize, day.web_rows as usize)
        );
    }
    let objects = lake.objects();
    for (table, totals) in &truth.tables {
        let folder = format!("a/lake/{}/", table.folder());
        let files = objects.iter().filter(|(path, _)| path.starts_with(&folder));
        let sizes: Vec<u64> = files.map(|(_, bytes)| bytes.len() as u64).collect();
        assert_eq!(totals.bytes, sizes.iter().sum::<u64>());
        assert_eq!(totals.files, sizes.len() as u64);
    }
    assert_eq!(truth.tables[&Table::Users].rows, 300);
    assert_eq!(truth.tables[&Table::Performances].rows, 80);
}

#[test]
fn shares_are_about_as_asked() {
    let lake = Lake::of(
        &Config {
            click_rows: 30_000,
            users: 5_000,
            ..small()
        },
        2,
    );
    let clicks = lake.clicks();
    let share = |count: usize| count as f64 / clicks.len() as f64;
    let anonymous = share(clicks.iter().filter(|c| c.user.is_none()).count());
    assert!((0.17..0.23).contains(&anonymous), "{anonymous}");
    let views = share(clicks.iter().filter(|c| c.action == "view").count());
    assert!((0.68..0.73).contains(&views), "{views}");
    let unknown = share(clicks.iter().filter(|c| c.user > Some(5_000)).count());
    assert!((0.001..0.012).contains(&unknown), "{unknown}");
    let requests = lake.requests();
    let referrers = requests.iter().filter(|r| r.has_referrer).count();
    assert!((1_100..1_300).contains(&referrers), "{referrers}");
}

#[test]
fn a_session_has_one_user_in_both_logs() {
    let lake = Lake::of(&small(), 2);
    let mut users = HashMap::new();
    let clicks = lake.clicks();
    let requests = lake.requests();
    let visits = clicks.iter().map(|c| (c.session, c.user));
    for (session, user) in visits.chain(requests.iter().map(|r| (r.session, r.user))) {
        assert_eq!(*users.entry(session).or_insert(user), user);
    }
    let common: BTreeSet<i64> = clicks.iter().map(|c| c.session).collect();
    let shared = requests.iter().filter(|r| common.contains(&r.session));
    assert!(shared.count() > requests.len() / 2);
}

#[test]
fn items_follow_zipf_and_the_first_is_not_number_one() {
    let lake = Lake::of(
        &Config {
            click_rows: 60_000,
            performances: 1_000,
            days: 1,
            bot_share: 0.0,
            anonymous_share: 1.0,
            ..small()
        },
        2,
    );
    let mut counts = BTreeMap::new();
    for item in lake.clicks().iter().filter_map(|click| click.item) {
        *counts.entry(item).or_insert(0_u32) += 1;
    }
    let mut ranked: Vec<(u32, i32)> = counts.into_iter().map(|(item, n)| (n, item)).collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    assert_ne!(ranked[0].1, 1);
    // Least squares of ln(count) over ln(rank), ranks 1 to 200; genres' appeal blurs it a little.
    let points = ranked[..200].iter().zip(1_u32..);
    let points: Vec<(f64, f64)> = points
        .map(|(&(n, _), rank)| (f64::from(rank).ln(), f64::from(n).ln()))
        .collect();
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / 200.0;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let slope = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>()
        / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>();
    assert!((-1.3..-0.95).contains(&slope), "{slope}");
}

#[test]
fn no_rows_and_one_row_work() {
    for rows in [0, 1] {
        let lake = Lake::of(
            &Config {
                click_rows: rows,
                web_rows: rows,
                users: 1,
                performances: 1,
                days: 2,
                ..Config::default()
            },
            2,
        );
        assert_eq!(lake.clicks().len() as u64, rows);
        assert_eq!(lake.requests().len() as u64, rows);
        assert_eq!(lake.files(Table::TicketClicks).len(), 2);
        let truth = lake.truth().unwrap();
        let items: u64 = truth.daily_popularity.iter().map(|day| day.items).sum();
        assert_eq!(items, rows);
    }
}
