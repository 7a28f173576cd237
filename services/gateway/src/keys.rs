//! The public keys of an issuer: read from a file or URL, kept, and read again when they are old or a key is unknown.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use gumshoe_model::Timestamp;
use gumshoe_runtime::{Clock, status::Chain};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse, ThumbprintHash},
};
use tokio::sync::Mutex;
use url::Url;

use crate::{age::is_younger, config};

const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_SET_BYTES: usize = 1 << 20;
const MAX_KEYS: usize = 100;

/// A key, and the one algorithm it is used with.
pub struct Key {
    /// Its id; none if its set gives it none.
    pub id: Option<String>,
    /// EdDSA, ES256 or RS256: what kind of key it is decides, never a token.
    pub algorithm: Algorithm,
    /// The key.
    pub decoding: DecodingKey,
}

/// Keys that cannot be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("`{path}` cannot be read")]
    File {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("`{url}` does not answer with a key set")]
    Fetch {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the key set is larger than {MAX_SET_BYTES} bytes")]
    TooLarge,
    #[error("not a JSON Web Key Set")]
    Json(#[source] serde_json::Error),
    #[error("no key that can be used: Ed25519, P-256 or RSA")]
    NoKeys,
}

enum Source {
    Pem(PathBuf),
    File(PathBuf),
    Url(Url, reqwest::Client),
}

/// The keys of one issuer.
pub struct KeyStore {
    source: Source,
    max_age: Duration,
    refetch: Duration,
    max_stale: Duration,
    clock: Arc<dyn Clock>,
    current: RwLock<Snapshot>,
    /// When keys were last asked for; held while they are, so that one request asks for all.
    attempt: Mutex<Option<Timestamp>>,
}

#[derive(Clone)]
struct Snapshot {
    keys: Arc<[Arc<Key>]>,
    read: Option<Timestamp>,
}

impl KeyStore {
    /// A store that reads its keys when first asked.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(config: &config::Keys, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        let source = match (&config.public_key, &config.jwks_file, &config.jwks_url) {
            (_, _, Some(url)) => {
                // A redirect could lead to a place that the operator has not named.
                let client = reqwest::Client::builder().timeout(FETCH_TIMEOUT).redirect(reqwest::redirect::Policy::none()).build()?;
                Source::Url(url.clone(), client)
            }
            (_, Some(path), None) => Source::File(path.clone()),
            (Some(path), None, None) => Source::Pem(path.clone()),
            (None, None, None) => Source::Pem(PathBuf::new()),
        };
        Ok(Self {
            source,
            max_age: Duration::from_secs(config.max_age_seconds),
            refetch: Duration::from_secs(config.refetch_seconds),
            max_stale: Duration::from_secs(config.max_stale_seconds),
            clock,
            current: RwLock::new(Snapshot { keys: Arc::new([]), read: None }),
            attempt: Mutex::new(None),
        })
    }

    /// Whether there are keys to verify with.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.usable().is_some()
    }

    /// The keys that a token with this key id can have been signed with: those of the id, and those without one. A
    /// token without an id can be of any.
    pub async fn find(self: &Arc<Self>, id: Option<&str>) -> Vec<Arc<Key>> {
        let select = |keys: &[Arc<Key>]| keys.iter().filter(|key| id.is_none() || key.id.is_none() || key.id.as_deref() == id).cloned().collect::<Vec<_>>();
        if let Some(snapshot) = self.usable() {
            let found = select(&snapshot.keys);
            if !found.is_empty() {
                if !snapshot.read.is_some_and(|read| is_younger(&*self.clock, read, self.max_age)) {
                    let store = self.clone();
                    tokio::spawn(async move { store.refresh().await });
                }
                return found;
            }
        }
        self.refresh().await;
        self.usable().map(|snapshot| select(&snapshot.keys)).unwrap_or_default()
    }

    /// Reads the keys again, unless that was tried a short while ago; keeps the old ones if it fails.
    pub async fn refresh(&self) {
        let mut attempt = self.attempt.lock().await;
        if attempt.is_some_and(|last| is_younger(&*self.clock, last, self.refetch)) {
            return;
        }
        let outcome = self.read().await;
        *attempt = Some(self.clock.now());
        match outcome {
            Ok(keys) => *self.current.write().unwrap_or_else(PoisonError::into_inner) = Snapshot { keys: keys.into(), read: *attempt },
            Err(error) => tracing::warn!(error = %Chain(&error), "an issuer's keys cannot be read"),
        }
    }

    fn usable(&self) -> Option<Snapshot> {
        let snapshot = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        Some(snapshot).filter(|snapshot| snapshot.read.is_some_and(|read| is_younger(&*self.clock, read, self.max_age + self.max_stale)))
    }

    async fn read(&self) -> Result<Vec<Arc<Key>>, ReadError> {
        let keys: Vec<_> = match &self.source {
            Source::Pem(path) => from_pem(&read_file(path).await?),
            Source::File(path) => from_set(&read_file(path).await?)?,
            Source::Url(url, client) => from_set(&fetch(url, client).await?)?,
        };
        if keys.is_empty() { Err(ReadError::NoKeys) } else { Ok(keys.into_iter().map(Arc::new).collect()) }
    }
}

async fn read_file(path: &PathBuf) -> Result<Vec<u8>, ReadError> {
    tokio::fs::read(path).await.map_err(|source| ReadError::File { path: path.display().to_string(), source })
}

async fn fetch(url: &Url, client: &reqwest::Client) -> Result<Vec<u8>, ReadError> {
    let failed = |source: reqwest::Error| ReadError::Fetch { url: gumshoe_runtime::config::without_password(url), source: source.without_url() };
    let mut response = client.get(url.clone()).send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > MAX_SET_BYTES {
            return Err(ReadError::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The keys of a set that can be used; of others, such as those for HMAC or encryption, the set may hold any number.
fn from_set(bytes: &[u8]) -> Result<Vec<Key>, ReadError> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(bytes).map_err(ReadError::Json)?;
    let jwks = JwkSet { keys: set.keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value(key).ok()).collect() };
    Ok(jwks.keys.iter().filter_map(from_jwk).collect())
}

fn from_jwk(jwk: &Jwk) -> Option<Key> {
    if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_))) {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        // INVARIANT: symmetric keys are never used. A public key taken for an HMAC secret would let anybody sign.
        _ => return None,
    };
    if jwk.common.key_algorithm.is_some_and(|declared| declared != algorithm.into()) {
        return None;
    }
    Some(Key { id: jwk.common.key_id.clone(), algorithm, decoding: DecodingKey::from_jwk(jwk).ok()? })
}

/// Public keys in SPKI PEM, each under its thumbprint (RFC 7638).
fn from_pem(bytes: &[u8]) -> Vec<Key> {
    const END: &str = "-----END PUBLIC KEY-----";
    let text = String::from_utf8_lossy(bytes);
    let blocks = text.split_inclusive(END).filter(|block| block.contains(END)).take(MAX_KEYS);
    blocks.filter_map(|block| from_pem_block(block.trim_start().as_bytes())).collect()
}

type Parser = fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>;

fn from_pem_block(pem: &[u8]) -> Option<Key> {
    let parsers: [(Algorithm, Parser); 3] =
        [(Algorithm::EdDSA, DecodingKey::from_ed_pem), (Algorithm::ES256, DecodingKey::from_ec_pem), (Algorithm::RS256, DecodingKey::from_rsa_pem)];
    parsers.into_iter().find_map(|(algorithm, parse)| {
        let decoding = parse(pem).ok()?;
        let jwk = Jwk::from_decoding_key(&decoding, Some(algorithm)).ok()?;
        let id = jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
        // Through the set's rules, which know the curves.
        let key = from_jwk(&jwk)?;
        Some(Key { id: Some(id), algorithm: key.algorithm, decoding })
    })
}

#[cfg(test)]
mod tests {
    use gumshoe_runtime::FixedClock;

    use super::*;

    const ED25519: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"one","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    const P256: &str = r#"{"kty":"EC","crv":"P-256","kid":"two","use":"sig","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    const HMAC: &str = r#"{"kty":"oct","kid":"three","k":"c2VjcmV0"}"#;
    const ENCRYPTION: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"four","use":"enc","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    const UNKNOWN: &str = r#"{"kty":"LATTICE","kid":"five","m":"AA"}"#;
    const MISLABELLED: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"six","alg":"RS256","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    fn store(path: PathBuf, refetch_seconds: u64) -> (Arc<KeyStore>, Arc<FixedClock>) {
        let keys = config::Keys { public_key: None, jwks_file: Some(path), jwks_url: None, max_age_seconds: 300, refetch_seconds, max_stale_seconds: 600 };
        let clock = Arc::new(FixedClock::new(Timestamp(0)));
        (Arc::new(KeyStore::new(&keys, clock.clone()).unwrap()), clock)
    }

    fn set(keys: &[&str]) -> String {
        format!(r#"{{"keys":[{}]}}"#, keys.join(","))
    }

    #[test]
    fn only_signature_keys_of_known_kinds_are_taken() {
        let keys = from_set(set(&[ED25519, P256, HMAC, ENCRYPTION, UNKNOWN, MISLABELLED]).as_bytes()).unwrap();
        let taken: Vec<_> = keys.iter().map(|key| (key.id.as_deref().unwrap(), key.algorithm)).collect();
        assert_eq!(taken, [("one", Algorithm::EdDSA), ("two", Algorithm::ES256)]);
        assert!(from_set(b"[]").is_err());
    }

    #[tokio::test]
    async fn unknown_ids_read_the_set_again_but_not_too_often() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        std::fs::write(&path, set(&[ED25519])).unwrap();
        let (store, clock) = store(path.clone(), 10);
        assert_eq!(store.find(Some("one")).await.len(), 1);
        std::fs::write(&path, set(&[P256])).unwrap();
        assert!(store.find(Some("two")).await.is_empty(), "read a moment ago");
        clock.advance(Duration::from_secs(11));
        assert_eq!(store.find(Some("two")).await.len(), 1);
        assert!(store.find(Some("one")).await.is_empty(), "a key that is gone is not used");
    }

    #[tokio::test]
    async fn old_keys_stay_while_the_source_fails_but_not_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        std::fs::write(&path, set(&[ED25519])).unwrap();
        let (store, clock) = store(path.clone(), 0);
        assert_eq!(store.find(None).await.len(), 1);
        std::fs::remove_file(&path).unwrap();
        clock.advance(Duration::from_secs(800));
        assert_eq!(store.find(Some("one")).await.len(), 1);
        assert!(store.is_ready());
        clock.advance(Duration::from_secs(101));
        assert!(store.find(Some("one")).await.is_empty());
        assert!(!store.is_ready());
    }
}
