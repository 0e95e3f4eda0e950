//! Random aggregations with too little memory for their groups.

use std::cell::Cell;

use proptest::test_runner::TestRunner;

use super::*;

const MEMORY: usize = 128 << 10;
const CASES: u32 = 12;

/// How rows are drawn: the fewer the items and users, the more rows of one.
#[derive(Debug, Clone)]
struct Draw {
    rows: i64,
    items: i64,
    users: i64,
    /// Of ten items so many are one and the same.
    hot: i64,
    /// Of ten items so many are null.
    null: i64,
    /// Between values of items and of users.
    step: i64,
    seed: i64,
}

fn draw() -> impl Strategy<Value = Draw> {
    (
        3_000..6_000i64,
        prop::sample::select(vec![1, 40, 100_000]),
        prop::sample::select(vec![1, 3_000, 1 << 30]),
        0..10i64,
        prop::sample::select(vec![0, 2, 10]),
        prop::sample::select(vec![1, -3, (1 << 33) + 1]),
        0..1_000i64,
    )
        .prop_map(|(rows, items, users, hot, null, step, seed)| Draw {
            rows,
            items,
            users,
            hot,
            null,
            step,
            seed,
        })
}

fn drawn(draw: &Draw) -> Vec<Row> {
    let mut below = random();
    (0..draw.seed).for_each(|_| {
        below(2);
    });
    let pages = [
        "",
        "/",
        "/a long path of more than twelve bytes",
        "192.0.2.1",
    ];
    let mut row = || {
        let (item, of_ten) = (below(draw.items), below(10));
        let item = match of_ten < draw.hot {
            true => 0,
            false => item,
        };
        Row {
            date: Some(below(3) as i32).filter(|date| *date > 0 || below(9) > 0),
            user: Some(below(draw.users) * draw.step).filter(|_| below(10) > 0),
            item: Some(item * draw.step).filter(|_| below(10) >= draw.null),
            page: Some(pages[below(4) as usize]).filter(|_| below(10) > 0),
            value: Some(below(1_000)).filter(|_| below(10) > 0),
            weight: Some(below(5) as f64 - 2.0).filter(|_| below(10) > 0),
        }
    };
    (0..draw.rows).map(|_| row()).collect()
}

/// Whatever has to go to disk, and however often: the same groups as with all the memory.
#[test]
fn any_aggregation_is_right_where_memory_is_short() {
    let runtime = runtime();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: CASES,
        rng_seed: RngSeed::Fixed(31),
        failure_persistence: None,
        max_shrink_iters: 30,
        ..ProptestConfig::default()
    });
    let spilled = [Cell::new(0u32), Cell::new(0u32)];
    let cases = (draw(), query());
    let ran = runner.run(&cases, |(draw, query)| {
        let query = Query {
            batch_rows: query.batch_rows.max(256),
            // A small dictionary doesn't hold so many items.
            item: match query.item {
                DataType::Dictionary(_, _) => DataType::Utf8View,
                other => other,
            },
            ..query
        };
        let found = runtime.block_on(find(&drawn(&draw), &query, MEMORY));
        prop_assert_eq!(&found.node, &found.expected);
        prop_assert_eq!(&found.short[0], &found.expected);
        prop_assert_eq!(&found.short[1], &found.expected);
        for (count, spills) in spilled.iter().zip(found.spills) {
            count.set(count.get() + u32::from(spills > 0));
        }
        Ok(())
    });
    ran.unwrap();
    // Some have few groups, which fit.
    let spilled = spilled.map(Cell::into_inner);
    assert!(
        spilled.iter().all(|count| *count >= CASES / 3),
        "{spilled:?}"
    );
}
