//! Signed requests over plain HTTP, as an SDK makes them: written from the documentation, apart from the gateway's verifier.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::harness::Gateway;

/// An access key, perhaps a temporary one.
#[derive(Debug, Clone)]
pub struct Key {
    pub id: String,
    pub secret: String,
    pub token: String,
}

impl Key {
    pub fn new(id: &str, secret: &str) -> Self {
        Self { id: id.to_owned(), secret: secret.to_owned(), token: String::new() }
    }
}

/// A request that is going to be signed.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: &'static str,
    /// As it is sent, encoded.
    pub path: String,
    pub query: String,
    pub body: String,
    pub content_type: &'static str,
    pub service: &'static str,
    pub region: &'static str,
    /// Seconds that the client's clock is fast.
    pub clock: i64,
    pub headers: Vec<(&'static str, String)>,
    pub http2: bool,
}

impl Call {
    pub fn post(path: &str, body: Value) -> Self {
        Self {
            method: "POST",
            path: path.to_owned(),
            query: String::new(),
            body: body.to_string(),
            content_type: "application/json",
            service: "detective",
            region: "us-east-1",
            clock: 0,
            headers: Vec::new(),
            http2: false,
        }
    }

    pub fn tags(method: &'static str, graph: &str, query: &str, body: &str) -> Self {
        Self { method, path: format!("/tags/{}", quote(graph)), query: query.to_owned(), body: body.to_owned(), ..Self::post("", Value::Null) }
    }

    pub fn sts(parameters: &[(&str, &str)]) -> Self {
        let pairs: Vec<_> = [("Version", "2011-06-15")].iter().chain(parameters).map(|(name, value)| format!("{name}={}", quote(value))).collect();
        Self {
            path: "/".to_owned(),
            body: pairs.join("&"),
            content_type: "application/x-www-form-urlencoded; charset=utf-8",
            service: "sts",
            ..Self::post("", Value::Null)
        }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// A header's value, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn error(&self) -> &str {
        self.header("x-amzn-errortype")
    }

    pub fn message(&self) -> String {
        self.json().get("Message").and_then(Value::as_str).unwrap().to_owned()
    }

    #[track_caller]
    pub fn is(&self, status: u16, error: &str) -> String {
        assert_eq!((self.status, self.error()), (status, error), "{}", self.text);
        self.message()
    }

    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!((self.status, self.header("content-type")), (200, "application/json"), "{}", self.text);
        self.json()
    }
}

pub fn quote(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(text).finalize().into_bytes().to_vec()
}

/// The `authorization` header and all that are signed with it.
pub fn sign(call: &Call, key: &Key, host: &str) -> Vec<(String, String)> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap() + call.clock;
    let time = gumshoe_model::Timestamp(now * 1_000_000).to_string().replace(['-', ':'], "");
    let day = &time[..8];
    let mut headers = vec![("host".to_owned(), host.to_owned()), ("x-amz-date".to_owned(), time.clone())];
    if !call.body.is_empty() {
        headers.push(("content-type".to_owned(), call.content_type.to_owned()));
    }
    if !key.token.is_empty() {
        headers.push(("x-amz-security-token".to_owned(), key.token.clone()));
    }
    headers.extend(call.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    headers.sort();
    let names = headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let path = call.path.split('/').map(quote).collect::<Vec<_>>().join("/");
    let mut pairs: Vec<_> = call.query.split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.sort_unstable();
    let canonical = format!("{}\n{path}\n{}\n{lines}\n{names}\n{}", call.method, pairs.join("&"), hex(&Sha256::digest(&call.body)));
    let scope = format!("{day}/{}/{}/aws4_request", call.region, call.service);
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let derived = [call.region, call.service, "aws4_request"].iter().fold(mac(format!("AWS4{}", key.secret).as_bytes(), day), |key, part| mac(&key, part));
    let signature = hex(&mac(&derived, &text));
    headers.push(("authorization".to_owned(), format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", key.id)));
    headers
}

impl Gateway {
    /// Sends a call with a signature.
    pub async fn send(&self, key: &Key, call: Call) -> Answer {
        let headers = sign(&call, key, &self.address.to_string());
        self.send_with(call, headers).await
    }

    /// Sends a call with these headers.
    pub async fn send_with(&self, call: Call, headers: Vec<(String, String)>) -> Answer {
        let client = reqwest::Client::builder();
        let client = if call.http2 { client.http2_prior_knowledge() } else { client.http1_only() }.build().unwrap();
        let query = if call.query.is_empty() { String::new() } else { format!("?{}", call.query) };
        let mut request = client.request(call.method.parse().unwrap(), format!("http://{}{}{query}", self.address, call.path));
        for (name, value) in headers.iter().filter(|(name, _)| name != "host") {
            request = request.header(name, value);
        }
        let response = request.body(call.body).send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let answer = Answer { status, headers, text: response.text().await.unwrap() };
        assert!(answer.headers.contains_key("x-amzn-requestid") && answer.headers.contains_key("date"), "{answer:?}");
        answer
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(&self.key, Call::post(path, body)).await
    }
}
