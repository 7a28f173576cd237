//! What was ingested, and what that would cost in a month.

use std::collections::{BTreeMap, BTreeSet};

use gumshoe_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{lake::Volume, volumes::day_of};

const BYTES_A_GIGABYTE: f64 = 1_073_741_824.0;
const DAYS_A_MONTH: u64 = 30;

/// What a month's gigabytes cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// `USD`.
    pub currency: String,
    /// From the first gigabyte on; each tier begins where the one before ends.
    pub tiers: Vec<Tier>,
}

/// Gigabytes at one price.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Where the tier ends, in gigabytes of an account a month; none for the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<f64>,
    /// What a gigabyte costs.
    pub price: f64,
}

/// Amazon Detective's prices in us-east-1.
///
/// Source: the Amazon Detective pricing page, as of 2024. They change: installations set their own.
impl Default for Prices {
    fn default() -> Self {
        let tier = |up_to, price| Tier { up_to, price };
        let tiers = vec![tier(Some(1_000.0), 2.0), tier(Some(5_000.0), 1.0), tier(Some(10_000.0), 0.5), tier(None, 0.25)];
        Self { currency: "USD".to_owned(), tiers }
    }
}

impl Prices {
    /// What is wrong with the table, if anything is.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        let mut start = 0.0;
        for (index, tier) in self.tiers.iter().enumerate() {
            let is_last = index + 1 == self.tiers.len();
            match tier.up_to {
                Some(end) if end.is_finite() && end > start => start = end,
                None if is_last => {}
                _ => return Some("each tier must end after the one before; only the last may be without an end"),
            }
            if !tier.price.is_finite() || tier.price < 0.0 {
                return Some("a price must not be negative");
            }
        }
        self.tiers.is_empty().then_some("there must be at least one tier")
    }

    /// What one account's bytes of a month cost.
    #[must_use]
    pub fn cost(&self, bytes: u64) -> f64 {
        // Beyond 2^53 bytes the last digits do not matter.
        let gigabytes = bytes as f64 / BYTES_A_GIGABYTE;
        let (mut start, mut cost) = (0.0, 0.0);
        for tier in &self.tiers {
            let end = tier.up_to.unwrap_or(f64::INFINITY);
            cost += (gigabytes.min(end) - start).max(0.0) * tier.price;
            start = end;
        }
        cost
    }
}

/// A month, projected.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Projection {
    /// Bytes of 30 days.
    pub bytes: u64,
    /// What they cost: each account's by the tiers, in the currency of the prices.
    pub cost: f64,
}

/// Projects a month from the complete days on which something was ingested, or from today if there is none yet.
#[must_use]
pub fn project(volumes: &[Volume], now: Timestamp, prices: &Prices) -> Projection {
    let today = day_of(now);
    let complete: BTreeSet<&str> = volumes.iter().map(|volume| volume.day.as_str()).filter(|day| *day < today.as_str()).collect();
    let days: BTreeSet<&str> = if complete.is_empty() { BTreeSet::from([today.as_str()]) } else { complete };
    let count = u64::try_from(days.len()).unwrap_or(u64::MAX).max(1);
    let mut accounts: BTreeMap<&str, u64> = BTreeMap::new();
    for volume in volumes.iter().filter(|volume| days.contains(volume.day.as_str())) {
        let sum = accounts.entry(&volume.account).or_default();
        *sum = sum.saturating_add(volume.bytes);
    }
    accounts
        .values()
        .map(|bytes| bytes.saturating_mul(DAYS_A_MONTH) / count)
        .fold(Projection::default(), |sum, bytes| Projection { bytes: sum.bytes.saturating_add(bytes), cost: sum.cost + prices.cost(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasource::Package;

    const GIGABYTE: u64 = 1 << 30;

    fn volume(account: &str, day: &str, bytes: u64) -> Volume {
        Volume { account: account.to_owned(), package: Package::DetectiveCore, day: day.to_owned(), records: 1, bytes }
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-6
    }

    #[test]
    fn gigabytes_are_priced_by_tier() {
        let prices = Prices::default();
        for (gigabytes, cost) in [(0, 0.0), (1, 2.0), (1_000, 2_000.0), (1_001, 2_001.0), (5_000, 6_000.0), (10_000, 8_500.0), (20_000, 11_000.0)] {
            assert!(close(prices.cost(gigabytes * GIGABYTE), cost), "{gigabytes}: {}", prices.cost(gigabytes * GIGABYTE));
        }
    }

    #[test]
    fn tables_without_sense_are_refused() {
        let table = |tiers: &[(Option<f64>, f64)]| Prices {
            currency: "EUR".to_owned(),
            tiers: tiers.iter().map(|(up_to, price)| Tier { up_to: *up_to, price: *price }).collect(),
        };
        assert_eq!(Prices::default().fault(), None);
        assert_eq!(table(&[(None, 1.0)]).fault(), None);
        assert_eq!(table(&[(Some(5.0), 1.0)]).fault(), None);
        for bad in [
            table(&[]),
            table(&[(None, 1.0), (Some(1.0), 1.0)]),
            table(&[(Some(2.0), 1.0), (Some(2.0), 1.0)]),
            table(&[(None, -1.0)]),
            table(&[(None, f64::NAN)]),
            table(&[(Some(f64::NAN), 1.0)]),
        ] {
            assert!(bad.fault().is_some(), "{bad:?}");
        }
    }

    #[test]
    fn a_month_is_thirty_average_days() {
        let now = Timestamp::parse("2024-06-30T12:00:00Z").unwrap();
        let prices = Prices::default();
        let projection = project(
            &[
                volume("1", "2024-06-27", 2 * GIGABYTE),
                volume("1", "2024-06-29", 4 * GIGABYTE),
                volume("2", "2024-06-29", 100 * GIGABYTE),
                volume("1", "2024-06-30", GIGABYTE),
            ],
            now,
            &prices,
        );
        // Days without data and the day that is not over do not count: (2 + 4) / 2 and 100 / 2 a day.
        assert_eq!(projection.bytes, (90 + 1_500) * GIGABYTE);
        assert!(close(projection.cost, 90.0 * 2.0 + 1_000.0 * 2.0 + 500.0), "{}", projection.cost);
        assert_eq!(project(&[volume("1", "2024-06-30", GIGABYTE)], now, &prices).bytes, 30 * GIGABYTE, "today, if there is nothing else");
        assert_eq!(project(&[], now, &prices), Projection::default());
    }
}
