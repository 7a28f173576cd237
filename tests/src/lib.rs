//! What the tests of the whole share: composed logs, and a graph as text that can be compared.
//!
//! | module | holds |
//! |---|---|
//! | [`story`] | one night in three logs, composed after the public formats |
//! | [`bulk`] | larger logs out of `gumshoe generate`, with duplicates and broken records added |
//! | [`dump`] | everything that a graph holds, as sorted lines |
//! | [`random`] | seeded numbers |
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in a test, a panic is the message")]

pub mod bulk;
pub mod dump;
pub mod random;
pub mod story;

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use gumshoe_testkit::Batch;

/// A log file: its name and its bytes as they are stored.
#[derive(Debug, Clone)]
pub struct LogFile {
    /// Its path under the folder that it lies in.
    pub name: String,
    /// Its bytes.
    pub data: Bytes,
}

impl LogFile {
    /// A file; one whose name ends in `.gz` is packed.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        let data = if name.ends_with(".gz") { gzip(text.as_bytes()) } else { text.as_bytes().to_vec() };
        Self { name: name.to_owned(), data: data.into() }
    }

    /// Its bytes, unpacked.
    ///
    /// # Panics
    /// When it is damaged.
    #[must_use]
    pub fn unpacked(&self) -> Bytes {
        if !self.data.starts_with(&[0x1f, 0x8b]) {
            return self.data.clone();
        }
        let mut unpacked = Vec::new();
        MultiGzDecoder::new(self.data.as_ref()).read_to_end(&mut unpacked).expect("a whole gzip file");
        unpacked.into()
    }

    /// The file as one batch.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch { id: format!("batch of {}", self.name), source_object: format!("s3://logs/{}", self.name), data: self.data.clone() }
    }

    /// Writes it under a folder.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn write(&self, folder: &std::path::Path) -> std::path::PathBuf {
        let path = folder.join(&self.name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &self.data).unwrap();
        path
    }
}

/// Packs bytes.
///
/// # Panics
/// Never: memory takes all that is written.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
