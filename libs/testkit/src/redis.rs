//! The Redis server of the tests. Tests share it: their graphs have ids that no other has.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use crate::environment;

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
