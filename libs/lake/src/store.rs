//! Object stores by URL: `file://` and `s3://`.

use std::{collections::BTreeMap, future::ready, path::PathBuf, sync::Arc};

use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use futures::{StreamExt, TryStreamExt};
use object_store::{ClientConfigKey, ObjectMeta, ObjectStore, aws::AmazonS3Builder, local::LocalFileSystem, path::Path, prefix::PrefixStore};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::LakeError;

/// Where the lake is and what it may use.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LakeConfig {
    /// `file:///absolute/folder` or `s3://bucket/prefix`. Credentials for S3 come from the environment or the instance.
    pub url: Url,
    /// Options of the S3 client by their names in `object_store`, such as `endpoint`, `region`, `allow_http`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Memory for queries before they spill to disk, in bytes. Default 256 MiB.
    #[serde(default = "default_query_memory")]
    pub query_memory_bytes: usize,
    /// Memory for what is known of data files (footers, places of pages, filters), in bytes. Default 64 MiB.
    #[serde(default = "default_metadata_memory")]
    pub metadata_memory_bytes: u64,
    /// Where queries spill; default the system's temporary folder.
    #[serde(default)]
    pub spill_directory: Option<PathBuf>,
}

fn default_query_memory() -> usize {
    256 * 1024 * 1024
}

fn default_metadata_memory() -> u64 {
    64 * 1024 * 1024
}

/// An object store and the folder of the lake in it.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: Arc<dyn ObjectStore>,
    url: Url,
    prefix: Path,
}

impl Store {
    pub(crate) fn open(config: &LakeConfig) -> Result<Self, LakeError> {
        let bad = |reason: String| LakeError::Config { url: config.url.to_string(), reason };
        let root: Arc<dyn ObjectStore> = match config.url.scheme() {
            "file" => {
                let folder = config.url.to_file_path().map_err(|()| bad("not an absolute path".to_owned()))?;
                std::fs::create_dir_all(&folder).map_err(|error| bad(error.to_string()))?;
                Arc::new(LocalFileSystem::new())
            }
            "s3" => {
                let mut builder = AmazonS3Builder::from_env().with_url(config.url.as_str());
                for (name, value) in &config.options {
                    let key = name.parse().map_err(|_| bad(format!("unknown option `{name}`")))?;
                    builder = builder.with_config(key, value);
                }
                if config.options.get("endpoint").is_some_and(|endpoint| endpoint.starts_with("http://")) {
                    builder = builder.with_config(object_store::aws::AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp), "true");
                }
                Arc::new(builder.build().map_err(|error| bad(error.to_string()))?)
            }
            scheme => return Err(bad(format!("scheme `{scheme}` is not `file` or `s3`"))),
        };
        let prefix = Path::from_url_path(config.url.path()).map_err(|error| bad(error.to_string()))?;
        Ok(Self { root, url: config.url.clone(), prefix })
    }

    /// The lake's own folder.
    pub(crate) fn lake(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(Arc::clone(&self.root), self.prefix.clone()))
    }

    /// The Delta log store of the table in `folder` below the lake.
    pub(crate) fn log_store(&self, folder: &str) -> Result<LogStoreRef, LakeError> {
        let mut url = self.url.clone();
        let path = format!("{}/{folder}/", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let mut prefix = self.prefix.clone();
        for part in folder.split('/') {
            prefix = prefix.join(part);
        }
        if url.scheme() == "file" {
            let folder = url.to_file_path().map_err(|()| LakeError::Config { url: url.to_string(), reason: "not an absolute path".to_owned() })?;
            std::fs::create_dir_all(&folder).map_err(|error| LakeError::Config { url: url.to_string(), reason: error.to_string() })?;
        }
        let table = Arc::new(PrefixStore::new(Arc::clone(&self.root), prefix));
        Ok(default_logstore(table, Arc::clone(&self.root), &url, &StorageConfig::default()))
    }

    /// The objects in `folder` below the lake.
    pub(crate) fn objects(&self, folder: &str) -> Arc<dyn ObjectStore> {
        let prefix = folder.split('/').fold(self.prefix.clone(), |prefix, part| prefix.join(part));
        Arc::new(PrefixStore::new(Arc::clone(&self.root), prefix))
    }

    /// Removes everything in `folder` below the lake.
    pub(crate) async fn remove(&self, folder: &str) -> Result<(), LakeError> {
        let prefix = self.prefix.clone().join(folder);
        let found = self.root.list(Some(&prefix)).map_ok(|object| object.location).boxed();
        let mut removed = self.root.delete_stream(found);
        while let Some(outcome) = removed.next().await {
            match outcome {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The folders of the lake, in order.
    pub(crate) async fn folders(&self) -> Result<Vec<String>, LakeError> {
        let found = self.root.list_with_delimiter(Some(&self.prefix)).await?;
        let mut names: Vec<String> = found.common_prefixes.iter().filter_map(|folder| folder.filename().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    /// Whether there is anything in `folder` below the lake.
    pub(crate) async fn holds(&self, folder: &str) -> Result<bool, LakeError> {
        let prefix = folder.split('/').fold(self.prefix.clone(), |prefix, part| prefix.join(part));
        Ok(self.root.list(Some(&prefix)).next().await.transpose()?.is_some())
    }

    /// The version of the table in `folder` below the lake, which had version `known` before; 0 for none.
    pub(crate) async fn latest_version(&self, folder: &str, known: u64) -> Result<u64, LakeError> {
        let log = folder.split('/').chain(["_delta_log"]).fold(self.prefix.clone(), |prefix, part| prefix.join(part));
        let known_file = log.clone().join(format!("{known:020}"));
        let version = |object: ObjectMeta| object.location.filename().and_then(|name| name.get(..20)?.parse::<u64>().ok());
        let latest = |latest: u64, object| ready(Ok(version(object).map_or(latest, |found| latest.max(found))));
        Ok(self.root.list_with_offset(Some(&log), &known_file).try_fold(known, latest).await?)
    }

    pub(crate) async fn check(&self) -> Result<(), LakeError> {
        match self.root.list(Some(&self.prefix)).next().await {
            Some(Err(error)) => Err(error.into()),
            _ => Ok(()),
        }
    }
}
