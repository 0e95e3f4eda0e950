//! The exponent of a rank–frequency law.

/// The exponent `s` for which counts proportional to `rank^-s` fit best: the maximum of the
/// likelihood of these keys among themselves, so that keys which aren't known don't matter. `counts`
/// in descending order. None for less than three keys.
pub(super) fn exponent(counts: &[u64]) -> Option<f64> {
    let all: f64 = counts.iter().map(|count| *count as f64).sum();
    if counts.len() < 3 || all == 0.0 {
        return None;
    }
    let logs: Vec<f64> = (1..=counts.len()).map(|rank| (rank as f64).ln()).collect();
    let weighted = counts.iter().zip(&logs);
    let observed: f64 = weighted
        .map(|(count, log)| *count as f64 * log)
        .sum::<f64>()
        / all;
    // The mean of ln(rank) falls while the exponent grows: where it is the one observed, the
    // likelihood's derivative is zero.
    let expected = |exponent: f64| {
        let (mut sum, mut of_logs) = (0.0, 0.0);
        for log in &logs {
            let weight = (-exponent * log).exp();
            sum += weight;
            of_logs += weight * log;
        }
        of_logs / sum
    };
    let (mut low, mut high) = (0.0, 20.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        match expected(middle) > observed {
            true => low = middle,
            false => high = middle,
        }
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_exponent_that_counts_were_made_with() {
        for truth in [0.0, 0.6, 1.1, 1.5, 3.0] {
            let counts: Vec<u64> = (1..=200)
                .map(|rank| (1e12 * f64::from(rank).powf(-truth)) as u64)
                .collect();
            let found = exponent(&counts).unwrap();
            assert!((found - truth).abs() < 1e-3, "{found} for {truth}");
        }
        assert_eq!(exponent(&[5, 4]), None);
        assert_eq!(exponent(&[0, 0, 0]), None);
    }
}
