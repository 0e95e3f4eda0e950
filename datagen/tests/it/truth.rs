//! The truth agrees with an oracle of maps and sets that reads the files back.

use std::collections::{BTreeMap, HashSet};

use chrono::NaiveDate;
use rankmill_datagen::truth::{
    AgeDateRanking, DailyPopularity, DailyWebPages, Defects, ItemRank, PageRank,
};
use rankmill_datagen::{AgeBand, Config, Profile, age_band};

use crate::lake::{Lake, small, small_of};

#[derive(Default)]
struct Count {
    rows: u64,
    visitors: HashSet<String>,
    errors: u64,
}

fn rank(counts: BTreeMap<i32, Count>) -> Vec<ItemRank> {
    let mut rows: Vec<ItemRank> = counts
        .into_iter()
        .map(|(item, count)| ItemRank {
            item: item as u32,
            clicks: count.rows,
            visitors: count.visitors.len() as u64,
        })
        .collect();
    // Stable, from the order of items.
    rows.sort_by_key(|row| std::cmp::Reverse((row.visitors, row.clicks)));
    rows.truncate(100);
    rows
}

fn check(config: &Config) {
    let lake = Lake::of(config, 2);
    let truth = lake.truth().unwrap();
    assert_eq!(truth.config, *config);
    let births = lake.birth_dates();

    let mut daily: BTreeMap<NaiveDate, BTreeMap<i32, Count>> = BTreeMap::new();
    let mut by_age: BTreeMap<(NaiveDate, AgeBand), BTreeMap<i32, Count>> = BTreeMap::new();
    let mut defects = Defects::default();
    let is_before = |at_us: i64, date: NaiveDate| kst_date(at_us) == date.pred_opt().unwrap();
    let mut ids = HashSet::new();
    for click in lake.clicks() {
        let birth = click.user.and_then(|user| births.get(&user));
        defects.unknown_user_clicks += u64::from(click.user.is_some() && birth.is_none());
        defects.anonymous_clicks += u64::from(click.user.is_none());
        defects.late_clicks += u64::from(is_before(click.at_us, click.date));
        defects.doubled_clicks += u64::from(!ids.insert(click.id));
        let Some(item) = click.item else {
            defects.clicks_without_item += 1;
            continue;
        };
        defects.clicks_on_unknown_items += u64::from(item as u64 > config.performances);
        let band = age_band(birth.copied().flatten(), click.date);
        let add = |counts: &mut BTreeMap<i32, Count>| {
            let count = counts.entry(item).or_default();
            count.rows += 1;
            count
                .visitors
                .extend(click.user.map(|user| user.to_string()));
        };
        add(daily.entry(click.date).or_default());
        if click.action == "view" {
            add(by_age.entry((click.date, band)).or_default());
        }
    }
    let expected: Vec<DailyPopularity> = daily
        .into_iter()
        .map(|(date, counts)| DailyPopularity {
            date,
            items: counts.len() as u64,
            top: rank(counts),
        })
        .collect();
    assert_eq!(truth.daily_popularity, expected);
    let expected: Vec<AgeDateRanking> = by_age
        .into_iter()
        .map(|((date, age_band), counts)| AgeDateRanking {
            date,
            age_band,
            top: rank(counts),
        })
        .collect();
    assert!(expected.len() > 8);
    assert_eq!(truth.age_date_ranking, expected);

    let mut pages: BTreeMap<NaiveDate, BTreeMap<String, Count>> = BTreeMap::new();
    ids.clear();
    for request in lake.requests() {
        defects.late_requests += u64::from(is_before(request.at_us, request.date));
        defects.doubled_requests += u64::from(!ids.insert(request.id));
        let counts = pages.entry(request.date).or_default();
        let count = counts.entry(request.path).or_default();
        count.rows += 1;
        count.visitors.insert(request.client_ip);
        count.errors += u64::from(request.status >= 500);
    }
    let expected: Vec<DailyWebPages> = pages
        .into_iter()
        .map(|(date, counts)| {
            let paths = counts.len() as u64;
            let page = |(path, count): (String, Count)| PageRank {
                path,
                hits: count.rows,
                visitors: count.visitors.len() as u64,
                errors_5xx: count.errors,
            };
            let mut top: Vec<PageRank> = counts.into_iter().map(page).collect();
            top.sort_by_key(|row| std::cmp::Reverse((row.hits, row.visitors)));
            top.truncate(100);
            DailyWebPages { date, paths, top }
        })
        .collect();
    assert!(
        expected
            .iter()
            .any(|day| day.top.iter().any(|page| page.errors_5xx > 0))
    );
    assert_eq!(truth.daily_web_pages, expected);
    assert_eq!(truth.defects, defects);
    let mut by_date = Defects::default();
    truth.days.iter().for_each(|day| by_date += day.defects);
    assert_eq!(by_date, defects);
    let oldest = config.from - chrono::Months::new(120 * 12);
    let is_wrong = |birth: &NaiveDate| *birth > config.from || *birth < oldest;
    let wrong = births.values().flatten().filter(|birth| is_wrong(birth));
    assert_eq!(truth.users_with_wrong_birth_date, wrong.count() as u64);
    let without = births.values().filter(|birth| birth.is_none());
    assert_eq!(truth.users_without_birth_date, without.count() as u64);
}

fn kst_date(at_us: i64) -> NaiveDate {
    let at = chrono::DateTime::from_timestamp_micros(at_us).unwrap();
    (at + chrono::TimeDelta::hours(9)).date_naive()
}

#[test]
fn of_few_users() {
    check(&small());
}

#[test]
fn of_several_blocks_of_users_and_more_items_than_places() {
    check(&Config {
        click_rows: 20_000,
        users: 80_000,
        performances: 500,
        unknown_user_share: 0.1,
        rows_per_file: 40_000,
        days: 2,
        ..small()
    });
}

#[test]
fn of_bots_and_strangers_only() {
    check(&Config {
        bot_share: 0.5,
        unknown_user_share: 1.0,
        anonymous_share: 0.1,
        ..small()
    });
}

#[test]
fn of_the_other_profiles() {
    for profile in [Profile::Uniform, Profile::Brutal] {
        check(&Config {
            web_rows: 4_000,
            ..small_of(profile)
        });
    }
}
