//! Finding a source's objects: by listing again, never from a marker on.
//!
//! Keys of logs do not come in order: a late object can sort before one that was seen. So each listing looks at all
//! objects, or, where folders are dated, at all of the days that a late object can be in, and compares them with the
//! ledger.

use std::{collections::HashSet, sync::Mutex, time::Duration};

use chrono::NaiveDate;
use futures::{StreamExt as _, stream::FuturesUnordered};
use gumshoe_model::Timestamp;
use moka::sync::Cache;
use tokio::sync::mpsc;

use crate::{
    bucket::{Bucket, Listed},
    error::Error,
    key::{self, DatedPath},
    store::{NewObject, Source, SqlStore},
};

/// Folders listed at once.
const PARALLEL_LISTINGS: usize = 16;
/// Below this many folders without a date, the rest is listed at one go.
const MAX_UNDATED_FOLDERS: usize = 12;
/// Objects remembered as being in a ledger, to spare asking it: about 100 bytes each.
const REMEMBERED_OBJECTS: u64 = 200_000;
/// Complaints kept of one listing.
const MAX_COMPLAINTS: usize = 5;
/// Folders that hold no logs: CloudTrail's own digests of them.
const NO_LOGS: [&str; 1] = ["CloudTrail-Digest"];

/// Compares listings with ledgers.
#[derive(Debug, Clone)]
pub struct Discovery {
    store: SqlStore,
    in_ledger: Cache<String, ()>,
}

impl Discovery {
    /// Adds to the ledgers in `store`.
    #[must_use]
    pub fn new(store: SqlStore) -> Self {
        Self { store, in_ledger: Cache::new(REMEMBERED_OBJECTS) }
    }

    /// Lists `source` and adds what its ledger lacks. The first listing is of everything; later ones go back the
    /// look-back before the last one. What was left out is in the source's `last_error` afterwards.
    ///
    /// # Errors
    /// [`Error::Listing`] when the listing did not come to its end, and [`Error::Store`].
    pub async fn list(&self, source: &Source, bucket: &Bucket, now: Timestamp) -> Result<(), Error> {
        let oldest = oldest_day(source.last_list_time, source.settings.lookback);
        let (sender, mut pages) = mpsc::channel(2);
        let complaints = Mutex::new(Vec::new());
        let complain = |complaint: String| {
            tracing::warn!(source = source.name, complaint, "an object is left out");
            if let Ok(mut complaints) = complaints.lock()
                && complaints.len() < MAX_COMPLAINTS
            {
                complaints.push(complaint);
            }
        };
        let adding = async move {
            // Ends at the first error, and the pages with it: without a reader the listing would wait for ever.
            while let Some(page) = pages.recv().await {
                self.add(source, page, now).await?;
            }
            Ok::<_, Error>(())
        };
        let listing = async {
            let listed = walk(bucket, oldest, &sender, &complain).await;
            drop(sender);
            listed.map_err(Error::Listing)
        };
        let (listed, added) = futures::join!(listing, adding);
        added?;
        let complaints = complaints.into_inner().unwrap_or_default().join("; ");
        match listed {
            Ok(()) => self.store.note_listing(source, Some(now), &complaints).await?,
            Err(Error::Listing(reason)) => {
                self.store.note_listing(source, None, &reason).await?;
                return Err(Error::Listing(reason));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Adds objects that the ledger lacks. When it returns, all of them are in the ledger.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn add(&self, source: &Source, objects: Vec<Listed>, now: Timestamp) -> Result<(), Error> {
        let mut new = Vec::new();
        for object in objects.into_iter().filter(|object| is_log(&object.key)) {
            let id = key::object_id(&source.settings.url, &object.key, &object.etag);
            if !self.in_ledger.contains_key(&cached(source, &id)) {
                let facts = key::facts(&object.key);
                new.push(NewObject {
                    id,
                    key: object.key,
                    etag: object.etag,
                    account: facts.account,
                    region: facts.region,
                    size: object.size,
                    modify_time: object.modify_time,
                    hours: facts.hours,
                });
            }
        }
        // One listing may name an object twice, and a statement may not.
        let mut ids = HashSet::new();
        new.retain(|object| ids.insert(object.id.clone()));
        let asked: Vec<&str> = new.iter().map(|object| &*object.id).collect();
        let known = self.store.known(source, &asked).await?;
        let (there, missing): (Vec<_>, Vec<_>) = new.into_iter().partition(|object| known.contains(&object.id));
        if !missing.is_empty() {
            self.store.add_objects(source, &missing, now).await?;
        }
        for object in there.iter().chain(&missing) {
            self.in_ledger.insert(cached(source, &object.id), ());
        }
        Ok(())
    }

    /// Forgets that an object is in the ledger, so that the next listing asks again.
    pub fn forget(&self, source: &Source, id: &str) {
        self.in_ledger.invalidate(&cached(source, id));
    }
}

fn cached(source: &Source, id: &str) -> String {
    format!("{}/{id}", source.id)
}

/// Whether a key can be of a log.
pub(crate) fn is_log(key: &str) -> bool {
    !key.split('/').any(|folder| NO_LOGS.contains(&folder))
}

/// The oldest day that is listed again; `None` for all.
fn oldest_day(last_list_time: Option<Timestamp>, lookback: Duration) -> Option<NaiveDate> {
    let last = last_list_time.filter(|_| !lookback.is_zero())?;
    let back = i64::try_from(lookback.as_micros()).unwrap_or(i64::MAX);
    Some(Timestamp(last.0.saturating_sub(back).max(0)).to_chrono().date_naive())
}

async fn walk(bucket: &Bucket, oldest: Option<NaiveDate>, found: &mpsc::Sender<Vec<Listed>>, complain: &(dyn Fn(String) + Send + Sync)) -> Result<(), String> {
    let root = bucket.prefix().to_owned();
    // A prefix that ends inside a folder's name says nothing yet about that folder.
    let whole_folders = root.rsplit_once('/').map_or("", |(folders, _)| folders);
    let dates = whole_folders.split('/').fold(DatedPath::None, DatedPath::enter);
    let mut pending = vec![Folder { prefix: root, dates, undated: 0 }];
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < PARALLEL_LISTINGS
            && let Some(folder) = pending.pop()
        {
            running.push(async move {
                let recursive = match folder.dates {
                    DatedPath::Day(_) | DatedPath::Hour(..) => true,
                    // With everything to be listed, folders matter no more.
                    _ => oldest.is_none() || folder.undated >= MAX_UNDATED_FOLDERS,
                };
                let folders = bucket.list(&folder.prefix, recursive, found, complain).await?;
                Ok::<_, String>((folder, folders))
            });
        }
        let Some(listed) = running.next().await else { return Ok(()) };
        let (parent, folders) = listed?;
        for prefix in folders {
            let name = prefix.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let dates = parent.dates.enter(name);
            let before = oldest.is_some_and(|oldest| dates.is_before(oldest));
            if !before && is_log(&prefix) {
                let undated = if dates == DatedPath::None { parent.undated + 1 } else { 0 };
                pending.push(Folder { prefix, dates, undated });
            }
        }
    }
}

/// A folder to list.
struct Folder {
    prefix: String,
    dates: DatedPath,
    undated: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_back_from_the_last_listing_and_not_from_now() {
        let last = Timestamp::parse("2024-07-30T12:00:00Z").unwrap();
        let day = |text: &str| Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").unwrap());
        assert_eq!(oldest_day(Some(last), Duration::from_secs(3 * 86_400)), day("2024-07-27"));
        assert_eq!(oldest_day(Some(last), Duration::from_secs(13 * 3_600)), day("2024-07-29"));
        assert_eq!(oldest_day(Some(last), Duration::ZERO), None);
        assert_eq!(oldest_day(None, Duration::from_secs(86_400)), None);
        assert_eq!(oldest_day(Some(Timestamp(1)), Duration::MAX), day("1970-01-01"));
    }

    #[tokio::test]
    async fn dated_folders_are_listed_within_the_look_back_only() {
        let directory = tempfile::tempdir().unwrap();
        let keys = [
            "AWSLogs/1/CloudTrail/us-east-1/2023/12/31/a",
            "AWSLogs/1/CloudTrail/us-east-1/2024/07/28/b",
            "AWSLogs/1/CloudTrail/us-east-1/2024/07/29/c",
            "AWSLogs/1/CloudTrail/us-east-1/2024/08/01/d",
            "AWSLogs/1/CloudTrail-Digest/us-east-1/2024/08/01/e",
            "hive/year=2024/month=07/day=28/hour=01/f",
            "hive/year=2024/month=07/day=30/hour=01/g",
            "day/dt=2024-07-01/h",
            "day/dt=2024-07-31/i",
            "undated/deep/er/j",
            "k",
        ];
        for key in keys {
            let path = directory.path().join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, key).unwrap();
        }
        let bucket = Bucket::Directory(directory.path().to_owned());
        let names = async |oldest: Option<&str>| {
            let (sender, mut pages) = mpsc::channel(64);
            let oldest = oldest.map(|text| NaiveDate::parse_from_str(text, "%Y-%m-%d").unwrap());
            walk(&bucket, oldest, &sender, &|complaint| panic!("{complaint}")).await.unwrap();
            drop(sender);
            let mut names = String::new();
            while let Some(page) = pages.recv().await {
                names.extend(page.iter().filter(|object| is_log(&object.key)).map(|object| &object.key[object.key.len() - 1..]));
            }
            let mut names: Vec<char> = names.chars().collect();
            names.sort_unstable();
            names.into_iter().collect::<String>()
        };
        assert_eq!(names(None).await, "abcdfghijk");
        assert_eq!(names(Some("2024-07-29")).await, "cdgijk");
    }
}
