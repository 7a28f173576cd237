//! Decimal numbers and instants as policies write them.

use std::cmp::Ordering;

/// An exact decimal number of any length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal {
    negative: bool,
    /// Digits before the point, without leading zeros.
    whole: String,
    /// Digits after the point, without trailing zeros.
    fraction: String,
}

impl Decimal {
    /// Reads `-12.50`; none for anything that is not a plain decimal.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned());
        let negative = negative && !(whole.is_empty() && fraction.is_empty());
        Some(Self { negative, whole, fraction })
    }

    fn compare_size(&self, other: &Self) -> Ordering {
        (self.whole.len(), &self.whole, &self.fraction).cmp(&(other.whole.len(), &other.whole, &other.fraction))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.compare_size(other),
            (true, true) => other.compare_size(self),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A point in time: seconds since 1970 and nanoseconds, over all years that AWS accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant {
    seconds: i64,
    nanoseconds: u32,
}

impl Instant {
    /// Reads ISO 8601 (date, or date and time, with or without zone: UTC) or whole seconds since 1970.
    ///
    /// What has neither a `T` nor a `-` in it is a number of seconds, as in AWS: `2026` is no year. The limits are those
    /// that AWS checks when it stores a policy.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if !text.contains(['t', '-']) {
            let seconds = number(&text, 19)?;
            return Some(Self { seconds, nanoseconds: 0 });
        }
        let (date, time) = text.split_once('t').unwrap_or((&text, ""));
        let (sign, date) = date.strip_prefix('-').map_or((1, date), |date| (-1, date));
        let mut parts = date.split('-');
        let year = sign * number(parts.next()?, 9)?;
        let month = parts.next().map_or(Some(1), |month| number(month, 2))?;
        let day = parts.next().map_or(Some(1), |day| number(day, 2))?;
        let valid = (-292_275_054..=292_278_993).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
        if !valid || parts.next().is_some() {
            return None;
        }
        let (clock, offset) = split_zone(time)?;
        let (seconds, nanoseconds) = parse_clock(clock)?;
        Some(Self { seconds: days_from_civil(year, month, day) * 86_400 + seconds - offset, nanoseconds })
    }
}

/// `hh`, `hh:mm`, `hh:mm:ss` or `hh:mm:ss.fraction`, or nothing for midnight: seconds and nanoseconds.
fn parse_clock(clock: &str) -> Option<(i64, u32)> {
    if clock.is_empty() {
        return Some((0, 0));
    }
    let mut parts = clock.split(':');
    let hours = number(parts.next()?, 2)?;
    let minutes = parts.next().map_or(Some(0), |minutes| number(minutes, 2))?;
    let (seconds, fraction) = parts.next().map_or(("0", "0"), |seconds| seconds.split_once('.').unwrap_or((seconds, "0")));
    let seconds = number(seconds, 2)?;
    if parts.next().is_some() || fraction.len() > 9 || hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let nanoseconds = number(&format!("{fraction:0<9}"), 9)?;
    Some((hours * 3600 + minutes * 60 + seconds, u32::try_from(nanoseconds).ok()?))
}

/// Cuts `z`, `+hh`, `+hh:mm` or `-hh:mm` off a time: the rest, and the offset in seconds.
fn split_zone(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix('z') {
        return Some((clock, 0));
    }
    let Some(at) = time.find(['+', '-']) else { return Some((time, 0)) };
    let (clock, zone) = time.split_at_checked(at)?;
    let (sign, zone) = zone.strip_prefix('-').map_or_else(|| (1, zone.trim_start_matches('+')), |zone| (-1, zone));
    let (hours, minutes) = zone.split_once(':').unwrap_or((zone, "00"));
    let two_digits = |text: &str, limit: i64| number(text, 2).filter(|value| text.len() == 2 && *value <= limit);
    Some((clock, sign * (two_digits(hours, 23)? * 3600 + two_digits(minutes, 59)? * 60)))
}

/// One to `longest` ASCII digits.
fn number(text: &str, longest: usize) -> Option<i64> {
    (text.len() <= longest && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * month + 2) / 5 + day - 719_469
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_compare_by_value() {
        let decimal = |text: &str| Decimal::parse(text).unwrap();
        let ascending = ["-100", "-9.5", "-9.4", "-0.1", "0", "0.05", "0.5", "9", "10", "10.01", "100000000000000000000000000001"];
        for pair in ascending.windows(2) {
            assert!(decimal(pair[0]) < decimal(pair[1]), "{pair:?}");
        }
        assert_eq!(decimal("010.50"), decimal("10.5"));
        assert_eq!(decimal("-0"), decimal("0.0"));
        for bad in ["", "-", ".", "1e3", "0x1", "1.2.3", "NaN", "1 2"] {
            assert_eq!(Decimal::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn instants_are_read_in_every_form() {
        let seconds = |text: &str| Instant::parse(text).map(|instant| (instant.seconds, instant.nanoseconds));
        assert_eq!(seconds("1970-01-01"), Some((0, 0)));
        assert_eq!(seconds("1970-01-01T00:00:01Z"), Some((1, 0)));
        assert_eq!(seconds("1970-01-01t01:00:00.25+01:00"), Some((0, 250_000_000)));
        assert_eq!(seconds("1969-12-31T19:00:00-05:00"), Some((0, 0)));
        assert_eq!(seconds("1767225600"), seconds("2026-01-01"));
        assert_eq!(seconds("2026-01"), seconds("2026-01-01T00:00Z"));
        for good in ["01T", "-292275054", "2016-12-13t2:00:00.593194+23"] {
            assert!(Instant::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "x",
            "234-13",
            "2016-12-13t2:00:00.593194+1",
            "2016-12-13t2:00:00.1999999999+10:59",
            "9223372036854775808",
            "2016-01-01T24:00:00Z",
            "-292275055",
        ] {
            assert_eq!(Instant::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn instants_agree_with_chrono(seconds in -60_000_000_000_i64..200_000_000_000) {
            let text = chrono::DateTime::from_timestamp(seconds, 0).unwrap().to_rfc3339();
            prop_assume!(!text.starts_with(['+', '-']));
            prop_assert_eq!(Instant::parse(&text).map(|instant| instant.seconds), Some(seconds));
        }
    }
}
