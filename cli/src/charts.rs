//! A lake's clicks as charts: of text for the terminal, and as an SVG picture.

use std::fmt::Write;

use rankmill_datagen::Description;

use crate::human;

/// Columns of the longest bar.
const BAR: usize = 50;
/// Ranks that have a bar of their own.
const RANKS: [usize; 18] = [
    1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 100_000, 1_000_000,
    10_000_000,
];

/// Both charts and the figures, for a terminal.
pub(crate) fn text(lake: &Description) -> String {
    let mut text = figures(lake);
    text.push_str("\nClicks of a performance, by its rank (bars by orders of magnitude)\n");
    let most = lake.items.first().copied().unwrap_or(1).max(2) as f64;
    for rank in RANKS.into_iter().filter(|&rank| rank <= lake.items.len()) {
        let clicks = lake.items[rank - 1];
        // One click has a bar of one column.
        let share = (clicks.max(1) as f64).ln() / most.ln();
        let line = bar(&human::count(rank as u64), share, &human::count(clicks));
        text.push_str(&line);
    }
    text.push_str("\nClicks by hour of the day (KST)\n");
    let most = lake.hours.iter().copied().max().unwrap_or(1).max(1) as f64;
    for (hour, &clicks) in lake.hours.iter().enumerate() {
        let share = clicks as f64 / most;
        let percent = 100.0 * clicks as f64 / lake.clicks.max(1) as f64;
        let label = format!("{hour:02}:00");
        text.push_str(&bar(&label, share, &format!("{percent:.1} %")));
    }
    text
}

/// What is not in a chart.
fn figures(lake: &Description) -> String {
    let mut text = String::new();
    let share = |part: u64| 100.0 * part as f64 / lake.clicks.max(1) as f64;
    let _ = writeln!(
        text,
        "{} clicks in {} of {} files, {} dates, {} performances, {} users",
        human::count(lake.clicks),
        lake.files_read,
        lake.files,
        lake.dates.len(),
        human::count(lake.items.len() as u64),
        human::count(lake.users.len() as u64)
    );
    let of = |counts: &[u64]| share(counts.first().copied().unwrap_or(0));
    let exponent = |exponent: Option<f64>| exponent.map_or("-".to_owned(), |s| format!("{s:.2}"));
    let _ = writeln!(
        text,
        "performances: the first has {:.2} %, Zipf exponent {}",
        of(&lake.items),
        exponent(lake.item_exponent())
    );
    let _ = writeln!(
        text,
        "users: the first has {:.2} %, Zipf exponent {}; {:.1} % of clicks are anonymous",
        of(&lake.users),
        exponent(lake.user_exponent()),
        share(lake.anonymous_clicks)
    );
    let _ = writeln!(
        text,
        "{:.2} % are of another date than their file's, {:.2} % have no performance",
        share(lake.late_clicks),
        share(lake.clicks_without_item)
    );
    text
}

fn bar(label: &str, share: f64, value: &str) -> String {
    let columns = (share * BAR as f64).round().max(0.0) as usize;
    format!("{label:>8} {:<BAR$} {value}\n", "#".repeat(columns))
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 300.0;
const MARGIN: f64 = 60.0;
/// Points of the curve for each factor of ten in rank.
const POINTS: f64 = 20.0;

/// Both charts beside each other.
pub(crate) fn svg(lake: &Description) -> String {
    let (width, height) = (2.0 * (WIDTH + 2.0 * MARGIN), HEIGHT + 2.0 * MARGIN);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">
<rect width="{width}" height="{height}" fill="#fff"/>
"##
    );
    rank_chart(&mut svg, lake);
    hour_chart(&mut svg, lake);
    svg.push_str("</svg>\n");
    svg
}

fn begin(svg: &mut String, number: f64, title: &str) {
    let x = number * (WIDTH + 2.0 * MARGIN) + MARGIN;
    let _ = write!(
        svg,
        r##"<g transform="translate({x} {MARGIN})">
<text x="{}" y="-20" text-anchor="middle" font-size="15">{title}</text>
<path d="M0 0V{HEIGHT}H{WIDTH}" fill="none" stroke="#333"/>
"##,
        WIDTH / 2.0
    );
}

/// A mark and its text on one of the axes.
fn tick(svg: &mut String, x: Option<f64>, y: Option<f64>, text: &str) {
    let _ = match (x, y) {
        (Some(x), _) => writeln!(
            svg,
            r#"<text x="{x:.1}" y="{}" text-anchor="middle">{text}</text>"#,
            HEIGHT + 18.0
        ),
        (None, y) => writeln!(
            svg,
            r#"<text x="-6" y="{:.1}" text-anchor="end">{text}</text>"#,
            y.unwrap_or(0.0) + 4.0
        ),
    };
}

/// Clicks by rank, both axes in orders of magnitude: Zipf's law is a straight line.
fn rank_chart(svg: &mut String, lake: &Description) {
    begin(svg, 0.0, "Clicks by rank of the performance or user");
    let counts = [&lake.items, &lake.users];
    let longest = counts.iter().map(|c| c.len()).max().unwrap_or(1).max(10);
    let most = counts.iter().filter_map(|c| c.first()).max();
    let decades_x = (longest as f64).log10();
    let decades_y = (most.copied().unwrap_or(1).max(10) as f64).log10();
    let x = |rank: f64| rank.log10() / decades_x * WIDTH;
    let y = |clicks: f64| HEIGHT - clicks.max(1.0).log10() / decades_y * HEIGHT;
    let tens = |decades: f64| (0..=decades as u32).map(|power| 10_u64.pow(power));
    for ten in tens(decades_x) {
        tick(svg, Some(x(ten as f64)), None, &human::count(ten));
    }
    for ten in tens(decades_y) {
        tick(svg, None, Some(y(ten as f64)), &human::count(ten));
    }
    let names = ["performances", "users"].into_iter().zip(["#c33", "#36c"]);
    for ((counts, (name, color)), line) in counts.into_iter().zip(names).zip(1..) {
        let steps = (0..=(decades_x * POINTS) as u32).map(|step| f64::from(step) / POINTS);
        let mut ranks: Vec<usize> = steps.map(|step| 10_f64.powf(step) as usize).collect();
        ranks.dedup();
        let points = ranks.into_iter().filter_map(|rank| {
            let clicks = *counts.get(rank - 1)?;
            Some(format!("{:.1},{:.1}", x(rank as f64), y(clicks as f64)))
        });
        let points: Vec<String> = points.collect();
        let _ = writeln!(
            svg,
            r#"<polyline points="{}" fill="none" stroke="{color}" stroke-width="2"/>
<text x="{WIDTH}" y="{}" text-anchor="end" fill="{color}">{name}</text>"#,
            points.join(" "),
            line * 18
        );
    }
    svg.push_str("</g>\n");
}

fn hour_chart(svg: &mut String, lake: &Description) {
    begin(svg, 1.0, "Share of the clicks by hour of the day (KST)");
    let most = lake.hours.iter().copied().max().unwrap_or(1).max(1) as f64;
    let width = WIDTH / 24.0;
    for (hour, &clicks) in lake.hours.iter().enumerate() {
        let height = clicks as f64 / most * HEIGHT;
        let _ = writeln!(
            svg,
            r##"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="{height:.1}" fill="#36c"/>"##,
            hour as f64 * width + 1.0,
            HEIGHT - height,
            width - 2.0
        );
        if hour % 3 == 0 {
            let middle = (hour as f64 + 0.5) * width;
            tick(svg, Some(middle), None, &hour.to_string());
        }
    }
    let all = lake.clicks.max(1) as f64;
    for part in [0.25, 0.5, 0.75, 1.0] {
        let percent = format!("{:.1} %", 100.0 * part * most / all);
        tick(svg, None, Some(HEIGHT * (1.0 - part)), &percent);
    }
    svg.push_str("</g>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lake() -> Description {
        let items: Vec<u64> = (1..=200).map(|rank| 10_000 / rank).collect();
        Description {
            files: 3,
            files_read: 2,
            clicks: items.iter().sum(),
            hours: std::array::from_fn(|hour| 100 * hour as u64),
            users: vec![7; 900],
            items,
            ..Description::default()
        }
    }

    #[test]
    fn bars_are_as_long_as_what_they_show() {
        let text = text(&lake());
        let columns = |label: &str| {
            let line = text
                .lines()
                .find(|line| line.trim_start().starts_with(label));
            line.unwrap().matches('#').count()
        };
        assert_eq!(columns("1 "), BAR);
        assert_eq!(columns("10 "), BAR * 3 / 4);
        assert_eq!((columns("00:00"), columns("23:00")), (0, BAR));
        assert!(text.contains("in 2 of 3 files"), "{text}");
        assert!(text.contains("Zipf exponent 1.00"), "{text}");
    }

    #[test]
    fn pictures_of_anything_are_whole() {
        for lake in [lake(), Description::default()] {
            let svg = svg(&lake);
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
            assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
            assert_eq!(svg.matches("<rect x=").count(), 24);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
