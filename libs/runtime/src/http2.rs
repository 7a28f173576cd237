//! Sizes of HTTP/2's windows and frames, the same for servers and clients.
//!
//! INVARIANT: a connection's window holds the windows of all its streams. Data of a stream that nobody reads stays in the
//! connection's window too; were it smaller, a few such streams would stop all others of the connection.
//!
//! Source: RFC 9113, section 5.2.

/// What may be under way in one stream: enough for 100 MB/s at 5 ms.
pub const STREAM_WINDOW_BYTES: u32 = 512 << 10;

/// Streams that a connection may have open.
pub const STREAMS_PER_CONNECTION: u32 = 512;

/// What may be under way in one connection.
pub const CONNECTION_WINDOW_BYTES: u32 = connection_window_bytes(STREAMS_PER_CONNECTION);

/// The largest frame: fewer of them cost less than the default of 16 KiB.
pub const FRAME_BYTES: u32 = 256 << 10;

/// The window of a connection that may have so many streams; 2 GiB at most.
#[must_use]
pub const fn connection_window_bytes(streams: u32) -> u32 {
    let bytes = streams.saturating_mul(STREAM_WINDOW_BYTES);
    if bytes > MAX_WINDOW_BYTES { MAX_WINDOW_BYTES } else { bytes }
}

const MAX_WINDOW_BYTES: u32 = (1 << 31) - 1;
