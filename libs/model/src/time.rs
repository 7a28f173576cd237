//! Microsecond timestamps, hours and half-open time windows, all UTC.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::Invalid;

/// Microseconds in an hour.
pub const MICROS_PER_HOUR: i64 = 3_600_000_000;
/// Microseconds in a day.
pub const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;

/// Microseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// 1970-01-01: no AWS record is older.
    pub const MIN: Self = Self(0);
    /// 9999-12-31T23:59:59Z, the last second that RFC 3339 can write.
    pub const MAX: Self = Self(253_402_300_799_000_000);

    /// From whole seconds since the epoch; `None` outside [`Self::MIN`]..=[`Self::MAX`].
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Option<Self> {
        seconds.checked_mul(1_000_000).map(Self).filter(|time| (Self::MIN..=Self::MAX).contains(time))
    }

    /// From a chrono time; `None` outside [`Self::MIN`]..=[`Self::MAX`].
    #[must_use]
    pub fn from_chrono(time: DateTime<Utc>) -> Option<Self> {
        Some(Self(time.timestamp_micros())).filter(|time| (Self::MIN..=Self::MAX).contains(time))
    }

    /// Reads RFC 3339 (`2024-07-30T21:31:10Z`, fractions and offsets allowed).
    ///
    /// # Errors
    /// [`Invalid`] when the text is not RFC 3339 or outside the years 1970 to 9999.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if let Some(seconds) = parse_plain(text.as_bytes()) {
            return Ok(Self(seconds * 1_000_000));
        }
        DateTime::parse_from_rfc3339(text)
            .ok()
            .and_then(|time| Self::from_chrono(time.with_timezone(&Utc)))
            .ok_or_else(|| Invalid::new("time", text, "expected RFC 3339, years 1970 to 9999"))
    }

    /// As a chrono time.
    #[must_use]
    pub fn to_chrono(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }

    /// The hour that holds this time.
    #[must_use]
    pub fn hour(self) -> Hour {
        Hour(self.0.div_euclid(MICROS_PER_HOUR))
    }

    /// Days since the epoch.
    #[must_use]
    pub fn day(self) -> i64 {
        self.0.div_euclid(MICROS_PER_DAY)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.to_chrono().to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

/// The form nearly every CloudTrail record has, `2024-07-30T21:31:10Z`, without going through chrono.
fn parse_plain(text: &[u8]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2, b'Z'] = *text else {
        return None;
    };
    let digits = |bytes: &[u8]| bytes.iter().try_fold(0_i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')));
    let (year, month, day) = (digits(&[y1, y2, y3, y4])?, digits(&[m1, m2])?, digits(&[d1, d2])?);
    let (hour, minute, second) = (digits(&[h1, h2])?, digits(&[n1, n2])?, digits(&[s1, s2])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1970 || !(1..=month_days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days from civil: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Hours since the Unix epoch: the grain of edges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hour(pub i64);

impl Hour {
    /// The first instant of the hour.
    #[must_use]
    pub fn start(self) -> Timestamp {
        Timestamp(self.0 * MICROS_PER_HOUR)
    }
}

/// A half-open span of time: `start` is inside, `end` is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeWindow {
    start: Timestamp,
    end: Timestamp,
}

impl TimeWindow {
    /// A window; `start` must be before `end`.
    ///
    /// # Errors
    /// [`Invalid`] when the window is empty or turned around.
    pub fn new(start: Timestamp, end: Timestamp) -> Result<Self, Invalid> {
        if start < end { Ok(Self { start, end }) } else { Err(Invalid::new("time window", &format!("{start}/{end}"), "start must be before end")) }
    }

    /// The first instant inside.
    #[must_use]
    pub fn start(self) -> Timestamp {
        self.start
    }

    /// The first instant after.
    #[must_use]
    pub fn end(self) -> Timestamp {
        self.end
    }

    /// Whether `time` is inside.
    #[must_use]
    pub fn contains(self, time: Timestamp) -> bool {
        self.start <= time && time < self.end
    }

    /// The window widened to whole hours, the grain of edges.
    #[must_use]
    pub fn to_hours(self) -> Self {
        let end = Timestamp(self.end.0.saturating_add(MICROS_PER_HOUR - 1));
        Self { start: self.start.hour().start(), end: end.hour().start() }
    }

    /// The `days` days that end where this window starts: Detective's baseline is 45.
    #[must_use]
    pub fn before(self, days: i64) -> Self {
        Self { start: Timestamp((self.start.0 - days * MICROS_PER_DAY).max(0) - i64::from(self.start.0 == 0)), end: self.start }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_times_agree_with_chrono() {
        for text in ["1970-01-01T00:00:00Z", "2000-02-29T23:59:59Z", "2024-07-30T21:31:10Z", "2100-03-01T00:00:00Z", "9999-12-31T23:59:59Z"] {
            let ours = Timestamp::parse(text).unwrap();
            let theirs = DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
            assert_eq!(ours.0, theirs, "{text}");
            assert_eq!(ours.to_string(), text);
        }
        for bad in ["2100-02-29T00:00:00Z", "2024-13-01T00:00:00Z", "2024-01-01T24:00:00Z", "1969-12-31T23:59:59Z", "2024-01-01", ""] {
            assert!(Timestamp::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Timestamp::parse("2024-01-01T01:00:00.25+01:00").unwrap().to_string(), "2024-01-01T00:00:00.250Z");
    }

    #[test]
    fn windows_widen_to_hours() {
        let window = TimeWindow::new(Timestamp::parse("2024-01-01T10:20:00Z").unwrap(), Timestamp::parse("2024-01-01T11:00:01Z").unwrap()).unwrap();
        assert_eq!(window.to_hours().start().to_string(), "2024-01-01T10:00:00Z");
        assert_eq!(window.to_hours().end().to_string(), "2024-01-01T12:00:00Z");
        assert_eq!(window.before(45).end(), window.start());
    }
}
