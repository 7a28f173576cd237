//! What an object's key says: account, region, the hours that it covers; and the id of its batch.

use chrono::{Datelike as _, NaiveDate, NaiveDateTime};
use sha2::{Digest as _, Sha256};

/// The id of an object's batch: hex SHA-256 over source URL, key and etag, so that pulling it again counts nothing twice.
#[must_use]
pub fn object_id(source_url: &str, key: &str, etag: &str) -> String {
    let mut hash = Sha256::new();
    for part in [source_url, key, etag] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

/// What a key says; empty and `None` where it is silent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFacts {
    /// 12 digits.
    pub account: String,
    /// Such as `us-east-1`.
    pub region: String,
    /// First and last hour since the epoch.
    pub hours: Option<(i64, i64)>,
}

/// Reads a key: folders such as `AWSLogs/[o-…/]ACCOUNT/CloudTrail/REGION/2024/07/30/` or `aws-region=…/year=…/`, and file
/// names such as `ACCOUNT_CloudTrail_REGION_20240730T2130Z_….json.gz`. The file name is believed before the folders for
/// time, the folders before the file name for account and region.
#[must_use]
pub fn facts(key: &str) -> KeyFacts {
    let mut facts = KeyFacts::default();
    let (folders, name) = key.rsplit_once('/').map_or(("", key), |(folders, name)| (folders, name));
    let mut dates = DatedPath::default();
    for segment in folders.split('/') {
        dates = dates.enter(segment);
        let value = segment.split_once('=').map_or(segment, |(_, value)| value);
        facts.learn(value);
    }
    facts.hours = dates.hours();
    for token in name.split(['_', '.']) {
        facts.learn(token);
        if let Some(hour) = stamp_hour(token) {
            facts.hours = Some((hour, hour));
        }
    }
    facts
}

impl KeyFacts {
    fn learn(&mut self, word: &str) {
        if self.account.is_empty() && word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_digit()) {
            word.clone_into(&mut self.account);
        }
        if self.region.is_empty() && is_region(word) {
            word.clone_into(&mut self.region);
        }
    }
}

/// Whether a word looks like a region: `us-east-1`, `us-gov-west-1`.
fn is_region(word: &str) -> bool {
    let parts: Vec<&str> = word.split('-').collect();
    let letters = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    match parts.as_slice() {
        [first, middle @ .., last] => {
            first.len() == 2
                && letters(first)
                && (1..=2).contains(&middle.len())
                && middle.iter().all(letters)
                && (1..=2).contains(&last.len())
                && last.bytes().all(|byte| byte.is_ascii_digit())
        }
        _ => false,
    }
}

/// The hour of `20240730T2130Z` or `20240730T213000Z`.
fn stamp_hour(token: &str) -> Option<i64> {
    let format = match token.len() {
        14 => "%Y%m%dT%H%MZ",
        16 => "%Y%m%dT%H%M%SZ",
        _ => return None,
    };
    let time = NaiveDateTime::parse_from_str(token, format).ok()?;
    Some(time.and_utc().timestamp().div_euclid(3_600))
}

/// How far into a date a walk through folders has come: `2024/07/30/21`, `year=2024/month=07/day=30`, `dt=2024-07-30`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DatedPath {
    /// No date yet.
    #[default]
    None,
    /// Inside a year.
    Year(i32),
    /// Inside a month.
    Month(i32, u32),
    /// Inside a day.
    Day(NaiveDate),
    /// Inside an hour of a day.
    Hour(NaiveDate, u32),
}

impl DatedPath {
    /// One folder further.
    #[must_use]
    pub fn enter(self, folder: &str) -> Self {
        let (name, value) = folder.split_once('=').map_or(("", folder), |(name, value)| (name, value));
        let number = |low: u32, high: u32, unit: &str, width: usize| {
            let named = name.eq_ignore_ascii_case(unit);
            let fits = value.bytes().all(|byte| byte.is_ascii_digit()) && (value.len() == width || (named && value.len() < width));
            (fits && (named || name.is_empty())).then(|| value.parse::<u32>().ok()).flatten().filter(|number| (low..=high).contains(number))
        };
        let begin = || match NaiveDate::parse_from_str(value, "%Y-%m-%d") {
            Ok(day) if value.len() == 10 => Self::Day(day),
            _ => number(1990, 2100, "year", 4).and_then(|year| i32::try_from(year).ok()).map_or(Self::None, Self::Year),
        };
        match self {
            Self::None => begin(),
            Self::Year(year) => number(1, 12, "month", 2).map_or_else(begin, |month| Self::Month(year, month)),
            Self::Month(year, month) => number(1, 31, "day", 2).and_then(|day| NaiveDate::from_ymd_opt(year, month, day)).map_or_else(begin, Self::Day),
            Self::Day(day) => number(0, 23, "hour", 2).map_or(self, |hour| Self::Hour(day, hour)),
            Self::Hour(..) => self,
        }
    }

    /// Whether everything inside is of a day before `oldest`.
    #[must_use]
    pub fn is_before(self, oldest: NaiveDate) -> bool {
        match self {
            Self::None => false,
            Self::Year(year) => year < oldest.year(),
            Self::Month(year, month) => (year, month) < (oldest.year(), oldest.month()),
            Self::Day(day) | Self::Hour(day, _) => day < oldest,
        }
    }

    /// First and last hour since the epoch, once a day is known.
    #[must_use]
    pub fn hours(self) -> Option<(i64, i64)> {
        let start = |day: NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp().div_euclid(3_600);
        match self {
            Self::None | Self::Year(_) | Self::Month(..) => None,
            Self::Day(day) => Some((start(day), start(day) + 23)),
            Self::Hour(day, hour) => Some((start(day) + i64::from(hour), start(day) + i64::from(hour))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(text: &str) -> i64 {
        gumshoe_model::Timestamp::parse(text).unwrap().hour().0
    }

    #[test]
    fn keys_of_every_layout_tell_account_region_and_hours() {
        let at = hour("2024-07-30T21:30:00Z");
        let day = (hour("2024-07-30T00:00:00Z"), hour("2024-07-30T23:00:00Z"));
        for (key, account, region, hours) in [
            (
                "AWSLogs/123456789012/CloudTrail/us-east-1/2024/07/30/123456789012_CloudTrail_us-east-1_20240730T2130Z_x1.json.gz",
                "123456789012",
                "us-east-1",
                Some((at, at)),
            ),
            ("p/AWSLogs/o-abc123/123456789012/CloudTrail/us-gov-west-1/2024/07/30/a.json.gz", "123456789012", "us-gov-west-1", Some(day)),
            (
                "AWSLogs/123456789012/vpcflowlogs/eu-west-1/2024/07/30/123456789012_vpcflowlogs_eu-west-1_fl-1_20240730T2130Z_9.log.gz",
                "123456789012",
                "eu-west-1",
                Some((at, at)),
            ),
            (
                "AWSLogs/aws-account-id=123456789012/aws-service=vpcflowlogs/aws-region=eu-west-1/year=2024/month=7/day=30/hour=21/x.parquet",
                "123456789012",
                "eu-west-1",
                Some((at, at)),
            ),
            ("logs/2024/07/30/21/firehose-1", "", "", Some((at, at))),
            ("logs/dt=2024-07-30/part-0", "", "", Some(day)),
            ("123456789012_CloudTrail_us-east-1_20240730T213000Z_x.json", "123456789012", "us-east-1", Some((at, at))),
            ("plain.json", "", "", None),
            ("2024/13/1/a", "", "", None),
            ("a/2024/02/31/x", "", "", None),
        ] {
            assert_eq!(facts(key), KeyFacts { account: account.to_owned(), region: region.to_owned(), hours }, "{key}");
        }
    }

    #[test]
    fn ids_tell_source_key_and_etag_apart() {
        let ids = [object_id("s3://b/", "a", "1"), object_id("s3://b/", "a", "2"), object_id("s3://b/", "a1", ""), object_id("s3://b/a", "", "1")];
        assert!(ids.iter().all(|id| id.len() == 64));
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn folders_are_before_a_day_only_as_a_whole() {
        let oldest = NaiveDate::from_ymd_opt(2024, 7, 30).unwrap();
        let walk = |path: &str| path.split('/').fold(DatedPath::None, DatedPath::enter);
        for (path, before) in [
            ("2023", true),
            ("2024", false),
            ("2024/06", true),
            ("2024/07", false),
            ("2024/07/29", true),
            ("2024/07/30", false),
            ("2025/01/01", false),
            ("x", false),
        ] {
            assert_eq!(walk(path).is_before(oldest), before, "{path}");
        }
    }
}
