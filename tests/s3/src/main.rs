//! An S3 server over a folder, for tests that kill it: what it has acknowledged is there when it is started again.
//!
//! `gumshoe-test-s3 PORT FOLDER`; a bucket is a folder in that folder.
#![expect(clippy::expect_used, reason = "a server of tests; what is wrong is the message")]

use std::{convert::Infallible, sync::Arc};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::{net::TcpListener, sync::Mutex};

/// As `gumshoe_testkit::s3` says.
const CREDENTIAL: &str = "testing";

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().and_then(|port| port.parse().ok()).expect("a port");
    let folder = arguments.next().expect("a folder");
    let mut builder = S3ServiceBuilder::new(FileSystem::new(folder).expect("a folder that can be used"));
    builder.set_auth(SimpleAuth::from_single(CREDENTIAL, CREDENTIAL));
    let service = builder.build();
    // The library looks whether an object is there before it reads the new one: nobody else may write it in between.
    let conditional = Arc::new(Mutex::new(()));
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let (service, conditional) = (service.clone(), Arc::clone(&conditional));
        tokio::spawn(async move {
            let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (service, conditional) = (service.clone(), Arc::clone(&conditional));
                async move {
                    let _alone = if request.headers().contains_key(http::header::IF_NONE_MATCH) { Some(conditional.lock().await) } else { None };
                    Ok::<_, Infallible>(service.call(request.map(s3s::Body::from)).await.expect("an answer, if it is an error"))
                }
            });
            // A client that goes away is no concern of the server.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), answer).await;
        });
    }
}
