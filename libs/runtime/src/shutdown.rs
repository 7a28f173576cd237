//! One switch that ends a process in order.
//!
//! What each server does once it is thrown: report NOT_SERVING, go on serving while load balancers notice (`drain`),
//! stop accepting, let calls in flight finish (`grace`), flush, close.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code after a second signal, as a shell reports an interrupt.
const INTERRUPTED: i32 = 130;

/// Asks every server and loop of a process to end. Clones share the switch.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A switch thrown only by [`Self::trigger`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A switch thrown by SIGTERM or SIGINT; a second signal ends the process at once with exit code 130.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let switch = shutdown.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if switch.is_requested() {
                    tracing::warn!(signal = name, "second signal, exiting at once");
                    std::process::exit(INTERRUPTED);
                }
                tracing::info!(signal = name, "shutting down");
                switch.trigger();
            }
        });
        Ok(shutdown)
    }

    /// Throws the switch; later calls change nothing.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Whether the switch has been thrown.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the switch is thrown. Long-lived streams end themselves then.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// A switch that this one throws too, but that can be thrown alone: for servers that must end first.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }
}
