//! The first places of a ranking.

use std::cmp::Ordering;

use super::TOP;

/// The first [`TOP`] rows in a total order, sorted; only these are sorted.
pub(super) fn top<T>(mut rows: Vec<T>, order: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    if rows.len() > TOP {
        rows.select_nth_unstable_by(TOP, &order);
        rows.truncate(TOP);
    }
    rows.sort_unstable_by(order);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_first_in_order() {
        let rows: Vec<u32> = (0..1000).map(|i| i * 7 % 1000).collect();
        assert_eq!(top(rows, u32::cmp), (0..100).collect::<Vec<u32>>());
        assert_eq!(top(vec![3, 1, 2], |a: &i32, b| b.cmp(a)), [3, 2, 1]);
    }
}
