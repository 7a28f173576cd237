//! An S3 server of its own: moto, or one over a folder that can be killed and started again.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::{
    environment,
    process::{Process, binary, free_port},
};

/// Credentials that the server accepts, as it accepts any.
pub const ACCESS_KEY_ID: &str = "testing";
/// See [`ACCESS_KEY_ID`].
pub const SECRET_ACCESS_KEY: &str = "testing";
/// The region of its buckets.
pub const REGION: &str = "us-east-1";

/// A running S3 server with nothing in it.
#[derive(Debug)]
pub struct S3 {
    endpoint: Url,
    http: reqwest::Client,
    /// Whether it keeps its objects in the folder.
    durable: bool,
    // Dropped in this order: the process's log lies in the folder.
    process: Process,
    folder: tempfile::TempDir,
}

impl S3 {
    /// Starts a server that keeps its objects in a folder: the library `s3s-fs`, with conditional writes.
    ///
    /// # Panics
    /// When it is not built or does not start.
    pub async fn durable() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("buckets")).unwrap();
        let port = free_port();
        let process = serve_folder(port, folder.path());
        let endpoint: Url = format!("http://127.0.0.1:{port}").parse().unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut s3 = Self { endpoint, http, durable: true, process, folder };
        s3.until_answering().await;
        s3
    }

    /// Kills a durable server with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts a durable server that was killed.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        self.process = serve_folder(self.endpoint.port().unwrap(), self.folder.path());
        self.until_answering().await;
    }

    async fn until_answering(&mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.http.get(self.endpoint.clone()).send().await.is_err() {
            assert!(self.process.has_ended().is_none() && Instant::now() < end, "the S3 server does not answer\n{}", self.process.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts moto's server.
    ///
    /// # Panics
    /// When moto is not installed or does not start.
    pub async fn start() -> Self {
        let program = environment("GUMSHOE_TEST_MOTO", "moto_server");
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let arguments = ["-H".to_owned(), "127.0.0.1".to_owned(), "-p".to_owned(), port.to_string()];
        let mut process = Process::start("moto", Path::new(&program), arguments, [], &folder.path().join("moto.log"));
        let endpoint: Url = format!("http://127.0.0.1:{port}").parse().unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        while http.get(endpoint.join("/moto-api/").unwrap()).send().await.is_err() {
            if let Some(status) = process.has_ended() {
                panic!("tests need moto (`pip install 'moto[server,s3]'`), or GUMSHOE_TEST_MOTO; `{program}` ended with {status}\n{}", process.log());
            }
            assert!(Instant::now() < end, "`{program}` does not answer\n{}", process.log());
            sleep(Duration::from_millis(50)).await;
        }
        Self { endpoint, http, durable: false, process, folder }
    }

    /// Where it is.
    #[must_use]
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Makes a bucket.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn create_bucket(&self, name: &str) {
        if self.durable {
            std::fs::create_dir(self.folder.path().join("buckets").join(name)).unwrap();
        } else {
            self.put(name, Bytes::new()).await;
        }
    }

    /// Puts an object into moto: `bucket/key`.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn put(&self, path: &str, body: impl Into<Bytes>) {
        let answer = self
            .http
            .put(self.endpoint.join(&format!("/{path}")).unwrap())
            .header("content-type", "application/octet-stream")
            .body(body.into())
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "PUT {path}: {}", answer.status());
    }
}

fn serve_folder(port: u16, folder: &Path) -> Process {
    let arguments = [port.to_string(), folder.join("buckets").display().to_string()];
    Process::start("s3", &binary("gumshoe-test-s3"), arguments, [], &folder.join("s3.log"))
}
