//! The chassis that all services stand on.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | configuration from file, environment and flags, and its reusable pieces |
//! | [`process`] | the `main` of every service: `serve`, `migrate`, `check-config` |
//! | [`telemetry`] | JSON logs, traces, W3C trace context |
//! | [`server`] | the gRPC server: layers, health, reflection, readiness, shutdown in phases |
//! | [`client`] | channels to other services that sign each call |
//! | [`inside`] | calls between services of one process |
//! | [`http2`] | sizes of windows and frames |
//! | [`token`] | the internal principal token and the caller it names |
//! | [`status`] | the one place where gRPC statuses are made |
//! | [`page`] | sealed page tokens |
//! | [`store`] | SQLite or Postgres by URL, schemas, what drivers' errors mean |
//! | [`shutdown`] | the switch that ends a process in order |
//! | [`clock`] | where the time comes from |

pub mod client;
pub mod clock;
pub mod config;
pub mod http2;
pub mod inside;
mod method;
pub mod page;
pub mod process;
pub mod server;
pub mod shutdown;
pub mod status;
pub mod store;
pub mod telemetry;
pub mod token;

pub use client::{PrincipalChannel, Signed};
pub use clock::{Clock, FixedClock, SystemClock};
pub use config::{ConfigError, Configuration, Listen, ServerOptions, Telemetry, Trust, Upstream};
pub use inside::{Inside, Wire};
pub use page::{PageTokens, Scope};
pub use process::{main, part};
pub use server::{Listener, ServeError, Server};
pub use shutdown::Shutdown;
pub use status::Failure;
pub use token::{Caller, TokenSigner, TokenVerifier};
