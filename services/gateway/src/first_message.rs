//! The resource of a call: read out of its first message, which is then passed on as it came.

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

/// A gRPC message's prefix: a flag and the length.
///
/// Source: gRPC over HTTP/2, "Length-Prefixed-Message".
const PREFIX_BYTES: usize = 5;

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

/// Reads the first message of `body` and finds the text in its `field`; gives back the body as it was.
///
/// # Errors
/// INVALID_ARGUMENT when the message is not one or has not exactly one such field, UNIMPLEMENTED when it is compressed,
/// RESOURCE_EXHAUSTED when it is larger than `limit`.
pub async fn read(mut body: Body, field: u32, limit: usize) -> Result<(String, Body), Failure> {
    // Nearly always the message comes as a whole, and then it is not copied.
    let mut head = next(&mut body).await?;
    if message(&head, limit)?.is_none() {
        let mut joined = BytesMut::from(head);
        while message(&joined, limit)?.is_none() {
            joined.extend_from_slice(&next(&mut body).await?);
        }
        head = joined.freeze();
    }
    let text = find(message(&head, limit)?.unwrap_or_default(), field)?;
    Ok((text, Body::new(Replayed { head, rest: body })))
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

/// The text in `field` of a protobuf message.
fn find(mut message: &[u8], field: u32) -> Result<String, Failure> {
    let mut found: Option<&[u8]> = None;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let number = tag >> 3;
        match tag & 7 {
            0 => {
                varint(&mut message)?;
            }
            1 => {
                take(&mut message, 8)?;
            }
            2 => {
                let length = varint(&mut message)?;
                let value = take(&mut message, length)?;
                if number == u64::from(field) && found.replace(value).is_some() {
                    // Readers take the last of several: whoever checks another one would be deceived.
                    return Err(status::invalid_argument("graph_arn", "is given more than once"));
                }
            }
            5 => {
                take(&mut message, 4)?;
            }
            // Groups, which this API does not have.
            _ => return Err(malformed("a field has an unknown type")),
        }
    }
    let value = found.filter(|value| !value.is_empty()).ok_or_else(|| status::invalid_argument("graph_arn", "is required"))?;
    std::str::from_utf8(value).map(str::to_owned).map_err(|_| status::invalid_argument("graph_arn", "must be UTF-8"))
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
    };
    use http_body_util::{StreamBody, combinators::UnsyncBoxBody};
    use prost::Message as _;

    use super::*;

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
            let (text, body) = read(pieces(&bytes, size), 1, 4_096).await.unwrap();
            assert_eq!(text, "arn:graph");
            assert_eq!(body.collect().await.unwrap().to_bytes(), bytes);
        }
    }

    #[tokio::test]
    async fn the_order_of_fields_does_not_matter_but_their_number_does() {
        let mut late = vec![0x10, 7, 0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x25, 1, 2, 3, 4];
        late.extend_from_slice(&GetRiskRequest { graph_arn: "arn:graph".to_owned(), ..GetRiskRequest::default() }.encode_to_vec());
        assert_eq!(read(pieces(&framed(&late), 100), 1, 4_096).await.unwrap().0, "arn:graph");
        let mut twice = late.clone();
        twice.extend_from_slice(&GetRiskRequest { graph_arn: "arn:other".to_owned(), ..GetRiskRequest::default() }.encode_to_vec());
        let failure = read(pieces(&framed(&twice), 100), 1, 4_096).await.unwrap_err();
        assert_eq!(failure.message, "`graph_arn`: is given more than once");
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_refused() {
        let good = framed(&request());
        for cut in [0, 3, 5, 6, good.len() - 1] {
            let failure = read(pieces(good.get(..cut).unwrap(), 100), 1, 4_096).await.unwrap_err();
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
            assert_eq!(read(pieces(&framed(message), 100), 1, 4_096).await.unwrap_err().code, code, "{message:?}");
        }
        assert_eq!(read(pieces(&good, 100), 1, 100).await.unwrap_err().code, Code::ResourceExhausted);
        let mut compressed = good.clone();
        compressed[0] = 1;
        assert_eq!(read(pieces(&compressed, 100), 1, 4_096).await.unwrap_err().code, Code::Unimplemented);
    }
}
