//! Times two things in turn.

use std::time::Instant;

/// Seconds of both sides, run by run.
#[derive(Debug, Default)]
pub struct Comparison {
    a: Vec<f64>,
    b: Vec<f64>,
}

impl Comparison {
    /// Prints what the columns of [`print_row`](Self::print_row) are.
    pub fn print_head(a: &str, b: &str) {
        println!("{:<34} {a:>9} {b:>9} {:>7}", "", "ratio");
    }

    /// Prints medians and ratio.
    pub fn print_row(&self, title: &str) {
        println!(
            "{title:<34} {:>8.2}s {:>8.2}s {:>7.2}",
            self.median_a(),
            self.median_b(),
            self.ratio()
        );
    }

    /// Median seconds of the first side.
    pub fn median_a(&self) -> f64 {
        median(&self.a)
    }

    /// Median seconds of the second side.
    pub fn median_b(&self) -> f64 {
        median(&self.b)
    }

    /// Median of the ratios A/B, pair by pair: what drifts with the machine cancels out.
    pub fn ratio(&self) -> f64 {
        let ratios: Vec<f64> = self.a.iter().zip(&self.b).map(|(a, b)| a / b).collect();
        median(&ratios)
    }
}

/// Runs A B A B …, `pairs` times after one uncounted pair.
pub async fn compare(
    pairs: usize,
    mut a: impl AsyncFnMut() -> anyhow::Result<()>,
    mut b: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Comparison> {
    let mut times = Comparison::default();
    for pair in 0..=pairs {
        let begun = Instant::now();
        a().await?;
        let seconds_a = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        b().await?;
        let seconds_b = begun.elapsed().as_secs_f64();
        if pair > 0 {
            times.a.push(seconds_a);
            times.b.push(seconds_b);
        }
    }
    Ok(times)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}
