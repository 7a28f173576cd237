//! Where objects lie: a folder of this machine, or a prefix in S3.

use std::{
    collections::VecDeque,
    fs, io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use gumshoe_model::Timestamp;
use gumshoe_runtime::status::Chain;
use object_store::{
    GetOptions, GetRange, ObjectStore as _, ObjectStoreExt as _,
    aws::{AmazonS3, AmazonS3Builder},
    list::{PaginatedListOptions, PaginatedListStore as _},
    path::Path as Key,
};
use secrecy::ExposeSecret as _;
use tokio::sync::mpsc;
use url::Url;

use crate::{
    config,
    input::{Input, Piece, explain},
    store::Settings,
};

/// Objects handed on at once while listing.
const PAGE_OBJECTS: usize = 1000;
/// An object in S3 is fetched in ranges of this size, so that no request lasts long.
const RANGE_BYTES: u64 = 4 << 20;
/// Smaller objects are fetched before a parser is taken for them, since most of their time is waiting.
const SMALL_BYTES: u64 = 1 << 20;
/// The longest key: its name must fit `source_object`.
const MAX_KEY_BYTES: usize = 1900;

/// An object as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Key or path under the source.
    pub key: String,
    /// Which state of it: the store's etag, or size and modification time of a file.
    pub etag: String,
    /// Bytes as stored.
    pub size: u64,
    /// When it was modified.
    pub modify_time: Timestamp,
}

/// Why an object cannot be opened.
#[derive(Debug, PartialEq, Eq)]
pub enum OpenError {
    /// It is not there any more.
    Gone,
    /// It is there in another state than the one seen.
    Changed,
    /// Anything else; the text is for the source's owner.
    Failed(String),
}

/// An object whose first bytes are at hand.
#[derive(Debug)]
pub enum Opened {
    /// All of it, or a file.
    Ready(Input),
    /// Too large to be held, with its size: call [`Bucket::stream`] once there is somebody to read it.
    Large(u64),
}

/// Where the objects of a source lie.
#[derive(Debug, Clone)]
pub enum Bucket {
    /// A folder. No symbolic link is followed.
    Directory(PathBuf),
    /// A prefix in S3.
    S3 {
        /// The bucket.
        store: Arc<AmazonS3>,
        /// Its name.
        bucket: String,
        /// What keys begin with; empty, or ending as the source's URL does.
        prefix: String,
    },
}

impl Bucket {
    /// The bucket that `settings` name.
    ///
    /// # Errors
    /// A text for the source's owner when the URL cannot be used or is not allowed.
    pub fn open(settings: &Settings, config: &config::Sources) -> Result<Self, String> {
        let url = Url::parse(&settings.url).map_err(|_| "must be `file:///folder` or `s3://bucket/prefix`".to_owned())?;
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.port().is_some() {
            return Err("must hold nothing but a path".to_owned());
        }
        match url.scheme() {
            "file" => directory(&url, config).map(Self::Directory),
            "s3" => s3(&url, settings, config),
            _ => Err("must be `file:///folder` or `s3://bucket/prefix`".to_owned()),
        }
    }

    /// What the object is called outside: a path or an `s3://` URL.
    #[must_use]
    pub fn name(&self, key: &str) -> String {
        match self {
            Self::Directory(root) => root.join(key).display().to_string(),
            Self::S3 { bucket, .. } => format!("s3://{bucket}/{key}"),
        }
    }

    /// What listing begins with: keys begin with it.
    #[must_use]
    pub fn prefix(&self) -> &str {
        match self {
            Self::Directory(_) => "",
            Self::S3 { prefix, .. } => prefix,
        }
    }

    /// Gives the objects whose keys begin with `prefix` to `found`, and returns the folders beneath; if `recursive`, the
    /// objects in those too, and no folders. What cannot be listed while the rest can is told to `complain`.
    ///
    /// # Errors
    /// A text for the source's owner.
    pub async fn list(
        &self,
        prefix: &str,
        recursive: bool,
        found: &mpsc::Sender<Vec<Listed>>,
        complain: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Vec<String>, String> {
        match self {
            Self::Directory(root) => {
                let (root, prefix, found) = (root.clone(), prefix.to_owned(), found.clone());
                let walked = tokio::task::spawn_blocking(move || walk(&root, &prefix, recursive, &found)).await;
                let (folders, complaints) = walked.map_err(|_| "listing ended early".to_owned())??;
                complaints.into_iter().for_each(complain);
                Ok(folders)
            }
            Self::S3 { store, .. } => {
                let mut folders = Vec::new();
                let mut page_token = None;
                loop {
                    let options = PaginatedListOptions { delimiter: (!recursive).then_some("/".into()), page_token, ..PaginatedListOptions::default() };
                    let page = store.list_paginated(Some(prefix).filter(|prefix| !prefix.is_empty()), options).await.map_err(|error| store_reason(&error))?;
                    folders.extend(page.result.common_prefixes.into_iter().map(|folder| format!("{folder}/")));
                    let objects = page.result.objects.into_iter().map(|object| Listed {
                        key: object.location.into(),
                        etag: object.e_tag.map(|etag| plain_etag(&etag)).unwrap_or_default(),
                        size: object.size,
                        modify_time: Timestamp::from_chrono(object.last_modified).unwrap_or_default(),
                    });
                    let objects: Vec<_> = objects.collect();
                    if !objects.is_empty() && found.send(objects).await.is_err() {
                        return Err("listing was given up".to_owned());
                    }
                    page_token = page.page_token;
                    if page_token.is_none() {
                        return Ok(folders);
                    }
                }
            }
        }
    }

    /// The present state of one object; `None` if there is none.
    ///
    /// # Errors
    /// A text for the source's owner.
    pub async fn head(&self, key: &str) -> Result<Option<Listed>, String> {
        match self {
            Self::Directory(root) => match fs::symlink_metadata(root.join(key)) {
                Ok(metadata) if metadata.is_file() => Ok(Some(listed(key.to_owned(), &metadata))),
                Ok(_) => Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(explain(&error)),
            },
            Self::S3 { store, .. } => match store.head(&parse_key(key)?).await {
                Ok(object) => Ok(Some(Listed {
                    key: key.to_owned(),
                    etag: object.e_tag.map(|etag| plain_etag(&etag)).unwrap_or_default(),
                    size: object.size,
                    modify_time: Timestamp::from_chrono(object.last_modified).unwrap_or_default(),
                })),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(store_reason(&error)),
            },
        }
    }

    /// Opens an object in the state that `etag` tells.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_object(&self, key: &str, etag: &str, size: u64) -> Result<Opened, OpenError> {
        match self {
            Self::Directory(root) => {
                let (root, key, etag) = (root.clone(), key.to_owned(), etag.to_owned());
                let opened = tokio::task::spawn_blocking(move || open_file(&root, &key, &etag)).await;
                opened.map_err(|_| OpenError::Failed("opening ended early".to_owned()))?.map(|file| Opened::Ready(Input::File(file)))
            }
            Self::S3 { store, .. } if size <= SMALL_BYTES => {
                let key = parse_key(key).map_err(OpenError::Failed)?;
                let options = GetOptions { if_match: quoted_etag(etag), ..GetOptions::default() };
                let found = store.get_opts(&key, options).await.map_err(open_error)?;
                // A notification may have told less than the truth.
                if found.meta.size > SMALL_BYTES {
                    return Ok(Opened::Large(found.meta.size));
                }
                let body = found.bytes().await.map_err(open_error)?;
                Ok(Opened::Ready(Input::Whole(VecDeque::from([body]))))
            }
            Self::S3 { .. } => Ok(Opened::Large(size)),
        }
    }

    /// Fetches a large object piece by piece, no faster than it is read. Ends when the reader goes away.
    pub async fn stream(&self, key: &str, etag: &str, size: u64, pieces: mpsc::Sender<Piece>) -> Result<(), OpenError> {
        let Self::S3 { store, .. } = self else { return Ok(()) };
        let key = parse_key(key).map_err(OpenError::Failed)?;
        let mut start = 0;
        while start < size {
            let end = (start + RANGE_BYTES).min(size);
            let options = GetOptions { if_match: quoted_etag(etag), range: Some(GetRange::Bounded(start..end)), ..GetOptions::default() };
            let fetched = async { store.get_opts(&key, options).await?.bytes().await }.await;
            let data = match fetched.map_err(open_error) {
                Ok(data) if !data.is_empty() => data,
                failed => {
                    let error = failed.err().unwrap_or(OpenError::Changed);
                    // The reader may be gone, and then nobody needs to know.
                    let _ = pieces.send(Piece::Failed(error.to_string())).await;
                    return Err(error);
                }
            };
            start += u64::try_from(data.len()).unwrap_or(u64::MAX);
            if pieces.send(Piece::Data(data)).await.is_err() {
                return Ok(());
            }
        }
        let _ = pieces.send(Piece::End).await;
        Ok(())
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Gone => "the object does not exist any more",
            Self::Changed => "the object has changed since it was seen",
            Self::Failed(reason) => reason,
        })
    }
}

fn directory(url: &Url, config: &config::Sources) -> Result<PathBuf, String> {
    let path = url.to_file_path().map_err(|()| "must be an absolute path without a host".to_owned())?;
    // Not allowed and not there look alike, so that nobody learns what lies elsewhere.
    let refused = || "is not a folder below those that the operator allows".to_owned();
    let path = path.canonicalize().map_err(|_| refused())?;
    let allowed = config.allowed_directories.iter().filter_map(|allowed| allowed.canonicalize().ok()).any(|allowed| path.starts_with(allowed));
    if allowed && path.is_dir() { Ok(path) } else { Err(refused()) }
}

fn s3(url: &Url, settings: &Settings, config: &config::Sources) -> Result<Bucket, String> {
    let bucket = url.host_str().unwrap_or_default();
    let valid =
        (3..=63).contains(&bucket.len()) && bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    if !valid {
        return Err("must name a bucket".to_owned());
    }
    let prefix = settings.url.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).map_or("", |(_, prefix)| prefix);
    if prefix.contains("//") || prefix.starts_with('/') {
        return Err("must not hold empty folder names".to_owned());
    }
    let access = &config.s3;
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    if let Some(region) = Some(&settings.region).filter(|region| !region.is_empty()).or(access.region.as_ref()) {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = endpoint(settings, config) {
        builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
    }
    if let (Some(id), Some(secret)) = (&access.access_key_id, &access.secret_access_key) {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret.expose_secret());
    }
    let retry = object_store::RetryConfig { max_retries: 5, retry_timeout: Duration::from_secs(60), ..object_store::RetryConfig::default() };
    let store = builder.with_retry(retry).build().map_err(|error| {
        tracing::warn!(error = %Chain(&error), bucket, "a bucket cannot be opened");
        "cannot be opened with the access that the operator has set".to_owned()
    })?;
    Ok(Bucket::S3 { store: Arc::new(store), bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

/// The endpoint of S3 and SQS for a source, without a slash at its end.
pub(crate) fn endpoint(settings: &Settings, config: &config::Sources) -> Option<String> {
    let chosen = Some(settings.endpoint_url.clone()).filter(|endpoint| !endpoint.is_empty()).or_else(|| config.s3.endpoint_url.as_ref().map(Url::to_string));
    chosen.map(|endpoint| endpoint.trim_end_matches('/').to_owned())
}

fn parse_key(key: &str) -> Result<Key, String> {
    Key::parse(key).map_err(|_| "keys with empty or relative folder names cannot be fetched".to_owned())
}

/// Stores and notifications write etags with and without quotes.
pub(crate) fn plain_etag(etag: &str) -> String {
    etag.trim_start_matches("W/").trim_matches('"').to_owned()
}

fn quoted_etag(etag: &str) -> Option<String> {
    (!etag.is_empty()).then(|| format!("\"{etag}\""))
}

fn open_error(error: object_store::Error) -> OpenError {
    match error {
        object_store::Error::NotFound { .. } => OpenError::Gone,
        object_store::Error::Precondition { .. } => OpenError::Changed,
        other => OpenError::Failed(store_reason(&other)),
    }
}

/// What the store said, in words for a source's owner; in full in the log.
fn store_reason(error: &object_store::Error) -> String {
    let whole = Chain(error).to_string();
    tracing::warn!(error = whole, "the object store failed");
    match error {
        // Of a listing's errors the library gives the kind only as text: the codes are those of the S3 API.
        object_store::Error::Generic { .. } if whole.contains("NoSuchBucket") => "the bucket does not exist",
        object_store::Error::Generic { .. } if ["AccessDenied", "403 Forbidden"].iter().any(|code| whole.contains(code)) => "access is denied",
        object_store::Error::NotFound { .. } => "the bucket does not exist",
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => "access is denied",
        object_store::Error::InvalidPath { .. } => "a key with an empty or relative folder name is among the objects",
        object_store::Error::Precondition { .. } => "the object has changed since it was seen",
        _ => "the object store does not answer as it should",
    }
    .to_owned()
}

fn listed(key: String, metadata: &fs::Metadata) -> Listed {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    Listed {
        key,
        etag: format!("{:x}-{:x}", metadata.len(), modified.as_nanos()),
        size: metadata.len(),
        modify_time: Timestamp(i64::try_from(modified.as_micros()).unwrap_or_default()),
    }
}

/// Lists a folder: what lies in it goes to `found`; its folders and what cannot be listed are returned.
fn walk(root: &Path, prefix: &str, recursive: bool, found: &mpsc::Sender<Vec<Listed>>) -> Result<(Vec<String>, Vec<String>), String> {
    let (mut pending, mut folders, mut complaints) = (vec![prefix.to_owned()], Vec::new(), Vec::new());
    let mut page = Vec::new();
    while let Some(prefix) = pending.pop() {
        let entries = match fs::read_dir(root.join(&prefix)) {
            Ok(entries) => entries,
            Err(error) if prefix.is_empty() => return Err(explain(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                complaints.push(format!("folder `{prefix}`: {}", explain(&error)));
                continue;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    complaints.push(format!("folder `{prefix}`: {}", explain(&error)));
                    break;
                }
            };
            let Ok(name) = entry.file_name().into_string() else {
                complaints.push(format!("a name in `{prefix}` is not UTF-8"));
                continue;
            };
            let key = format!("{prefix}{name}");
            if key.len() > MAX_KEY_BYTES {
                complaints.push(format!("a path in `{prefix}` is too long"));
                continue;
            }
            // Of a symbolic link these are the link's own, so that it is neither folder nor file.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                if recursive { &mut pending } else { &mut folders }.push(format!("{key}/"));
            } else if metadata.is_file() {
                page.push(listed(key, &metadata));
            }
            if page.len() >= PAGE_OBJECTS && found.blocking_send(std::mem::take(&mut page)).is_err() {
                return Err("listing was given up".to_owned());
            }
        }
    }
    if !page.is_empty() && found.blocking_send(page).is_err() {
        return Err("listing was given up".to_owned());
    }
    Ok((folders, complaints))
}

/// Opens a file in the state that `etag` tells, if it really lies below `root`.
fn open_file(root: &Path, key: &str, etag: &str) -> Result<fs::File, OpenError> {
    let path = root.join(key);
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => OpenError::Gone,
        _ => OpenError::Failed(explain(&error)),
    };
    // Before opening, since opening a pipe waits for its writer.
    if !fs::symlink_metadata(&path).map_err(failed)?.is_file() {
        return Err(OpenError::Changed);
    }
    let file = fs::File::open(&path).map_err(failed)?;
    // A folder on the way may have become a link since: only the system knows what was opened.
    let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).or_else(|_| path.canonicalize()).map_err(failed)?;
    if !real.starts_with(root) {
        return Err(OpenError::Failed("it lies outside the source's folder".to_owned()));
    }
    let metadata = file.metadata().map_err(failed)?;
    if listed(String::new(), &metadata).etag == etag { Ok(file) } else { Err(OpenError::Changed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Settings {
        Settings {
            url: url.to_owned(),
            poll_interval: Duration::from_secs(1),
            lookback: Duration::ZERO,
            sqs_queue_url: String::new(),
            region: "us-east-1".to_owned(),
            endpoint_url: String::new(),
            eks_cluster: String::new(),
        }
    }

    #[test]
    fn folders_must_lie_below_an_allowed_one() {
        let directory = tempfile::tempdir().unwrap();
        let (allowed, other) = (directory.path().join("allowed"), directory.path().join("allowed-not"));
        fs::create_dir_all(allowed.join("logs")).unwrap();
        fs::create_dir_all(&other).unwrap();
        std::os::unix::fs::symlink(&other, allowed.join("way-out")).unwrap();
        let config = config::Sources { allowed_directories: vec![allowed.clone()], ..config::Sources::default() };
        let open = |path: &str| Bucket::open(&settings(&format!("file://{path}")), &config).is_ok();
        let allowed = allowed.display().to_string();
        assert!(open(&allowed));
        assert!(open(&format!("{allowed}/logs")));
        assert!(open(&format!("{allowed}/logs/../logs")));
        for bad in [other.display().to_string(), format!("{allowed}/.."), format!("{allowed}/way-out"), format!("{allowed}/missing"), "/etc".to_owned()] {
            assert!(!open(&bad), "{bad}");
        }
        assert!(Bucket::open(&settings(&format!("file://{allowed}")), &config::Sources::default()).is_err(), "nothing is allowed by default");
    }

    #[test]
    fn files_are_opened_only_in_the_state_seen_and_inside() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("day")).unwrap();
        fs::write(root.join("day/a"), "1").unwrap();
        fs::create_dir_all(directory.path().join("secret")).unwrap();
        fs::write(directory.path().join("secret/a"), "1").unwrap();
        let root = root.canonicalize().unwrap();
        let etag = listed(String::new(), &fs::metadata(root.join("day/a")).unwrap()).etag;
        assert!(open_file(&root, "day/a", &etag).is_ok());
        assert_eq!(open_file(&root, "day/a", "0-0").unwrap_err(), OpenError::Changed);
        assert_eq!(open_file(&root, "day/b", &etag).unwrap_err(), OpenError::Gone);
        fs::rename(root.join("day"), root.join("was")).unwrap();
        std::os::unix::fs::symlink(directory.path().join("secret"), root.join("day")).unwrap();
        assert!(matches!(open_file(&root, "day/a", &etag).unwrap_err(), OpenError::Failed(_)));
        std::os::unix::fs::symlink(directory.path().join("secret/a"), root.join("link")).unwrap();
        assert_eq!(open_file(&root, "link", &etag).unwrap_err(), OpenError::Changed);
    }

    #[test]
    fn buckets_and_prefixes_are_told_apart() {
        let config = config::Sources::default();
        let open = |url: &str| Bucket::open(&settings(url), &config);
        let Ok(Bucket::S3 { bucket, prefix, .. }) = open("s3://my-logs/AWSLogs/o-1/") else { panic!("not opened") };
        assert_eq!((&*bucket, &*prefix), ("my-logs", "AWSLogs/o-1/"));
        assert_eq!(open("s3://my-logs").unwrap().prefix(), "");
        for bad in [
            "s3://",
            "s3://b",
            "s3://UPPER_case/x",
            "s3://my-logs//x",
            "s3://my-logs/a//b",
            "s3://key@my-logs/",
            "s3://my-logs/?x",
            "gs://my-logs/",
            "my-logs",
            "",
        ] {
            assert!(open(bad).is_err(), "{bad}");
        }
    }
}
