//! Figures as people read them, and the histogram they come from.

use std::time::Duration;

use hdrhistogram::Histogram;

/// An empty histogram of microseconds: from 1 µs to 10 minutes, three significant digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are constant and valid")
}

/// A duration in whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Events in a second; 0 when no time passed.
pub(crate) fn per_second(events: u64, took: Duration) -> f64 {
    if took.is_zero() { 0.0 } else { events as f64 / took.as_secs_f64() }
}

/// `12,345` for a figure of which only whole units matter.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `850 µs`, `2.35 ms`, `1.20 s`.
pub(crate) fn micros_text(micros: f64) -> String {
    match micros {
        value if value < 1_000.0 => format!("{value:.0} µs"),
        value if value < 1_000_000.0 => format!("{:.2} ms", value / 1_000.0),
        value => format!("{:.2} s", value / 1_000_000.0),
    }
}

/// `89.4 µs`: CPU time for one event.
pub(crate) fn cpu_text(micros: f64) -> String {
    format!("{micros:.1} µs")
}

/// `4.2 %`: a share of a whole.
pub(crate) fn percent_text(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `1.30×`: how many times one figure is another.
pub(crate) fn times_text(ratio: f64) -> String {
    format!("{ratio:.2}×")
}

/// The middle value, or the mean of the two in the middle; 0 of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => 0.0,
        (middle, 0) => f64::midpoint(values[middle - 1], values[middle]),
        (middle, _) => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(grouped(0.0), "0");
        assert_eq!(grouped(999.4), "999");
        assert_eq!(grouped(1_234_567.0), "1,234,567");
        assert_eq!(micros_text(850.0), "850 µs");
        assert_eq!(micros_text(2_345.0), "2.35 ms");
        assert_eq!(micros_text(1_200_000.0), "1.20 s");
        assert_eq!(percent_text(0.042), "4.2 %");
        assert!(per_second(10, Duration::from_secs(2)) > 4.9);
    }

    #[test]
    fn a_median_is_the_middle() {
        assert!(median(vec![]).abs() < f64::EPSILON);
        assert!((median(vec![3.0, 1.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![9.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
