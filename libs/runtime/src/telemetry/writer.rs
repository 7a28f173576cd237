//! Log lines on their way out: handed to a thread that writes many at once, so that no call waits for a write of its own.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait; whoever logs more than can be written waits, too.
const WAITING_LINES: usize = 8_192;
/// How long lines gather before they are written together.
const GATHERING: Duration = Duration::from_millis(2);
/// How much is written at once.
const WRITE_BYTES: usize = 64 << 10;
/// How long the end of a process waits for its last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

enum Message {
    Line(Vec<u8>),
    /// Answered when all lines before it are written.
    Flush(SyncSender<()>),
}

/// Makes writers that hand lines to the thread.
#[derive(Debug, Clone)]
pub(super) struct Background(SyncSender<Message>);

impl Background {
    /// Starts the thread, which ends when the last writer is dropped.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(mut output: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING_LINES);
        thread::Builder::new().name("log".to_owned()).spawn(move || work(&receiver, &mut output))?;
        Ok(Self(sender))
    }

    /// Waits until all that was logged is written.
    pub(super) fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.0.send(Message::Flush(done)).is_ok() {
            // Whoever cannot write logs cannot say so either.
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

fn work(receiver: &Receiver<Message>, output: &mut impl Write) {
    let mut gathered = Vec::with_capacity(WRITE_BYTES);
    while let Ok(first) = receiver.recv() {
        let mut flushed = None;
        if let Message::Line(_) = first {
            thread::sleep(GATHERING);
        }
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => gathered.extend_from_slice(&line),
                Message::Flush(done) => flushed = Some(done),
            }
            next = if gathered.len() < WRITE_BYTES && flushed.is_none() { receiver.try_recv().ok() } else { None };
        }
        let _ = output.write_all(&gathered).and_then(|()| output.flush());
        gathered.clear();
        if let Some(done) = flushed {
            let _ = done.try_send(());
        }
    }
}

impl<'a> MakeWriter<'a> for Background {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Layers write a line at a time.
impl Write for &Background {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.send(Message::Line(line.to_vec())).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_whole_and_in_its_threads_order() {
        let output = Output::default();
        let background = Background::start(output.clone()).unwrap();
        thread::scope(|scope| {
            for name in 0..4 {
                let background = &background;
                scope.spawn(move || {
                    for number in 0..5_000 {
                        background.make_writer().write_all(format!("{name} {number}\n").as_bytes()).unwrap();
                    }
                });
            }
        });
        background.flush();
        let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
        for name in 0..4 {
            let numbers: Vec<usize> = text.lines().filter_map(|line| line.strip_prefix(&format!("{name} "))).map(|number| number.parse().unwrap()).collect();
            assert!(numbers.into_iter().eq(0..5_000), "thread {name}");
        }
    }
}
