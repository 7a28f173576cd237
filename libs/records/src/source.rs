//! The object's bytes, unpacked, through one buffer that grows only as far as the longest record.

use std::{
    cell::RefCell,
    io::{self, Read},
    rc::Rc,
};

use flate2::read::MultiGzDecoder;

use crate::ReadError;

/// The buffer's first size: small enough to stay in a core's own cache.
pub(crate) const FIRST_BYTES: usize = 256 * 1024;

/// A reader that tells its own errors from those of the decoder that reads it.
pub(crate) struct Watched<R> {
    pub(crate) inner: R,
    pub(crate) error: Rc<RefCell<Option<io::Error>>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            if error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            let kind = error.kind();
            *self.error.borrow_mut() = Some(error);
            kind.into()
        })
    }
}

/// A window on the object, which stands at `position`.
pub(crate) struct Source<'r> {
    reader: Box<dyn Read + 'r>,
    error: Rc<RefCell<Option<io::Error>>>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where the window begins in the unpacked object.
    pub(crate) position: u64,
    /// Bytes read so far.
    pub(crate) total: u64,
    /// Whether nothing follows the window.
    pub(crate) ended: bool,
    /// Why the object ended before its end, if it did.
    pub(crate) failure: Option<String>,
    limit: u64,
}

impl<'r> Source<'r> {
    pub(crate) fn new(reader: Box<dyn Read + 'r>, error: Rc<RefCell<Option<io::Error>>>, limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or(u64::MAX);
        Self { reader, error, buffer: vec![0; FIRST_BYTES], start: 0, end: 0, position: 0, total: 0, ended: false, failure: None, limit }
    }

    /// The same object with one layer of gzip taken off.
    pub(crate) fn unpack(self) -> Self {
        let (error, limit) = (Rc::clone(&self.error), self.limit);
        Self::new(Box::new(MultiGzDecoder::new(self)), error, Some(limit))
    }

    pub(crate) fn window(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        self.position += count as u64;
    }

    /// Whether the buffer is full with what is not consumed.
    pub(crate) fn is_full(&self) -> bool {
        self.end - self.start == self.buffer.len()
    }

    /// Doubles the buffer up to `limit` bytes; false when it has that size.
    pub(crate) fn grow(&mut self, limit: usize) -> bool {
        let size = (self.buffer.len() * 2).min(limit.max(FIRST_BYTES));
        let grows = size > self.buffer.len();
        if grows {
            self.buffer.resize(size, 0);
        }
        grows
    }

    /// Reads until the buffer is full or the object ends.
    pub(crate) fn fill(&mut self) -> Result<(), ReadError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while !self.ended {
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            if room.is_empty() {
                break;
            }
            match self.reader.read(room) {
                Ok(0) => self.ended = true,
                Ok(count) => self.took(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if let Some(error) = self.error.borrow_mut().take() {
                        return Err(ReadError::Io(error));
                    }
                    self.fail(format!("the gzip data is damaged or cut short: {error}"));
                }
            }
        }
        Ok(())
    }

    fn took(&mut self, count: usize) {
        let allowed = usize::try_from(self.limit - self.total).unwrap_or(usize::MAX).min(count);
        self.end += allowed;
        self.total += allowed as u64;
        if allowed < count {
            self.fail(format!("longer than the {} bytes allowed", self.limit));
        }
    }

    fn fail(&mut self, reason: String) {
        self.ended = true;
        self.failure = Some(reason);
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end {
            return if self.ended { Ok(0) } else { self.reader.read(buffer) };
        }
        let count = self.window().read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
