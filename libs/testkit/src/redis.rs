//! The Redis server of the tests. Tests share it: their graphs have ids that no other has.

use std::{path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use crate::{
    environment,
    process::{Process, free_port},
};

/// Where Redis is.
///
/// # Panics
/// When it does not answer.
pub async fn url() -> Url {
    let text = environment("GUMSHOE_TEST_REDIS", "redis://127.0.0.1:6379");
    let url: Url = text.parse().unwrap_or_else(|error| panic!("GUMSHOE_TEST_REDIS `{text}` is not a URL: {error}"));
    let address = format!("{}:{}", url.host_str().unwrap_or("127.0.0.1"), url.port().unwrap_or(6379));
    let answer = async {
        let mut stream = TcpStream::connect(&address).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0_u8; 1];
        stream.read_exact(&mut answer).await
    };
    // Any answer will do, also that a password is needed.
    match timeout(Duration::from_secs(5), answer).await {
        Ok(Ok(_)) => url,
        problem => panic!("tests need a Redis server; start one or set GUMSHOE_TEST_REDIS (now `{text}`): {problem:?}"),
    }
}

/// A Redis server of its own, that can be killed and started again, empty.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    // Dropped in this order: the process's log lies in the folder.
    process: Process,
    folder: tempfile::TempDir,
}

impl Redis {
    /// Starts a server.
    ///
    /// # Panics
    /// When there is no `redis-server` in `PATH`.
    #[must_use]
    pub fn start() -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let process = serve(port, folder.path());
        Self { port, process, folder }
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Keeps it from answering; connections stay open.
    ///
    /// # Panics
    /// When it is not running.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    /// Lets it answer again.
    ///
    /// # Panics
    /// When it is not running.
    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    /// Starts it again, with nothing in it.
    pub fn restart(&mut self) {
        self.process = serve(self.port, self.folder.path());
    }
}

fn serve(port: u16, folder: &Path) -> Process {
    let arguments = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()];
    Process::start("redis", Path::new("redis-server"), arguments, [], &folder.join("redis.log"))
}
