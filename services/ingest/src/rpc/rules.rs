//! The detection rules of a graph: the graph service's answer, asked for again every few seconds.
//!
//! A batch keeps the rules that it began with. If the graph service does not answer, those known last are used, at first the ones that
//! come with Gumshoe: rules never keep a record from being ingested.

use std::{sync::Arc, time::Duration};

use gumshoe_api::graph::v1::{GetRuleDocumentsRequest, graph_writer_service_client::GraphWriterServiceClient};
use gumshoe_detections::{LoadError, RuleSet};
use gumshoe_model::GraphArn;
use gumshoe_runtime::{Caller, PrincipalChannel, TokenSigner, status::Chain};
use moka::future::Cache;
use tokio::{sync::Mutex, time::Instant};
use tonic::{Request, Status};

/// How late a change of rules takes effect.
const MAX_AGE: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(2);
const MAX_GRAPHS: u64 = 1_000;
/// Bytes of all rules of a graph: what would be more is an answer gone wrong.
const MAX_BYTES: usize = 256 << 20;

/// Asks the graph service.
#[derive(Clone)]
pub(crate) struct Rules {
    channel: PrincipalChannel,
    signer: Arc<TokenSigner>,
    shipped: Arc<RuleSet>,
    graphs: Cache<GraphArn, Arc<Mutex<Known>>>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Rules").field("shipped", &self.shipped.len()).finish_non_exhaustive()
    }
}

/// Why rules could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the graph service refused")]
    Refused(#[from] Status),
    #[error("the graph service did not answer in time")]
    TimedOut,
    #[error("more than {MAX_BYTES} bytes")]
    TooLong,
    #[error("the rules are not right")]
    Wrong(#[from] LoadError),
    #[error("reading them ended early")]
    Ended(#[from] tokio::task::JoinError),
}

/// What is known of a graph's rules.
struct Known {
    asked: Option<Instant>,
    /// Empty if the graph service has not told yet.
    version: String,
    set: Arc<RuleSet>,
}

impl Rules {
    /// Asks through `channel`, in calls that `signer` signs.
    ///
    /// # Errors
    /// [`LoadError`] if the shipped rules are not right, which tests exclude.
    pub(crate) fn new(channel: PrincipalChannel, signer: Arc<TokenSigner>) -> Result<Self, LoadError> {
        let graphs = Cache::builder().max_capacity(MAX_GRAPHS).time_to_idle(Duration::from_secs(3_600)).build();
        Ok(Self { channel, signer, shipped: Arc::new(RuleSet::shipped()?), graphs })
    }

    /// The rules of a graph now.
    pub(crate) async fn of(&self, graph: &GraphArn) -> Arc<RuleSet> {
        let unknown = async { Arc::new(Mutex::new(Known { asked: None, version: String::new(), set: Arc::clone(&self.shipped) })) };
        let slot = self.graphs.get_with_by_ref(graph, unknown).await;
        // Many batches of one graph ask once.
        let mut known = slot.lock().await;
        if known.asked.is_none_or(|asked| asked.elapsed() >= MAX_AGE) {
            match tokio::time::timeout(TIMEOUT, self.fetch(graph, &known.version)).await.unwrap_or(Err(FetchError::TimedOut)) {
                Ok(Some((version, set))) => {
                    tracing::info!(%graph, rules = set.len(), "the rules of a graph have changed");
                    (known.version, known.set) = (version, set);
                }
                Ok(None) => {}
                Err(error) => {
                    let which = if known.version.is_empty() { "those that come with Gumshoe" } else { "those known" };
                    tracing::warn!(%graph, error = %Chain(&error), "the rules of a graph cannot be fetched: {which} are used");
                }
            }
            known.asked = Some(Instant::now());
        }
        Arc::clone(&known.set)
    }

    /// The rules, unless they have the version that is known.
    async fn fetch(&self, graph: &GraphArn, known: &str) -> Result<Option<(String, Arc<RuleSet>)>, FetchError> {
        let caller = Caller::service("ingest", "gumshoe:GetRuleDocuments").with_graph(graph.clone());
        let request = Request::new(GetRuleDocumentsRequest { graph_arn: graph.to_string(), version: known.to_owned() });
        let mut client = GraphWriterServiceClient::new(self.channel.signed(Arc::clone(&self.signer), caller));
        let mut messages = client.get_rule_documents(request).await?.into_inner();
        let (mut version, mut bytes) = (String::new(), 0);
        let (mut operators, mut own) = (Vec::new(), Vec::new());
        while let Some(message) = messages.message().await? {
            version = message.version;
            for document in message.documents {
                bytes += document.text.len();
                if bytes > MAX_BYTES {
                    return Err(FetchError::TooLong);
                }
                let layer = if document.of_graph { &mut own } else { &mut operators };
                layer.push((document.name, document.text));
            }
        }
        if version == known {
            return Ok(None);
        }
        if operators.is_empty() && own.is_empty() {
            return Ok(Some((version, Arc::clone(&self.shipped))));
        }
        let set = tokio::task::spawn_blocking(move || RuleSet::over_shipped([operators.as_slice(), own.as_slice()]));
        // An ingest of another version may not know what a rule needs.
        Ok(Some((version, Arc::new(set.await??))))
    }
}
