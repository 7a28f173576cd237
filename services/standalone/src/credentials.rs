//! What `gumshoe login` keeps: one file that only its owner can read.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::rpc::Failure;

/// Credentials for one server.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The server's address.
    pub endpoint: String,
    /// Id of the access key.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: SecretString,
    /// The latest token made of it.
    pub token: Option<Token>,
    /// Whose key it is.
    pub principal_arn: String,
}

/// A bearer token.
#[derive(Debug, Clone)]
pub struct Token {
    /// The token.
    pub value: SecretString,
    /// Until when it is good.
    pub expires: SystemTime,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    endpoint: String,
    access_key_id: String,
    secret_access_key: String,
    principal_arn: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// Seconds since the epoch.
    #[serde(default)]
    token_expires: u64,
}

impl Credentials {
    /// Where they are kept: `$XDG_CONFIG_HOME/gumshoe/credentials.toml`, or the same under `~/.config`.
    ///
    /// # Errors
    /// [`Failure`] when neither variable is set.
    pub fn path() -> Result<PathBuf, Failure> {
        let variable = |name| gumshoe_runtime::config::environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        variable("XDG_CONFIG_HOME")
            .or_else(|| variable("HOME").map(|home| home.join(".config")))
            .map(|folder| folder.join("gumshoe").join("credentials.toml"))
            .ok_or_else(|| Failure::Usage("neither XDG_CONFIG_HOME nor HOME is set, so there is nowhere to keep credentials".to_owned()))
    }

    /// The kept credentials, if there are any.
    ///
    /// # Errors
    /// [`Failure`] when the file is there but cannot be read or is damaged.
    pub fn load() -> Result<Option<Self>, Failure> {
        let Ok(path) = Self::path() else { return Ok(None) };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Failure::File { action: "read", path, source }),
        };
        Self::parse(&text).map(Some).ok_or_else(|| Failure::Usage(format!("`{}` is damaged: run `gumshoe login` again", path.display())))
    }

    fn parse(text: &str) -> Option<Self> {
        let stored: Stored = toml::from_str(text).ok()?;
        let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(stored.token_expires);
        Some(Self {
            endpoint: stored.endpoint,
            access_key_id: stored.access_key_id,
            secret_access_key: SecretString::from(stored.secret_access_key),
            token: stored.token.map(|value| Token { value: SecretString::from(value), expires }),
            principal_arn: stored.principal_arn,
        })
    }

    fn text(&self) -> Result<String, Failure> {
        let stored = Stored {
            endpoint: self.endpoint.clone(),
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.expose_secret().to_owned(),
            principal_arn: self.principal_arn.clone(),
            token: self.token.as_ref().map(|token| token.value.expose_secret().to_owned()),
            token_expires: self.token.as_ref().and_then(|token| token.expires.duration_since(SystemTime::UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs()),
        };
        toml::to_string(&stored).map_err(|error| Failure::Broken(error.to_string()))
    }

    /// Keeps them; the file can be read by its owner only.
    ///
    /// # Errors
    /// [`Failure`] when the file cannot be written.
    pub fn save(&self) -> Result<PathBuf, Failure> {
        let path = Self::path()?;
        let text = self.text()?;
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| write_private(&path, text.as_bytes()));
        written.map(|()| path.clone()).map_err(|source| Failure::File { action: "write", path, source })
    }

    /// Forgets them; true if there were any.
    ///
    /// # Errors
    /// [`Failure`] when the file cannot be removed.
    pub fn forget() -> Result<bool, Failure> {
        let path = Self::path()?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Failure::File { action: "remove", path, source }),
        }
    }
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// When a file beside it cannot be written, or it cannot be replaced.
pub fn write_private(path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    // The mode counts only for a new file.
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn credentials_survive_the_file() {
        let credentials = Credentials {
            endpoint: "http://127.0.0.1:8443".to_owned(),
            access_key_id: "AKIAEXAMPLE".to_owned(),
            secret_access_key: SecretString::from("s3cr3t/\"quoted\""),
            token: Some(Token { value: SecretString::from("a.b.c"), expires: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) }),
            principal_arn: "arn:aws:iam::111122223333:user/admin".to_owned(),
        };
        let text = credentials.text().unwrap();
        let read = Credentials::parse(&text).unwrap();
        assert_eq!(read.secret_access_key.expose_secret(), credentials.secret_access_key.expose_secret());
        assert_eq!(read.token.unwrap().expires, credentials.token.clone().unwrap().expires);
        assert!(!format!("{credentials:?}").contains("s3cr3t"));
        assert!(Credentials::parse("endpoint = 3").is_none());
    }

    #[test]
    fn private_files_are_private_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, "old and readable").unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
