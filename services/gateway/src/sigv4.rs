//! Signature Version 4: what a signed request says about itself, and whether its signature is right.
//!
//! Source: AWS Identity and Access Management, "Create a signed AWS API request". Only the `authorization` header is read:
//! no signatures in the query, none for many regions, none that leave the body out.

use std::{fmt::Write as _, time::Duration};

use gumshoe_model::Timestamp;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderName, Version, header::AUTHORIZATION, request::Parts};
use sha2::{Digest as _, Sha256};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
/// How far the clocks of client and gateway may differ.
const SKEW: Duration = Duration::from_secs(300);
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const UNRESERVED: &[u8] = b"-._~";

/// Why a request is not believed, in words for its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// There is nothing to look at.
    Missing(String),
    /// What is needed is not there, or not in its form.
    Incomplete(String),
    /// The signature is not that of this request, now.
    Invalid(String),
}

/// A signed request, as it describes itself. Nothing of it is proved before [`Signed::verify`].
#[derive(Debug)]
pub struct Signed<'a> {
    /// The access key's id.
    pub access_key_id: &'a str,
    /// The UTC day of the scope, `20240630`.
    pub date: &'a str,
    /// The region of the scope.
    pub region: &'a str,
    /// The service of the scope.
    pub service: &'a str,
    /// The session token, or nothing.
    pub session_token: &'a str,
    time: &'a str,
    signature: [u8; 32],
    canonical: [u8; 32],
}

impl<'a> Signed<'a> {
    /// Reads a request that should be signed for `service`, now.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn read(head: &'a Parts, body: &[u8], service: &str, now: Timestamp) -> Result<Self, Fault> {
        let query = head.uri.query().unwrap_or_default();
        if query_pairs(query).any(|(name, _)| name.starts_with(b"X-Amz-")) {
            return Err(Fault::Incomplete("Signatures in the query string are not supported; the Authorization header must hold the signature.".to_owned()));
        }
        let authorization = Authorization::read(head)?;
        let signed_headers = authorization.signed_headers;
        let time =
            single(head, &DATE)?.ok_or_else(|| Fault::Incomplete("Authorization header requires the existence of an 'X-Amz-Date' header.".to_owned()))?;
        check_time(time, now)?;
        let (access_key_id, scope) = authorization.credential.split_once('/').ok_or_else(malformed_credential)?;
        let parts: Vec<&str> = scope.split('/').collect();
        let &[date, region, named, TERMINATOR] = parts.as_slice() else { return Err(malformed_credential()) };
        if access_key_id.is_empty() || date.is_empty() || region.is_empty() {
            return Err(malformed_credential());
        }
        if !time.starts_with(date) || date.len() != 8 {
            return Err(Fault::Invalid(format!("Date in Credential scope does not match YYYYMMDD from the X-Amz-Date header: '{}' != '{time}'.", shown(date))));
        }
        if named != service {
            return Err(Fault::Invalid(format!("Credential should be scoped to correct service: '{service}'.")));
        }
        check_signed_headers(head, signed_headers)?;
        let digest = hex(&Sha256::digest(body));
        if let Some(claimed) = single(head, &CONTENT_DIGEST)?
            && claimed != digest
        {
            return Err(Fault::Invalid("The X-Amz-Content-SHA256 header is not the digest of the body; payloads must be signed as a whole.".to_owned()));
        }
        let canonical = canonical_request(head, signed_headers, &digest)?;
        let session_token = single(head, &SECURITY_TOKEN)?.unwrap_or_default();
        let signature = unhex(authorization.signature).ok_or_else(|| Fault::Incomplete("Signature must be 64 hexadecimal digits.".to_owned()))?;
        Ok(Self { access_key_id, date, region, service: named, session_token, time, signature, canonical: Sha256::digest(&canonical).into() })
    }

    /// Whether the request was signed with `key`, the key of its scope.
    ///
    /// # Errors
    /// [`Fault::Invalid`].
    pub fn verify(&self, key: &[u8; 32]) -> Result<(), Fault> {
        let Self { date, region, service, time, .. } = self;
        let text = format!("{ALGORITHM}\n{time}\n{date}/{region}/{service}/{TERMINATOR}\n{}", hex(&self.canonical));
        // In constant time.
        let verified = Hmac::<Sha256>::new_from_slice(key).is_ok_and(|mac| mac.chain_update(text).verify_slice(&self.signature).is_ok());
        if verified {
            return Ok(());
        }
        let words = "The request signature we calculated does not match the signature you provided. Check your access key and signing method.";
        Err(Fault::Invalid(words.to_owned()))
    }
}

/// The parts of the `authorization` header.
struct Authorization<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn read(head: &'a Parts) -> Result<Self, Fault> {
        let missing = || Fault::Missing("Missing Authentication Token".to_owned());
        let text = single(head, &AUTHORIZATION)?.ok_or_else(missing)?;
        let (algorithm, rest) = text.split_once(' ').unwrap_or((text, ""));
        if algorithm.starts_with("AWS4-ECDSA-") {
            return Err(Fault::Incomplete(format!("Signatures for many regions (SigV4A) are not supported; the algorithm must be {ALGORITHM}.")));
        }
        if algorithm != ALGORITHM {
            return Err(if algorithm.starts_with("AWS") { Fault::Incomplete(format!("The algorithm must be {ALGORITHM}.")) } else { missing() });
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for part in rest.split(',') {
            let slot = match part.trim().split_once('=') {
                Some(("Credential", value)) => credential.replace(value),
                Some(("SignedHeaders", value)) => signed_headers.replace(value),
                Some(("Signature", value)) => signature.replace(value),
                Some(_) | None if part.trim().is_empty() => None,
                Some(_) | None => return Err(Fault::Incomplete("Authorization header has a part that is not known.".to_owned())),
            };
            if slot.is_some() {
                return Err(Fault::Incomplete("Authorization header has a part twice.".to_owned()));
            }
        }
        let needed = |name: &str, value: Option<&'a str>| {
            value.filter(|value| !value.is_empty()).ok_or_else(|| Fault::Incomplete(format!("Authorization header requires '{name}' parameter.")))
        };
        Ok(Self {
            credential: needed("Credential", credential)?,
            signed_headers: needed("SignedHeaders", signed_headers)?,
            signature: needed("Signature", signature)?,
        })
    }
}

fn malformed_credential() -> Fault {
    Fault::Incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/aws4_request.".to_owned())
}

/// The value of a header that may be there once.
fn single<'a>(head: &'a Parts, name: &HeaderName) -> Result<Option<&'a str>, Fault> {
    let mut values = head.headers.get_all(name).iter();
    let first = values.next().map(|value| value.to_str().map(str::trim).map_err(|_| Fault::Incomplete(format!("Header '{name}' must be ASCII text."))));
    match values.next() {
        None => first.transpose(),
        Some(_) => Err(Fault::Incomplete(format!("Header '{name}' must be given once."))),
    }
}

fn check_time(text: &str, now: Timestamp) -> Result<(), Fault> {
    let time = parse_time(text).ok_or_else(|| Fault::Incomplete("Date must be in ISO-8601 'basic format', such as 20240630T120000Z.".to_owned()))?;
    let skew = i64::try_from(SKEW.as_micros()).unwrap_or(0);
    let (shown_now, minutes) = (basic(now), SKEW.as_secs() / 60);
    let (earliest, latest) = (Timestamp(now.0.saturating_sub(skew)), Timestamp(now.0.saturating_add(skew)));
    if time < earliest {
        return Err(Fault::Invalid(format!("Signature expired: {text} is now earlier than {} ({shown_now} - {minutes} min.)", basic(earliest))));
    }
    if time > latest {
        return Err(Fault::Invalid(format!("Signature not yet current: {text} is still later than {} ({shown_now} + {minutes} min.)", basic(latest))));
    }
    Ok(())
}

/// `20240630T120000Z`.
fn parse_time(text: &str) -> Option<Timestamp> {
    let &[y1, y2, y3, y4, m1, m2, d1, d2, b'T', h1, h2, n1, n2, s1, s2, b'Z'] = text.as_bytes() else { return None };
    let extended = [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2, b'Z'];
    Timestamp::parse(std::str::from_utf8(&extended).ok()?).ok()
}

fn basic(time: Timestamp) -> String {
    Timestamp(time.0.div_euclid(1_000_000).saturating_mul(1_000_000)).to_string().replace(['-', ':'], "")
}

/// Whatever gives the request its meaning must be signed.
fn check_signed_headers(head: &Parts, signed: &str) -> Result<(), Fault> {
    if !signed.split(';').is_sorted_by(|one, next| one < next) || signed.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(Fault::Incomplete("SignedHeaders must be in lower case, sorted, and each once.".to_owned()));
    }
    let is_signed = |name: &str| signed.split(';').any(|other| other == name);
    if !is_signed("host") {
        return Err(Fault::Invalid("'Host' must be a 'SignedHeader' in the AWS Authorization.".to_owned()));
    }
    let needed = |name: &HeaderName| name.as_str().starts_with("x-amz-") || *name == http::header::CONTENT_TYPE;
    match head.headers.keys().find(|name| needed(name) && !is_signed(name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Fault::Invalid(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization."))),
    }
}

fn canonical_request(head: &Parts, signed: &str, digest: &str) -> Result<Vec<u8>, Fault> {
    let mut canonical =
        format!("{}\n{}\n{}\n", head.method, canonical_path(head.uri.path()), canonical_query(head.uri.query().unwrap_or_default())).into_bytes();
    for name in signed.split(';') {
        canonical.extend_from_slice(name.as_bytes());
        canonical.push(b':');
        append_header(&mut canonical, head, name)?;
        canonical.push(b'\n');
    }
    canonical.push(b'\n');
    canonical.extend_from_slice(signed.as_bytes());
    canonical.push(b'\n');
    canonical.extend_from_slice(digest.as_bytes());
    Ok(canonical)
}

/// The header's values, joined by commas, each trimmed and with single blanks inside.
fn append_header(canonical: &mut Vec<u8>, head: &Parts, name: &str) -> Result<(), Fault> {
    let mut values: Vec<&[u8]> = head.headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
    // HTTP/2 has no `host`, but `:authority`.
    if name == "host"
        && (head.version == Version::HTTP_2 || values.is_empty())
        && let Some(authority) = head.uri.authority()
    {
        values = vec![authority.as_str().as_bytes()];
    }
    if values.is_empty() {
        return Err(Fault::Invalid(format!("The signed header '{}' is missing.", shown(name))));
    }
    for (index, value) in values.into_iter().enumerate() {
        if index > 0 {
            canonical.push(b',');
        }
        for (index, word) in value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).enumerate() {
            if index > 0 {
                canonical.push(b' ');
            }
            canonical.extend_from_slice(word);
        }
    }
    Ok(())
}

/// The path as it was sent, without dot segments and empty ones, each segment encoded once more.
fn canonical_path(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    let mut canonical = String::with_capacity(path.len() + 64);
    for segment in &segments {
        canonical.push('/');
        encode(&mut canonical, segment.as_bytes());
    }
    if path.ends_with('/') || segments.is_empty() {
        canonical.push('/');
    }
    canonical
}

/// Names and values encoded anew, sorted.
fn canonical_query(query: &str) -> String {
    let encoded = |bytes: &[u8]| {
        let mut text = String::new();
        encode(&mut text, bytes);
        text
    };
    let mut pairs: Vec<_> = query_pairs(query).map(|(name, value)| (encoded(&name), encoded(&value))).collect();
    pairs.sort_unstable();
    pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// The pairs of a query, decoded once. A plus is a plus: SDKs send `%20` for a blank.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// Undoes percent-encoding; what is not encoded rightly stays as it is.
#[must_use]
pub fn decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(digit(*high) << 4 | digit(*low));
                rest = after;
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

fn encode(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || UNRESERVED.contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let bytes: Vec<u8> =
        text.as_bytes().chunks_exact(2).filter_map(|pair| <[u8; 2]>::try_from(pair).ok()).map(|[high, low]| digit(high) << 4 | digit(low)).collect();
    bytes.try_into().ok()
}

/// The value of a hexadecimal digit.
fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        _ => 0,
    }
}

/// A part of a header as it may stand in a message.
fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(64).collect()
}

#[cfg(test)]
#[path = "sigv4/tests.rs"]
mod tests;
