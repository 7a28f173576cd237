//! The keys of an installation: those that services sign with, and that of bearer tokens.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use gumshoe_runtime::TokenSigner;
use secrecy::ExposeSecret as _;

/// The services that sign calls to others.
const SIGNERS: [&str; 4] = ["gateway", "ingest", "membership", "investigation"];

/// Fresh Ed25519 keys in files.
#[derive(Debug)]
pub struct Keys {
    folder: PathBuf,
    signers: HashMap<&'static str, Arc<TokenSigner>>,
}

impl Keys {
    /// Makes keys in a folder that exists.
    ///
    /// # Panics
    /// When the folder cannot be written.
    #[must_use]
    pub fn generate(folder: &Path) -> Self {
        let keys = Self { folder: folder.to_owned(), signers: HashMap::new() };
        fs::create_dir_all(keys.issuers()).unwrap();
        let make = |name: &str, public: PathBuf| {
            let (signer, pem) = TokenSigner::generate(name);
            fs::write(keys.private(name), signer.private_pem().expose_secret()).unwrap();
            fs::write(public, pem).unwrap();
            Arc::new(signer)
        };
        let signers = SIGNERS.map(|name| (name, make(name, keys.issuers().join(format!("{name}.pem")))));
        make("bearer", keys.bearer_public());
        Self { signers: signers.into(), ..keys }
    }

    /// The folder of the public keys that services trust.
    #[must_use]
    pub fn issuers(&self) -> PathBuf {
        self.folder.join("issuers")
    }

    /// The private key of a service that signs, or `bearer`.
    #[must_use]
    pub fn private(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pem"))
    }

    /// The public key of bearer tokens.
    #[must_use]
    pub fn bearer_public(&self) -> PathBuf {
        self.folder.join("bearer.public.pem")
    }

    /// Signs as a service.
    ///
    /// # Panics
    /// For any other name.
    #[must_use]
    pub fn signer(&self, name: &str) -> Arc<TokenSigner> {
        Arc::clone(self.signers.get(name).expect("a service that signs"))
    }
}
