//! Times, durations and sizes as people write and read them.

use std::time::Duration;

use chrono::{NaiveDate, Utc};
use gumshoe_model::Timestamp;

/// Reads RFC 3339, a date, `now`, or an age such as `90m`, `24h`, `7d`.
///
/// # Errors
/// Says what is expected.
pub fn time(text: &str) -> Result<Timestamp, String> {
    let now = Timestamp::from_chrono(Utc::now()).unwrap_or(Timestamp::MAX);
    time_at(text, now)
}

fn time_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if text == "now" {
        return Ok(now);
    }
    if let Ok(time) = Timestamp::parse(text) {
        return Ok(time);
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d")
        && let Some(time) = date.and_hms_opt(0, 0, 0).and_then(|midnight| Timestamp::from_chrono(midnight.and_utc()))
    {
        return Ok(time);
    }
    let age = duration(text).ok().and_then(|age| i64::try_from(age.as_micros()).ok());
    age.map(|age| Timestamp((now.0 - age).max(0))).ok_or_else(|| "expected RFC 3339, a date such as 2026-01-05, or an age such as 24h or 7d".to_owned())
}

/// Reads a duration such as `90s`, `15m`, `24h`, `7d`, `2w`.
///
/// # Errors
/// Says what is expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || "expected a number and s, m, h, d or w, such as 15m".to_owned();
    let at = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at_checked(at).ok_or_else(bad)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(seconds).filter(|seconds| *seconds <= 100 * 366 * 86_400).map(Duration::from_secs).ok_or_else(bad)
}

/// Reads a size such as `64MB`, `1GB`, `512KiB`; the unit may be left out.
///
/// # Errors
/// Says what is expected.
pub fn bytes(text: &str) -> Result<u64, String> {
    let bad = || "expected bytes such as 500MB, 1GB or 64MiB".to_owned();
    let at = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(at).ok_or_else(bad)?;
    let factor = match unit.trim().to_uppercase().as_str() {
        "" | "B" => 1.0,
        "K" | "KB" => 1e3,
        "M" | "MB" => 1e6,
        "G" | "GB" => 1e9,
        "T" | "TB" => 1e12,
        "KIB" => 1024.0,
        "MIB" => 1024.0 * 1024.0,
        "GIB" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(bad()),
    };
    let bytes = number.parse::<f64>().map_err(|_| bad())? * factor;
    if (1.0..1e15).contains(&bytes) { Ok(bytes as u64) } else { Err(bad()) }
}

/// Writes bytes with three digits and a decimal unit: `1.23 GB`.
pub fn show_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KB", "MB", "GB", "TB"] {
        if value < 999.5 || unit == "TB" {
            let digits = if unit == "B" || value >= 99.95 {
                0
            } else if value >= 9.995 {
                1
            } else {
                2
            };
            return format!("{value:.digits$} {unit}");
        }
        value /= 1000.0;
    }
    String::new()
}

/// Writes a count with thousands apart: `1,234,567`.
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() * 4 / 3);
    for (position, digit) in digits.char_indices() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// Writes a duration in its two largest units: `2h 05m`.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 if duration.subsec_millis() > 0 && seconds < 10 => format!("{:.1}s", duration.as_secs_f64()),
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form() {
        let now = Timestamp::parse("2026-01-08T12:00:00Z").unwrap();
        let read = |text| time_at(text, now).map(|time| time.to_string());
        assert_eq!(read("now").unwrap(), "2026-01-08T12:00:00Z");
        assert_eq!(read("2026-01-05").unwrap(), "2026-01-05T00:00:00Z");
        assert_eq!(read("2026-01-05T01:00:00+01:00").unwrap(), "2026-01-05T00:00:00Z");
        assert_eq!(read("36h").unwrap(), "2026-01-07T00:00:00Z");
        assert_eq!(read("1w").unwrap(), "2026-01-01T12:00:00Z");
        for bad in ["", "yesterday", "5", "h", "-3d", "2026-13-01", "99999999999999999999d"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_and_shown() {
        assert_eq!(bytes("1GB"), Ok(1_000_000_000));
        assert_eq!(bytes("1.5 MB"), Ok(1_500_000));
        assert_eq!(bytes("64MiB"), Ok(67_108_864));
        assert_eq!(bytes("17"), Ok(17));
        for bad in ["", "GB", "1XB", "0", "-1MB", "1e30"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        for (number, shown) in [(0, "0 B"), (999, "999 B"), (1_234, "1.23 KB"), (45_600_000, "45.6 MB"), (999_960_000, "1.00 GB"), (123_456_789_012, "123 GB")]
        {
            assert_eq!(show_bytes(number), shown);
        }
        assert_eq!(show_count(0), "0");
        assert_eq!(show_count(1_234_567), "1,234,567");
        assert_eq!(show_duration(Duration::from_millis(2_340)), "2.3s");
        assert_eq!(show_duration(Duration::from_secs(7_500)), "2h 05m");
    }
}
