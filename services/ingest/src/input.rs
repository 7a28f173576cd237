//! The bytes of one batch, read on a blocking thread while they still arrive.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read},
};

use bytes::Bytes;
use tokio::sync::mpsc;

/// What arrives of a batch.
#[derive(Debug)]
pub enum Piece {
    /// The next bytes.
    Data(Bytes),
    /// There are no more. Without it the batch is broken.
    End,
    /// The rest cannot be had; the text is for the batch's owner.
    Failed(String),
}

/// Where a batch's bytes come from.
#[derive(Debug)]
pub enum Input {
    /// All of them, in memory.
    Whole(VecDeque<Bytes>),
    /// The first of them, and those that follow.
    Pieces(VecDeque<Bytes>, mpsc::Receiver<Piece>),
    /// A local file.
    File(File),
}

/// Reads an [`Input`] and remembers why it could not be read to its end.
pub(crate) struct InputReader<'s> {
    current: Bytes,
    input: Input,
    ended: bool,
    /// Why reading failed, if it did.
    pub(crate) problem: Option<String>,
    stopped: &'s dyn Fn() -> bool,
}

impl<'s> InputReader<'s> {
    /// `stopped` says whether nobody wants the batch any more.
    pub(crate) fn new(input: Input, stopped: &'s dyn Fn() -> bool) -> Self {
        Self { current: Bytes::new(), input, ended: false, problem: None, stopped }
    }

    fn fail(&mut self, reason: String) -> io::Error {
        self.problem = Some(reason);
        io::ErrorKind::UnexpectedEof.into()
    }
}

impl Read for InputReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.stopped)() {
            return Err(self.fail("no longer wanted".to_owned()));
        }
        while self.current.is_empty() && !self.ended {
            let piece = match &mut self.input {
                Input::File(file) => {
                    return file.read(buffer).inspect_err(|error| {
                        if error.kind() != io::ErrorKind::Interrupted {
                            self.problem = Some(explain(error));
                        }
                    });
                }
                Input::Whole(pieces) => pieces.pop_front().map_or(Piece::End, Piece::Data),
                Input::Pieces(head, rest) => match head.pop_front() {
                    Some(data) => Piece::Data(data),
                    None => rest.blocking_recv().unwrap_or_else(|| Piece::Failed("the sender went away inside the batch".to_owned())),
                },
            };
            match piece {
                Piece::Data(data) => self.current = data,
                Piece::End => self.ended = true,
                Piece::Failed(reason) => return Err(self.fail(reason)),
            }
        }
        let count = self.current.len().min(buffer.len());
        let taken = self.current.split_to(count);
        if let Some(room) = buffer.get_mut(..count) {
            room.copy_from_slice(&taken);
        }
        Ok(count)
    }
}

/// What the system said, in words for a source's owner.
pub(crate) fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "access is denied".to_owned(),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_announced_end_is_an_end() {
        let never = || false;
        let (sender, receiver) = mpsc::channel(4);
        sender.blocking_send(Piece::Data("cd".into())).unwrap();
        sender.blocking_send(Piece::Data(Bytes::new())).unwrap();
        sender.blocking_send(Piece::Data("e".into())).unwrap();
        sender.blocking_send(Piece::End).unwrap();
        let mut text = String::new();
        InputReader::new(Input::Pieces(VecDeque::from(["ab".into()]), receiver), &never).read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcde");

        let (sender, receiver) = mpsc::channel(4);
        sender.blocking_send(Piece::Data("ab".into())).unwrap();
        drop(sender);
        let mut reader = InputReader::new(Input::Pieces(VecDeque::new(), receiver), &never);
        assert!(reader.read_to_string(&mut text).is_err());
        assert_eq!(reader.problem.as_deref(), Some("the sender went away inside the batch"));
    }

    #[test]
    fn stops_when_nobody_wants_more() {
        let stopped = || true;
        let mut reader = InputReader::new(Input::Whole(VecDeque::from(["ab".into()])), &stopped);
        assert!(reader.read(&mut [0; 8]).is_err());
    }
}
