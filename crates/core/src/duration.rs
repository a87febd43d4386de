//! Durations and sizes as people write them: `15s`, `3.6h`, `256KiB`.

use std::time::Duration;

const DURATION_UNITS: [(&str, f64); 5] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
const SIZE_UNITS: [(&str, f64); 4] = [("B", 1.0), ("KiB", 1024.0), ("MiB", 1_048_576.0), ("GiB", 1_073_741_824.0)];

/// Reads a duration such as `500ms`, `15s`, `1m`, `3.6h` or `30d`; a bare `0` is allowed, a bare other number is not.
///
/// # Errors
/// What is wrong, as the second half of a sentence that begins with the setting's name.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let seconds = parse_with_unit(text, &DURATION_UNITS)
        .ok_or_else(|| "must be a duration with a unit, such as 500ms, 15s, 1m, 2h or 30d".to_owned())?;
    if seconds > 366.0 * 86_400.0 {
        return Err("must be at most 366d".to_owned());
    }
    // Whole milliseconds: finer delays would not survive the store.
    Ok(Duration::from_secs_f64((seconds * 1000.0).round() / 1000.0))
}

/// Reads a size such as `512B`, `256KiB` or `8MiB`, in bytes.
///
/// # Errors
/// What is wrong, as the second half of a sentence that begins with the setting's name.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let bytes = parse_with_unit(text, &SIZE_UNITS)
        .ok_or_else(|| "must be a size with a unit, such as 512B, 256KiB or 8MiB".to_owned())?;
    if bytes > 1e15 || bytes.fract() != 0.0 {
        return Err("must be a whole number of bytes".to_owned());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, not negative and below 1e15")]
    Ok(bytes as u64)
}

/// Writes a duration in the largest unit that shows it exactly: `90s`, `6m`, `216m`.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis > 0 && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") }
}

fn parse_with_unit(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    let (_, size) = units.iter().find(|(name, _)| *name == unit)?;
    Some(number * size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_shows_durations() {
        for (text, millis, shown) in [
            ("0s", 0, "0s"),
            ("0", 0, "0s"),
            ("500ms", 500, "500ms"),
            ("90s", 90_000, "90s"),
            ("3.6h", 12_960_000, "216m"),
            ("1m", 60_000, "1m"),
            ("30d", 2_592_000_000, "30d"),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration.as_millis(), millis, "{text}");
            assert_eq!(show_duration(duration), shown);
            assert_eq!(parse_duration(shown), Ok(duration));
        }
        for bad in ["", "5", "s", "-1s", "1.s", ".5s", "1e3s", "5 s", "1w", "367d", "١s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_sizes() {
        assert_eq!(parse_size("256KiB"), Ok(262_144));
        assert_eq!(parse_size("0.5KiB"), Ok(512));
        for bad in ["256", "256KB", "0.3B", "", "-1B"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
