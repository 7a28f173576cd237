//! Signatures made by botocore 1.44 with synthetic keys, and by a signer written for these tests.

use http::{HeaderValue, Request};
use proptest::prelude::*;
use serde::Deserialize;

use super::*;

const SECRET: &str = "synthetic/secret+for/vectors";
const NOW: &str = "2024-06-30T12:00:00Z";

#[derive(Debug, Clone, Deserialize)]
struct Vector {
    name: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

fn now() -> Timestamp {
    Timestamp::parse(NOW).unwrap()
}

fn mac(key: &[u8], text: &str) -> [u8; 32] {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(text).finalize().into_bytes().into()
}

/// The key of a scope.
///
/// Source: AWS Identity and Access Management, "Create a signed AWS API request", step 4.
fn derive(secret: &str, date: &str, region: &str, service: &str) -> [u8; 32] {
    let day = mac(format!("AWS4{secret}").as_bytes(), date);
    mac(&mac(&mac(&day, region), service), TERMINATOR)
}

impl Vector {
    fn head(&self) -> Parts {
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        request.body(()).unwrap().into_parts().0
    }

    fn service(&self) -> &'static str {
        if self.path == "/" { "sts" } else { "detective" }
    }

    fn verify_at(&self, now: Timestamp) -> Result<(), Fault> {
        verify(&self.head(), self.body.as_bytes(), self.service(), now)
    }

    fn verify(&self) -> Result<(), Fault> {
        self.verify_at(now())
    }

    fn header(&mut self, name: &str) -> &mut String {
        &mut self.headers.iter_mut().find(|(other, _)| other == name).unwrap().1
    }
}

fn verify(head: &Parts, body: &[u8], service: &str, now: Timestamp) -> Result<(), Fault> {
    let signed = Signed::read(head, body, service, now)?;
    signed.verify(&derive(SECRET, signed.date, signed.region, signed.service))
}

fn vector(name: &str) -> Vector {
    vectors().into_iter().find(|vector| vector.name == name).unwrap()
}

#[track_caller]
fn incomplete(outcome: Result<(), Fault>, words: &str) {
    assert!(matches!(&outcome, Err(Fault::Incomplete(text)) if text.contains(words)), "{outcome:?}");
}

#[track_caller]
fn invalid(outcome: Result<(), Fault>, words: &str) {
    assert!(matches!(&outcome, Err(Fault::Invalid(text)) if text.contains(words)), "{outcome:?}");
}

#[test]
fn requests_of_botocore_are_verified() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 10);
    for vector in vectors {
        assert_eq!(vector.verify(), Ok(()), "{}", vector.name);
    }
}

#[test]
fn what_the_request_says_is_read() {
    let vector = vector("a session token");
    let head = vector.head();
    let signed = Signed::read(&head, vector.body.as_bytes(), "detective", now()).unwrap();
    assert_eq!((signed.access_key_id, signed.date, signed.region, signed.service), ("AKIDEXAMPLE", "20240630", "us-west-2", "detective"));
    assert_eq!(signed.session_token, "session/token+=");
    assert!(signed.verify(&derive("another secret", "20240630", "us-west-2", "detective")).is_err());
}

#[test]
fn clocks_may_differ_by_five_minutes() {
    let vector = vector("an object");
    let at = |seconds: i64| vector.verify_at(Timestamp(now().0 + seconds * 1_000_000));
    for near in [-300, -1, 0, 1, 300] {
        assert_eq!(at(near), Ok(()), "{near}");
    }
    invalid(at(301), "Signature expired: 20240630T120000Z is now earlier than 20240630T120001Z (20240630T120501Z - 5 min.)");
    invalid(at(-301), "Signature not yet current: 20240630T120000Z is still later than 20240630T115959Z (20240630T115459Z + 5 min.)");
}

#[test]
fn other_ways_to_sign_are_refused() {
    let mut asymmetric = vector("an object");
    *asymmetric.header("authorization") = asymmetric.header("authorization").replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256");
    incomplete(asymmetric.verify(), "SigV4A");
    let mut presigned = vector("an object");
    presigned.path.push_str("?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00");
    presigned.headers.retain(|(name, _)| name != "authorization");
    incomplete(presigned.verify(), "query string");
    for other in ["Basic YTpi", "Bearer a.b.c", "x"] {
        let mut vector = vector("an object");
        *vector.header("authorization") = other.to_owned();
        assert!(matches!(vector.verify(), Err(Fault::Missing(_))), "{other}");
    }
    let mut unsigned = vector("an object");
    for payload in ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", ""] {
        unsigned.headers.retain(|(name, _)| name != "x-amz-content-sha256");
        unsigned.headers.push(("x-amz-content-sha256".to_owned(), payload.to_owned()));
        *unsigned.header("authorization") = unsigned.header("authorization").replace("host;x-amz-date", "host;x-amz-content-sha256;x-amz-date");
        invalid(unsigned.verify(), "digest of the body");
    }
}

#[test]
fn a_header_that_is_not_whole_is_refused() {
    let changed = |from: &str, to: &str| {
        let mut vector = vector("an object");
        let authorization = vector.header("authorization");
        assert!(authorization.contains(from), "{from}");
        *authorization = authorization.replace(from, to);
        vector.verify()
    };
    incomplete(changed("Signature=", "Signatures="), "not known");
    incomplete(changed(", Signature=", ", Signature=00, Signature="), "twice");
    incomplete(changed("Credential=", "Credential=, "), "not known");
    incomplete(changed("Credential=AKIDEXAMPLE", "Credential="), "5 slash-delimited");
    incomplete(changed("/aws4_request", ""), "5 slash-delimited");
    incomplete(changed("/aws4_request", "/aws5_request"), "5 slash-delimited");
    incomplete(changed("content-type;host", "host;content-type"), "sorted");
    incomplete(changed("content-type;host", "content-type;host;host"), "each once");
    invalid(changed("content-type;host", "content-type"), "'Host' must be");
    invalid(changed("content-type;host", "host"), "'content-type' must be");
    invalid(changed("host;x-amz-date", "host"), "'x-amz-date' must be");
    invalid(changed("host;x-amz-date", "host;user-agent;x-amz-date"), "'user-agent' is missing");
    invalid(changed("/20240630/", "/20240629/"), "Date in Credential scope");
    invalid(changed("/20240630/", "/2024/"), "Date in Credential scope");
    invalid(changed("/detective/", "/s3/"), "correct service: 'detective'");
    let mut short = vector("an object");
    short.header("authorization").pop();
    incomplete(short.verify(), "64 hexadecimal digits");

    let mut date = vector("an object");
    *date.header("x-amz-date") = "2024-06-30T12:00:00Z".to_owned();
    incomplete(date.verify(), "basic format");
    date.headers.retain(|(name, _)| name != "x-amz-date");
    incomplete(date.verify(), "X-Amz-Date");
    for name in ["authorization", "x-amz-date", "x-amz-security-token"] {
        let mut twice = vector("a session token");
        let value = twice.header(name).clone();
        twice.headers.push((name.to_owned(), value));
        incomplete(twice.verify(), "given once");
    }
    let mut unsigned = vector("an object");
    unsigned.headers.push(("x-amz-security-token".to_owned(), "token".to_owned()));
    invalid(unsigned.verify(), "'x-amz-security-token' must be");
}

#[test]
fn http_2_has_an_authority_in_the_place_of_a_host() {
    let vector = vector("an object");
    let mut head = vector.head();
    head.version = Version::HTTP_2;
    head.headers.remove("host");
    head.uri = "http://127.0.0.1:8080/graphs/list".parse().unwrap();
    assert_eq!(verify(&head, b"{}", "detective", now()), Ok(()));
    head.headers.insert("host", HeaderValue::from_static("127.0.0.1:8080"));
    head.uri = "http://127.0.0.2:8080/graphs/list".parse().unwrap();
    assert!(verify(&head, b"{}", "detective", now()).is_err());
}

/// Signs as the documentation says it, with nothing of the verifier's but the hash functions.
fn sign(method: &str, segments: &[String], query: &[(String, String)], headers: &[(String, String)], body: &[u8]) -> Vector {
    let quote = |text: &str| -> String {
        text.bytes()
            .map(|byte| if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect()
    };
    let path: String = segments.iter().map(|segment| format!("/{}", quote(segment))).collect();
    let canonical_path: String = segments.iter().map(|segment| format!("/{}", quote(&quote(segment)))).collect();
    let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{}={}", quote(name), quote(value))).collect();
    let mut sorted: Vec<_> = query.iter().map(|(name, value)| (quote(name), quote(value))).collect();
    sorted.sort();
    let canonical_query = sorted.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let mut all = vec![("host".to_owned(), "gumshoe.example".to_owned()), ("x-amz-date".to_owned(), "20240630T120000Z".to_owned())];
    all.extend(headers.iter().map(|(name, value)| (format!("x-test-{name}"), value.clone())));
    all.sort();
    let mut names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    let signed = names.join(";");
    let lines: String = names
        .iter()
        .map(|name| {
            let values: Vec<String> =
                all.iter().filter(|(other, _)| other == name).map(|(_, value)| value.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
            format!("{name}:{}\n", values.join(","))
        })
        .collect();
    let digest: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    let canonical = format!("{method}\n{canonical_path}\n{canonical_query}\n{lines}\n{signed}\n{digest}");
    let digest: String = Sha256::digest(canonical).iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("AWS4-HMAC-SHA256\n20240630T120000Z\n20240630/us-east-1/detective/aws4_request\n{digest}");
    let signature: String = mac(&derive(SECRET, "20240630", "us-east-1", "detective"), &text).iter().map(|byte| format!("{byte:02x}")).collect();
    all.push((
        "authorization".to_owned(),
        format!("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20240630/us-east-1/detective/aws4_request, SignedHeaders={signed}, Signature={signature}"),
    ));
    let path = if pairs.is_empty() { path } else { format!("{path}?{}", pairs.join("&")) };
    Vector { name: String::new(), method: method.to_owned(), path, headers: all, body: String::from_utf8_lossy(body).into_owned() }
}

fn signed_request() -> impl Strategy<Value = Vector> {
    let segment = "[a-zA-Z0-9:/ %+=é~-]{1,12}".prop_map(|text| format!("s{text}"));
    let text = "[ -~é]{0,10}";
    (
        prop::sample::select(vec!["GET", "POST", "DELETE"]),
        prop::collection::vec(segment, 1..4),
        prop::collection::vec((text, text).prop_map(|(name, value)| (format!("q{name}"), value)), 0..4),
        prop::collection::vec(("[a-c]{1,2}", "[ -~]{0,12}".prop_map(|value| value.trim().to_owned())), 0..4),
        ".{0,40}",
    )
        .prop_map(|(method, segments, query, mut headers, body)| {
            // Values of one name keep their order in the request, which is sorted here.
            headers.sort();
            sign(method, &segments, &query, &headers, body.as_bytes())
        })
}

proptest! {
    #[test]
    fn what_is_signed_is_verified_and_any_change_is_refused(vector in signed_request(), place in any::<prop::sample::Index>(), bit in 0_u8..7) {
        prop_assert_eq!(vector.verify(), Ok(()));

        let mut body = vector.body.clone().into_bytes();
        if body.is_empty() {
            body.push(b'x');
        } else {
            let index = place.index(body.len());
            body[index] ^= 1 << bit;
        }
        prop_assert!(verify(&vector.head(), &body, "detective", now()).is_err());

        let mut other = vector.clone();
        "PATCH".clone_into(&mut other.method);
        prop_assert!(other.verify().is_err());

        for name in ["authorization", "host", "x-amz-date"] {
            let mut other = vector.clone();
            let mut value = other.header(name).clone().into_bytes();
            let index = place.index(value.len());
            value[index] ^= 1 << bit;
            // Some flips make no header any more, and such a request cannot be sent; others change but the case of a digit.
            let Ok(value) = String::from_utf8(value) else { continue };
            if HeaderValue::from_str(&value).is_err() || value.eq_ignore_ascii_case(other.header(name)) {
                continue;
            }
            *other.header(name) = value;
            let head = other.head();
            let refused = match Signed::read(&head, other.body.as_bytes(), "detective", now()) {
                Err(_) => true,
                // Another key's id is looked up, and that key does not fit.
                Ok(signed) if signed.access_key_id != "AKIDEXAMPLE" => true,
                Ok(signed) => signed.verify(&derive(SECRET, signed.date, signed.region, signed.service)).is_err(),
            };
            prop_assert!(refused, "{}", other.header(name));
        }
    }

    #[test]
    fn no_header_makes_it_fail(authorization in "[ -~]{0,200}", path in "/[!-~]{0,60}", date in "[0-9TZ]{0,18}") {
        let Ok(request) = Request::builder().uri(&path).header("authorization", authorization).header("x-amz-date", date).body(()) else { return Ok(()) };
        let (head, ()) = request.into_parts();
        prop_assert!(verify(&head, b"", "detective", now()).is_err());
    }
}
