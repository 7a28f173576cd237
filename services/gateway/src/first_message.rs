//! What a call acts on, and its tags: read out of its first message, which is then passed on as it came.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes, BytesMut};
use gumshoe_api::common::v1::ErrorReason;
use gumshoe_runtime::{Failure, status};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tonic::{Code, Status, body::Body};

use crate::decision::RequestTags;

/// A gRPC message's prefix: a flag and the length.
///
/// Source: gRPC over HTTP/2, "Length-Prefixed-Message".
const PREFIX_BYTES: usize = 5;

/// Numbers of the fields that are looked for; those of one kind of message never change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fields {
    /// The graph's ARN, a text.
    pub graph: Option<u32>,
    /// The ARN of the role to assume, a text.
    pub role: Option<u32>,
    /// Tags to set, a map of texts.
    pub tags: Option<u32>,
    /// Keys of tags to remove, a list of texts.
    pub tag_keys: Option<u32>,
}

impl Fields {
    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// There if it was looked for.
    pub graph: Option<String>,
    /// There if it was looked for.
    pub role: Option<String>,
    /// Tags to set, and keys of tags.
    pub tags: RequestTags,
}

/// What was read so far, then what is still to come.
struct Replayed {
    head: Bytes,
    rest: Body,
}

impl HttpBody for Replayed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.head.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.head)))));
        }
        Pin::new(&mut self.rest).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.rest.size_hint();
        let head = u64::try_from(self.head.len()).unwrap_or(u64::MAX);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(head));
        }
        hint.set_lower(hint.lower().saturating_add(head));
        hint
    }
}

/// Reads the first message of `body` and finds its `fields`; gives back the body as it was.
///
/// # Errors
/// INVALID_ARGUMENT when the message is not one, or does not name exactly one graph or role where it must; UNIMPLEMENTED
/// when it is compressed, RESOURCE_EXHAUSTED when it is larger than `limit`.
pub async fn read(mut body: Body, fields: Fields, limit: usize) -> Result<(Found, Body), Failure> {
    // Nearly always the message comes as a whole, and then it is not copied.
    let mut head = next(&mut body).await?;
    if message(&head, limit)?.is_none() {
        let mut joined = BytesMut::from(head);
        while message(&joined, limit)?.is_none() {
            joined.extend_from_slice(&next(&mut body).await?);
        }
        head = joined.freeze();
    }
    let found = find(message(&head, limit)?.unwrap_or_default(), fields)?;
    Ok((found, Body::new(Replayed { head, rest: body })))
}

async fn next(body: &mut Body) -> Result<Bytes, Failure> {
    match body.frame().await {
        Some(Ok(frame)) => frame.into_data().map_err(|_| malformed("it ends too early")),
        Some(Err(_)) => Err(Failure::new(Code::Cancelled, ErrorReason::InvalidField, "the request was broken off")),
        None => Err(malformed("it ends too early")),
    }
}

/// The first message in `head`, once all of it is there.
fn message(head: &[u8], limit: usize) -> Result<Option<&[u8]>, Failure> {
    let Some((mut prefix, rest)) = head.split_at_checked(PREFIX_BYTES) else { return Ok(None) };
    match prefix.get_u8() {
        0 => {}
        1 => return Err(Failure::new(Code::Unimplemented, ErrorReason::InvalidField, "compressed requests are not supported")),
        _ => return Err(malformed("its prefix is wrong")),
    }
    let length = usize::try_from(prefix.get_u32()).unwrap_or(usize::MAX);
    if length > limit {
        return Err(status::quota_exceeded(format!("the first message must be at most {limit} bytes")));
    }
    Ok(rest.get(..length))
}

fn find(message: &[u8], fields: Fields) -> Result<Found, Failure> {
    let mut found = Found::default();
    each_field(message, |number, value| {
        let number = Some(number);
        if number == fields.graph {
            once("graph_arn", &mut found.graph, value)
        } else if number == fields.role {
            once("role_arn", &mut found.role, value)
        } else if number == fields.tags {
            let (mut key, mut tag) = (String::new(), String::new());
            each_field(value, |number, value| {
                match number {
                    1 => key = text("tags", value)?,
                    2 => tag = text("tags", value)?,
                    _ => {}
                }
                Ok(())
            })?;
            found.tags.set(key, tag);
            Ok(())
        } else if number == fields.tag_keys {
            found.tags.name(text("tag_keys", value)?);
            Ok(())
        } else {
            Ok(())
        }
    })?;
    for (name, field, value) in [("graph_arn", fields.graph, &found.graph), ("role_arn", fields.role, &found.role)] {
        if field.is_some() && value.as_ref().is_none_or(String::is_empty) {
            return Err(status::invalid_argument(name, "is required"));
        }
    }
    Ok(found)
}

/// Readers take the last of several: whoever checks another one would be deceived.
fn once(name: &str, found: &mut Option<String>, value: &[u8]) -> Result<(), Failure> {
    match found.replace(text(name, value)?) {
        None => Ok(()),
        Some(_) => Err(status::invalid_argument(name, "is given more than once")),
    }
}

fn text(name: &str, value: &[u8]) -> Result<String, Failure> {
    std::str::from_utf8(value).map(str::to_owned).map_err(|_| status::invalid_argument(name, "must be UTF-8"))
}

/// Shows every length-delimited field of a protobuf message, in order.
fn each_field(mut message: &[u8], mut show: impl FnMut(u32, &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let number = u32::try_from(tag >> 3).map_err(|_| malformed("a field has no number"))?;
        match tag & 7 {
            0 => {
                varint(&mut message)?;
            }
            1 => {
                take(&mut message, 8)?;
            }
            2 => {
                let length = varint(&mut message)?;
                show(number, take(&mut message, length)?)?;
            }
            5 => {
                take(&mut message, 4)?;
            }
            // Groups, which this API does not have.
            _ => return Err(malformed("a field has an unknown type")),
        }
    }
    Ok(())
}

fn varint(message: &mut &[u8]) -> Result<u64, Failure> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = message.split_first().ok_or_else(|| malformed("it is cut off"))?;
        *message = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed("a number is too long"))
}

fn take<'a>(message: &mut &'a [u8], length: u64) -> Result<&'a [u8], Failure> {
    let (value, rest) = usize::try_from(length).ok().and_then(|length| message.split_at_checked(length)).ok_or_else(|| malformed("it is cut off"))?;
    *message = rest;
    Ok(value)
}

fn malformed(reason: &str) -> Failure {
    Failure::new(Code::InvalidArgument, ErrorReason::InvalidField, format!("the request message cannot be read: {reason}"))
}

#[cfg(test)]
mod tests {
    use gumshoe_api::{
        common::v1::EntityKey,
        graph::v1::{GetEntityProfileRequest, GetRiskRequest},
        membership::v1::{TagResourceRequest, UntagResourceRequest},
    };
    use http_body_util::{StreamBody, combinators::UnsyncBoxBody};
    use prost::Message as _;

    use super::*;

    const GRAPH: Fields = Fields { graph: Some(1), role: None, tags: None, tag_keys: None };

    async fn graph(body: Body, limit: usize) -> Result<String, Failure> {
        read(body, GRAPH, limit).await.map(|(found, _)| found.graph.unwrap())
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(message);
        bytes
    }

    /// A body that arrives in pieces of `size`.
    fn pieces(bytes: &[u8], size: usize) -> Body {
        let frames: Vec<_> = bytes.chunks(size).map(|piece| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(piece)))).collect();
        Body::new(UnsyncBoxBody::new(StreamBody::new(futures::stream::iter(frames))))
    }

    fn request() -> Vec<u8> {
        let entity = Some(EntityKey { r#type: 2, id: "i".repeat(300) });
        GetEntityProfileRequest { graph_arn: "arn:graph".to_owned(), entity, scope: None, list_size: 7 }.encode_to_vec()
    }

    #[tokio::test]
    async fn the_field_is_found_and_the_body_is_unchanged_however_it_arrives() {
        let mut bytes = framed(&request());
        bytes.extend_from_slice(&framed(b"a second message is not looked at"));
        for size in [1, 4, 5, 6, 64, 10_000] {
            let (found, body) = read(pieces(&bytes, size), GRAPH, 4_096).await.unwrap();
            assert_eq!(found, Found { graph: Some("arn:graph".to_owned()), ..Found::default() });
            assert_eq!(body.collect().await.unwrap().to_bytes(), bytes);
        }
    }

    #[tokio::test]
    async fn the_order_of_fields_does_not_matter_but_their_number_does() {
        let mut late = vec![0x10, 7, 0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x25, 1, 2, 3, 4];
        late.extend_from_slice(&GetRiskRequest { graph_arn: "arn:graph".to_owned(), ..GetRiskRequest::default() }.encode_to_vec());
        assert_eq!(graph(pieces(&framed(&late), 100), 4_096).await.unwrap(), "arn:graph");
        let mut twice = late.clone();
        twice.extend_from_slice(&GetRiskRequest { graph_arn: "arn:other".to_owned(), ..GetRiskRequest::default() }.encode_to_vec());
        let failure = graph(pieces(&framed(&twice), 100), 4_096).await.unwrap_err();
        assert_eq!(failure.message, "`graph_arn`: is given more than once");
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_refused() {
        let good = framed(&request());
        for cut in [0, 3, 5, 6, good.len() - 1] {
            let failure = graph(pieces(good.get(..cut).unwrap(), 100), 4_096).await.unwrap_err();
            assert_eq!(failure.code, Code::InvalidArgument, "{cut}");
        }
        for (message, code) in [
            (&[][..], Code::InvalidArgument),
            (&[0x0a, 0x00], Code::InvalidArgument),
            (&[0x0a, 0xff], Code::InvalidArgument),
            (&[0x0a, 0x02, 0xff, 0xfe], Code::InvalidArgument),
            (&[0x0b, 0x0c], Code::InvalidArgument),
            (&[0xff; 12], Code::InvalidArgument),
            (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Code::InvalidArgument),
        ] {
            assert_eq!(graph(pieces(&framed(message), 100), 4_096).await.unwrap_err().code, code, "{message:?}");
        }
        assert_eq!(graph(pieces(&good, 100), 100).await.unwrap_err().code, Code::ResourceExhausted);
        let mut compressed = good.clone();
        compressed[0] = 1;
        assert_eq!(graph(pieces(&compressed, 100), 4_096).await.unwrap_err().code, Code::Unimplemented);
    }

    #[tokio::test]
    async fn tags_are_read_as_the_service_reads_them() {
        let fields = Fields { tags: Some(2), ..GRAPH };
        let tags = [("a", "1"), ("b", "")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut message = TagResourceRequest { graph_arn: "arn:graph".to_owned(), tags: tags.into() }.encode_to_vec();
        // The same key again: the last one counts. An entry without a key has an empty one.
        message.extend_from_slice(&TagResourceRequest { graph_arn: String::new(), tags: [("a".to_owned(), "2".to_owned())].into() }.encode_to_vec());
        message.extend_from_slice(&[0x12, 0]);
        let decoded = TagResourceRequest::decode(message.as_slice()).unwrap();
        let (found, _) = read(pieces(&framed(&message), 100), fields, 4_096).await.unwrap();
        let mut expected = RequestTags::default();
        for (key, value) in decoded.tags {
            expected.set(key, value);
        }
        assert_eq!(found.tags, expected);
        assert_eq!(expected.keys().collect::<Vec<_>>(), ["", "a", "b"]);

        let fields = Fields { tag_keys: Some(2), ..GRAPH };
        let message = UntagResourceRequest { graph_arn: "arn:graph".to_owned(), tag_keys: vec!["b".to_owned(), "a".to_owned()] }.encode_to_vec();
        let (found, _) = read(pieces(&framed(&message), 100), fields, 4_096).await.unwrap();
        assert_eq!(found.tags.keys().collect::<Vec<_>>(), ["a", "b"]);
    }
}
