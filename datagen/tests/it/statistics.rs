//! What comes out has the distributions that were asked for. Seeds are fixed, so these tests never flake.

use std::collections::BTreeMap;

use chrono::Timelike;
use rankmill_datagen::{Config, Profile, Table};

use crate::lake::{Click, Lake};

/// A date of 200,000 clicks without any of the shapes; each test adds those that it is about.
fn plain() -> Config {
    Config {
        click_rows: 200_000,
        web_rows: 0,
        users: 5_000,
        performances: 1_000,
        days: 1,
        ..Profile::Uniform.config()
    }
}

fn clicks(config: &Config) -> Vec<Click> {
    Lake::of(config, 2).clicks()
}

/// Occurrences of each key.
fn counts<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, u64> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_insert(0) += 1;
    }
    counts
}

/// The exponent of Zipf's law over so many ranks by maximum likelihood, given the draws of each rank, from 1: where
/// the mean of ln(rank) is what it has to be. (Clauset, Shalizi, Newman: "Power-law distributions in empirical
/// data", 2009, appendix B, for a bounded domain.)
fn exponent(draws: &[u64]) -> f64 {
    let ln = |rank: usize| (rank as f64 + 1.0).ln();
    let all: u64 = draws.iter().sum();
    let mean = draws
        .iter()
        .enumerate()
        .map(|(r, &n)| ln(r) * n as f64)
        .sum::<f64>()
        / all as f64;
    let expected = |exponent: f64| {
        let weights = (0..draws.len()).map(|r| (ln(r), (-exponent * ln(r)).exp()));
        let (sum, total) = weights.fold((0.0, 0.0), |(s, t), (ln, w)| (s + ln * w, t + w));
        sum / total
    };
    let (mut low, mut high) = (0.0, 5.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if expected(middle) > mean {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// χ² of counts against expected shares, over its degrees of freedom.
fn chi_square(counts: &[u64], shares: &[f64]) -> f64 {
    let all = counts.iter().sum::<u64>() as f64;
    let total: f64 = shares.iter().sum();
    let terms = counts.iter().zip(shares).map(|(&count, share)| {
        let expected = all * share / total;
        (count as f64 - expected).powi(2) / expected
    });
    terms.sum::<f64>() / (counts.len() - 1) as f64
}

#[test]
fn items_have_their_exponent() {
    for wanted in [0.8, 1.1, 1.5] {
        // A session's few interests make clicks depend on each other: a session for each click.
        let config = Config {
            zipf_items: wanted,
            events_per_session: 1,
            ..plain()
        };
        let counts = counts(clicks(&config).into_iter().map(|click| click.item));
        let mut draws: Vec<u64> = counts.into_values().collect();
        draws.sort_unstable_by(|a, b| b.cmp(a));
        draws.resize(1_000, 0);
        let found = exponent(&draws);
        assert!((found / wanted - 1.0).abs() < 0.02, "{found} for {wanted}");
    }
}

#[test]
fn users_have_their_exponent() {
    for wanted in [0.6, 1.1] {
        let config = Config {
            zipf_users: wanted,
            events_per_session: 1,
            ..plain()
        };
        let counts = counts(clicks(&config).into_iter().map(|click| click.user));
        let mut draws: Vec<u64> = counts.into_values().collect();
        draws.sort_unstable_by(|a, b| b.cmp(a));
        draws.resize(5_000, 0);
        let found = exponent(&draws);
        assert!((found / wanted - 1.0).abs() < 0.02, "{found} for {wanted}");
    }
}

#[test]
fn without_skew_everything_is_alike() {
    let clicks = clicks(&Config {
        events_per_session: 1,
        ..plain()
    });
    let chi = |counts: BTreeMap<i64, u64>, all: usize| {
        assert_eq!(counts.len(), all);
        chi_square(&counts.into_values().collect::<Vec<_>>(), &vec![1.0; all])
    };
    let items = chi(counts(clicks.iter().map(|c| c.item.unwrap().into())), 1_000);
    assert!((0.8..1.2).contains(&items), "{items}");
    // A session is one user's, however many clicks it has.
    let sessions: BTreeMap<i64, i64> = clicks
        .iter()
        .map(|c| (c.session, c.user.unwrap()))
        .collect();
    let users = chi(counts(sessions.into_values()), 5_000);
    assert!((0.8..1.2).contains(&users), "{users}");
    // Rows are set evenly, not drawn: nearer to the expected than chance.
    let hours = chi(counts(clicks.iter().map(|c| i64::from(hour(c)))), 24);
    assert!(hours < 0.1, "{hours}");
}

fn hour(click: &Click) -> u32 {
    let at = chrono::DateTime::from_timestamp_micros(click.at_us).unwrap();
    (at + chrono::TimeDelta::hours(9)).hour()
}

/// Traffic at each full hour of a workday, from the data model's description; within an hour it changes evenly.
const WORKDAY: [f64; 24] = [
    38., 24., 15., 9., 7., 9., 17., 34., 55., 66., 72., 78., 88., 84., 76., 74., 76., 82., 92.,
    108., 124., 128., 104., 68.,
];

#[test]
fn hours_follow_the_curve() {
    for curve in [1.0, 0.5] {
        let config = Config {
            daily_curve: curve,
            ..plain()
        };
        let counts: Vec<u64> = counts(clicks(&config).iter().map(hour))
            .into_values()
            .collect();
        let mean = WORKDAY.iter().sum::<f64>() / 24.0;
        let shares: Vec<f64> = (0..24)
            .map(|hour| (WORKDAY[hour] + WORKDAY[(hour + 1) % 24]) / 2.0)
            .map(|shaped| curve * shaped + (1.0 - curve) * mean.floor())
            .collect();
        let chi = chi_square(&counts, &shares);
        // Rows are set along the curve, not drawn: nearer to it than chance.
        assert!(chi < 0.1, "{curve}: {chi}");
    }
}

#[test]
fn weeks_follow_the_curve() {
    let rows = |weekly_curve| {
        let config = Config {
            weekly_curve,
            days: 7,
            click_rows: 70_000,
            ..plain()
        };
        let lake = Lake::of(&config, 2);
        let days = lake.truth().unwrap().days;
        days.iter().map(|day| day.click_rows).collect::<Vec<u64>>()
    };
    assert_eq!(rows(0.0), [10_000; 7]);
    let shaped = rows(1.0);
    // From a Monday: Saturday has the most.
    assert_eq!(shaped.iter().max(), Some(&shaped[5]));
    assert!(shaped[5] > shaped[1] * 13 / 10, "{shaped:?}");
}

#[test]
fn defects_come_at_their_rates() {
    let config = Config {
        late_share: 0.03,
        duplicate_share: 0.02,
        null_item_share: 0.015,
        unknown_item_share: 0.01,
        anonymous_share: 0.25,
        unknown_user_share: 0.04,
        null_birth_share: 0.1,
        wrong_birth_share: 0.05,
        ..plain()
    };
    let truth = Lake::of(&config, 2).truth().unwrap();
    let defects = truth.defects;
    let near = |count: u64, of: f64, share: f64| {
        // Four standard deviations.
        let bound = 4.0 * (share * (1.0 - share) / of).sqrt();
        let found = count as f64 / of;
        assert!((found - share).abs() < bound, "{found} for {share}");
    };
    assert!((6_000..6_010).contains(&defects.late_clicks), "{defects:?}");
    near(defects.doubled_clicks, 200_000.0, 0.02);
    near(defects.clicks_without_item, 200_000.0, 0.015);
    near(defects.clicks_on_unknown_items, 200_000.0, 0.01);
    // These are drawn for a session, of which there are a fifth as many.
    near(defects.anonymous_clicks / 5, 40_000.0, 0.25);
    near(defects.unknown_user_clicks / 5, 30_000.0, 0.04);
    near(truth.users_without_birth_date, 5_000.0, 0.1);
    near(truth.users_with_wrong_birth_date, 4_500.0, 0.05);
    let without = Lake::of(&plain(), 2).truth().unwrap();
    assert_eq!(without.defects, rankmill_datagen::truth::Defects::default());
}

#[test]
fn bots_are_few_and_busy() {
    let config = Config {
        bots: 3,
        bot_share: 0.3,
        ..plain()
    };
    let counts = counts(clicks(&config).into_iter().map(|click| click.user));
    let mut draws: Vec<u64> = counts.into_values().collect();
    draws.sort_unstable_by(|a, b| b.cmp(a));
    for busy in &draws[..3] {
        assert!((19_000..21_000).contains(busy), "{:?}", &draws[..4]);
    }
    assert!(draws[3] < 200);
}

#[test]
fn a_rush_is_for_one_item_in_some_minutes() {
    let config = Config {
        spikes: 1,
        spike_share: 0.2,
        ..plain()
    };
    let clicks = clicks(&config);
    let items = counts(clicks.iter().map(|click| click.item));
    let (item, most) = items.into_iter().max_by_key(|(_, count)| *count).unwrap();
    assert!((39_000..41_500).contains(&most), "{most}");
    let minutes = counts(
        clicks
            .iter()
            .filter(|click| click.item == item)
            .map(|click| click.at_us / 60_000_000),
    );
    let busy: Vec<i64> = minutes
        .iter()
        .filter(|(_, n)| **n > 500)
        .map(|(m, _)| *m)
        .collect();
    assert!((5..=15).contains(&busy.len()), "{busy:?}");
    assert_eq!(busy[busy.len() - 1] - busy[0] + 1, busy.len() as i64);
    // Many people, not one.
    let users = counts(
        clicks
            .iter()
            .filter(|c| c.item == item)
            .map(|click| click.user),
    );
    assert!(users.len() > 2_000, "{}", users.len());
}

#[test]
fn tastes_differ_by_age_as_far_as_asked() {
    let difference = |taste| {
        let config = Config {
            zipf_items: 1.1,
            taste,
            ..plain()
        };
        let truth = Lake::of(&config, 2).truth().unwrap();
        let top = |band: &str| {
            let ranking = truth
                .age_date_ranking
                .iter()
                .find(|r| r.age_band.as_str() == band);
            ranking.unwrap().top[..20]
                .iter()
                .map(|row| row.item)
                .collect::<Vec<u32>>()
        };
        let (young, old) = (top("10s"), top("60s"));
        young.iter().filter(|item| !old.contains(item)).count()
    };
    let (none, usual) = (difference(0.0), difference(1.0));
    assert!(none < 5 && usual > 8, "{none} {usual}");
}

#[test]
fn new_items_are_not_clicked_before_they_appear() {
    let config = Config {
        new_item_share: 0.3,
        days: 4,
        ..plain()
    };
    let clicks = clicks(&config);
    let seen = |day: u64| {
        let date = config.from + chrono::Days::new(day);
        counts(clicks.iter().filter(|c| c.date == date).map(|c| c.item)).len()
    };
    let seen: Vec<usize> = (0..4).map(seen).collect();
    // 700 are there from the first day on, and a quarter of the others come each day.
    for (day, seen) in seen.iter().enumerate() {
        assert!(
            seen.abs_diff(700 + 75 * (day + 1)) < 40,
            "day {day}: {seen}"
        );
    }
}

#[test]
fn popularity_drifts_as_far_as_asked() {
    let kept = |drift| {
        let config = Config {
            zipf_items: 1.1,
            drift,
            days: 2,
            ..plain()
        };
        let truth = Lake::of(&config, 2).truth().unwrap();
        let top = |day: usize| {
            let top = &truth.daily_popularity[day].top[..20];
            top.iter().map(|row| row.item).collect::<Vec<u32>>()
        };
        let (first, second) = (top(0), top(1));
        first.iter().filter(|item| second.contains(item)).count()
    };
    let (fixed, usual, wild) = (kept(0.0), kept(0.8), kept(4.0));
    assert!(
        fixed >= 18 && usual < fixed && wild < usual,
        "{fixed} {usual} {wild}"
    );
}

#[test]
fn sessions_have_their_mean_length() {
    for wanted in [2_u32, 10] {
        let config = Config {
            events_per_session: wanted,
            ..plain()
        };
        let sessions = counts(clicks(&config).into_iter().map(|click| click.session));
        // Sessions are those of the date, whether anybody clicked or not.
        let last = *sessions.keys().max().unwrap();
        let first = *sessions.keys().min().unwrap();
        let mean = 200_000.0 / (last - first + 1) as f64;
        assert!(
            (mean / f64::from(wanted) - 1.0).abs() < 0.05,
            "{mean} for {wanted}"
        );
    }
    let files = Lake::of(&plain(), 2).files(Table::TicketClicks);
    assert_eq!(files.len(), 1);
}
