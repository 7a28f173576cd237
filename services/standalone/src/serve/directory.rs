//! The one folder that a standalone server keeps everything in.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gumshoe_runtime::token::TokenSigner;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{credentials::write_private, rpc::Failure};

/// The services that sign calls to others.
const SIGNERS: [&str; 4] = ["gateway", "ingest", "membership", "investigation"];
/// The key that secrets of access keys are encrypted under.
const SECRETS: &str = "secrets.key";
/// The key that bearer tokens are signed with.
const BEARER: &str = "bearer";

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Directory(PathBuf);

/// What was decided on first start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installation {
    /// The administrator account.
    pub account: String,
    /// The graph's region.
    pub region: String,
}

/// Held while a server uses the folder.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock goes when the file is closed")] File);

impl Directory {
    /// A folder, which need not exist.
    ///
    /// # Errors
    /// [`Failure`] when the working directory is gone.
    pub fn new(path: &Path) -> Result<Self, Failure> {
        std::path::absolute(path).map(Self).map_err(|source| Failure::File { action: "find", path: path.to_owned(), source })
    }

    /// Makes the folder, and locks it for this process.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be made, or another server uses it.
    pub fn open(&self) -> Result<Lock, Failure> {
        for folder in [self.0.clone(), self.keys(), self.issuers(), self.lake()] {
            DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|source| Failure::File { action: "make", path: folder, source })?;
        }
        let path = self.0.join("lock");
        let failed = |source| Failure::File { action: "lock", path: path.clone(), source };
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(Failure::Usage(format!("another server uses {}", self.0.display()))),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Makes the keys that are missing; a key that is there is never changed.
    ///
    /// # Errors
    /// [`Failure`] when one cannot be read or written.
    pub fn make_keys(&self) -> Result<(), Failure> {
        for name in SIGNERS.into_iter().chain([BEARER]) {
            let path = self.private_key(name);
            let signer = if path.exists() {
                TokenSigner::from_file(name, &path).map_err(|error| Failure::serve("keys", &error))?
            } else {
                let signer = TokenSigner::generate(name).0;
                self.write(&path, signer.private_pem().expose_secret())?;
                signer
            };
            // The public half follows from the private one, so that half a first start heals.
            let public = if name == BEARER { self.bearer_public_key() } else { self.issuers().join(format!("{name}.pem")) };
            if !fs::read_to_string(&public).is_ok_and(|text| text == signer.public_pem()) {
                self.write(&public, &signer.public_pem())?;
            }
        }
        let secrets = self.keys().join(SECRETS);
        if secrets.exists() { Ok(()) } else { self.write(&secrets, &STANDARD.encode(rand::random::<[u8; 32]>())) }
    }

    /// The key that secrets of access keys are encrypted under, once it is made.
    pub fn secret_key(&self) -> Option<PathBuf> {
        Some(self.keys().join(SECRETS)).filter(|path| path.exists())
    }

    /// What was decided on first start; `None` before.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read.
    pub fn installation(&self) -> Result<Option<Installation>, Failure> {
        let path = self.0.join("installation.toml");
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map(Some).map_err(|error| Failure::Usage(format!("`{}` is damaged: {}", path.display(), error.message()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Failure::File { action: "read", path, source }),
        }
    }

    /// Keeps what was decided.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be written.
    pub fn keep(&self, installation: &Installation) -> Result<(), Failure> {
        let text = toml::to_string(installation).map_err(|error| Failure::Broken(error.to_string()))?;
        self.write(&self.0.join("installation.toml"), &text)
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), Failure> {
        write_private(path, text.as_bytes()).map_err(|source| Failure::File { action: "write", path: path.to_owned(), source })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    fn lake(&self) -> PathBuf {
        self.0.join("lake")
    }

    /// The folder of the public keys that services trust.
    pub fn issuers(&self) -> PathBuf {
        self.keys().join("issuers")
    }

    /// A service's private key, or that of bearer tokens.
    pub fn private_key(&self, name: &str) -> PathBuf {
        self.keys().join(format!("{name}.pem"))
    }

    /// The private key of bearer tokens.
    pub fn bearer_private_key(&self) -> PathBuf {
        self.private_key(BEARER)
    }

    /// The public key of bearer tokens.
    pub fn bearer_public_key(&self) -> PathBuf {
        self.keys().join("bearer.public.pem")
    }

    /// The lake's URL.
    ///
    /// # Errors
    /// [`Failure`] when the folder has no URL.
    pub fn lake_url(&self) -> Result<String, Failure> {
        self.url(&self.lake())
    }

    /// A service's database.
    ///
    /// # Errors
    /// [`Failure`] when the folder has no URL.
    pub fn database_url(&self, service: &str) -> Result<String, Failure> {
        let url = self.url(&self.0.join(format!("{service}.sqlite")))?;
        Ok(url.replacen("file:", "sqlite:", 1))
    }

    fn url(&self, path: &Path) -> Result<String, Failure> {
        Url::from_file_path(path).map(|url| url.to_string()).map_err(|()| Failure::Usage(format!("`{}` cannot be used as a folder", self.0.display())))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn two_servers_cannot_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::new(&folder.path().join("data")).unwrap();
        let lock = directory.open().unwrap();
        assert!(matches!(directory.open(), Err(Failure::Usage(_))));
        drop(lock);
        assert!(directory.open().is_ok());
    }

    #[test]
    fn keys_are_private_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::new(folder.path()).unwrap();
        let _lock = directory.open().unwrap();
        directory.make_keys().unwrap();
        let key = fs::read(directory.private_key("gateway")).unwrap();
        let public = directory.issuers().join("gateway.pem");
        let first = fs::read(&public).unwrap();
        for name in SIGNERS.into_iter().chain([BEARER]) {
            assert_eq!(fs::metadata(directory.private_key(name)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let secrets = fs::read(directory.secret_key().unwrap()).unwrap();
        assert_eq!(fs::metadata(directory.secret_key().unwrap()).unwrap().permissions().mode() & 0o777, 0o600);
        // A start that died between the two halves.
        fs::remove_file(&public).unwrap();
        directory.make_keys().unwrap();
        assert_eq!(fs::read(directory.private_key("gateway")).unwrap(), key);
        assert_eq!(fs::read(&public).unwrap(), first);
        assert_eq!(fs::read(directory.secret_key().unwrap()).unwrap(), secrets);
    }

    #[test]
    fn the_installation_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::new(folder.path()).unwrap();
        assert_eq!(directory.installation().unwrap(), None);
        let installation = Installation { account: "111122223333".to_owned(), region: "eu-west-1".to_owned() };
        directory.keep(&installation).unwrap();
        assert_eq!(directory.installation().unwrap(), Some(installation));
    }

    #[test]
    fn urls_survive_odd_folders() {
        let directory = Directory::new(Path::new("/tmp/a folder/ü")).unwrap();
        assert_eq!(directory.database_url("ingest").unwrap(), "sqlite:///tmp/a%20folder/%C3%BC/ingest.sqlite");
        assert_eq!(directory.lake_url().unwrap(), "file:///tmp/a%20folder/%C3%BC/lake");
    }
}
