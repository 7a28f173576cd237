//! Calls between services of one process: requests and answers pass from one to the other as they are, with no network between.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt as _};
use http::{Request, Response};
use tokio::sync::watch;
use tonic::{Status, body::Body, service::Routes, transport::Channel};
use tower::Service;

use crate::{server::RpcService, status};

/// How long a call waits for a service that has not started yet.
const START_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone)]
enum State {
    Starting,
    Serving(RpcService<Routes>),
    Ended,
}

/// A place inside the process where one server answers, and to which any number of channels lead. Clones are the same place.
#[derive(Clone)]
pub struct Inside(Arc<watch::Sender<State>>);

impl Default for Inside {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::Starting)))
    }
}

impl PartialEq for Inside {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Inside {}

impl fmt::Debug for Inside {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Inside")
    }
}

/// Calls are answered until this is dropped.
pub(crate) struct Open(Inside);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.send_replace(State::Ended);
    }
}

impl Inside {
    pub(crate) fn open(&self, service: RpcService<Routes>) -> Open {
        self.0.send_replace(State::Serving(service));
        Open(self.clone())
    }
}

impl Service<Request<Body>> for Inside {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let state = self.0.borrow().clone();
        match state {
            State::Serving(mut service) => service.call(request),
            State::Ended => futures::future::ready(Ok(unavailable())).boxed(),
            State::Starting => {
                let mut states = self.0.subscribe();
                async move {
                    let started = states.wait_for(|state| !matches!(state, State::Starting));
                    let state = tokio::time::timeout(START_TIMEOUT, started).await.ok().and_then(Result::ok).map(|state| state.clone());
                    match state {
                        Some(State::Serving(mut service)) => service.call(request).await,
                        _ => Ok(unavailable()),
                    }
                }
                .boxed()
            }
        }
    }
}

fn unavailable() -> Response<Body> {
    Status::from(status::unavailable("the service")).into_http()
}

/// The way to a service: a connection, or a place inside this process.
#[derive(Debug, Clone)]
pub enum Wire {
    /// Over the network.
    Network(Channel),
    /// Inside this process.
    Inside(Inside),
}

impl Service<Request<Body>> for Wire {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, tonic::transport::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), tonic::transport::Error>> {
        match self {
            Self::Network(channel) => channel.poll_ready(context),
            Self::Inside(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Self::Network(channel) => channel.call(request).boxed(),
            Self::Inside(inside) => inside.call(request).map(|answer| answer.map_err(|never| match never {})).boxed(),
        }
    }
}
