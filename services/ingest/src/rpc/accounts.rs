//! Whose logs a graph takes: membership's answer, kept for some seconds.
//!
//! A record of an account that is no enabled member becomes a dead letter without its text, so that it is counted and can
//! be found again, but nothing of it enters the graph.

use std::{collections::HashMap, sync::Arc, time::Duration};

use gumshoe_api::membership::v1::{DatasourcePackage, GetGraphAccountsRequest, GetGraphAccountsResponse, membership_service_client::MembershipServiceClient};
use gumshoe_model::{Event, GraphArn, RecordKind};
use gumshoe_runtime::{Caller, PrincipalChannel, TokenSigner};
use moka::future::Cache;
use tonic::{Request, Status};

use crate::{config::Unregistered, error::Error};

/// How late a change of membership takes effect.
const MAX_AGE: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_GRAPHS: u64 = 10_000;

/// Asks membership, or lets everything in where there is none.
#[derive(Debug, Clone)]
pub struct Accounts(Option<Asked>);

#[derive(Debug, Clone)]
struct Asked {
    channel: PrincipalChannel,
    signer: Arc<TokenSigner>,
    unregistered: Unregistered,
    gates: Cache<GraphArn, Arc<Gate>>,
}

impl Accounts {
    /// Every account's logs are taken.
    #[must_use]
    pub fn all() -> Self {
        Self(None)
    }

    /// Membership decides, asked through `channel` in calls that `signer` signs.
    #[must_use]
    pub fn of_members(channel: PrincipalChannel, signer: Arc<TokenSigner>, unregistered: Unregistered) -> Self {
        Self(Some(Asked { channel, signer, unregistered, gates: Cache::builder().max_capacity(MAX_GRAPHS).time_to_live(MAX_AGE).build() }))
    }

    /// What a graph takes now.
    ///
    /// # Errors
    /// [`Error::MembershipUnavailable`] when membership does not answer, [`Error::GraphGone`] when it does not know the graph.
    pub async fn gate(&self, graph: &GraphArn) -> Result<Arc<Gate>, Error> {
        let Some(asked) = &self.0 else { return Ok(Arc::new(Gate::default())) };
        // Many batches of one graph ask once.
        let gate = asked.gates.try_get_with_by_ref(graph, asked.fetch(graph)).await;
        let gate = gate.map_err(|error| Error::MembershipUnavailable(Box::new(Status::clone(&error))))?;
        if gate.exists { Ok(gate) } else { Err(Error::GraphGone) }
    }
}

impl Asked {
    async fn fetch(&self, graph: &GraphArn) -> Result<Arc<Gate>, Status> {
        let caller = Caller::service("ingest", "gumshoe:GetGraphAccounts").with_graph(graph.clone());
        let mut request = Request::new(GetGraphAccountsRequest { graph_arn: graph.to_string() });
        request.set_timeout(TIMEOUT);
        let answer = MembershipServiceClient::new(self.channel.signed(Arc::clone(&self.signer), caller)).get_graph_accounts(request).await?;
        Ok(Arc::new(Gate::of(&answer.into_inner(), self.unregistered)))
    }
}

/// What a graph takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    exists: bool,
    accounts: HashMap<String, bool>,
    unregistered: bool,
    eks_audit: bool,
    security_hub: bool,
}

impl Default for Gate {
    /// Everything.
    fn default() -> Self {
        Self { exists: true, accounts: HashMap::new(), unregistered: true, eks_audit: true, security_hub: true }
    }
}

impl Gate {
    fn of(answer: &GetGraphAccountsResponse, unregistered: Unregistered) -> Self {
        let has = |package: DatasourcePackage| answer.packages.contains(&package.into());
        Self {
            exists: answer.exists,
            accounts: answer.accounts.iter().map(|account| (account.account_id.clone(), account.enabled)).collect(),
            unregistered: unregistered == Unregistered::Accept,
            eks_audit: has(DatasourcePackage::EksAudit),
            security_hub: has(DatasourcePackage::AsffSecurityhubFinding),
        }
    }

    /// Why the graph does not take an event; `None` if it does. Events that name no account are the administrator's.
    pub(crate) fn refusal(&self, event: &Event<'_>) -> Option<String> {
        let account = &*event.account;
        let package = match event.kind {
            RecordKind::EksAudit if !self.eks_audit => Some("EKS_AUDIT"),
            RecordKind::SecurityHub if !self.security_hub => Some("ASFF_SECURITYHUB_FINDING"),
            _ => None,
        };
        if let Some(package) = package {
            return Some(format!("data source package {package} is not started"));
        }
        if account.is_empty() {
            return None;
        }
        match self.accounts.get(account) {
            Some(true) => None,
            Some(false) => Some(format!("account {account} is not an enabled member of the graph")),
            None if self.unregistered => None,
            None => Some(format!("account {account} is not registered")),
        }
    }
}

#[cfg(test)]
mod tests {
    use gumshoe_api::membership::v1::GraphAccount;
    use gumshoe_model::Timestamp;

    use super::*;

    fn event(kind: RecordKind, account: &'static str) -> Event<'static> {
        let mut event = Event::new(kind, Timestamp(0), "");
        event.account = account.into();
        event
    }

    #[test]
    fn only_enabled_accounts_and_started_packages_are_taken() {
        let account = |id: &str, enabled| GraphAccount { account_id: id.to_owned(), enabled };
        let answer = GetGraphAccountsResponse {
            exists: true,
            accounts: vec![account("111111111111", true), account("222222222222", false)],
            packages: vec![DatasourcePackage::DetectiveCore.into(), DatasourcePackage::EksAudit.into()],
        };
        let (strict, open) = (Gate::of(&answer, Unregistered::Refuse), Gate::of(&answer, Unregistered::Accept));
        for gate in [&strict, &open] {
            assert_eq!(gate.refusal(&event(RecordKind::CloudTrail, "111111111111")), None);
            assert_eq!(gate.refusal(&event(RecordKind::VpcFlow, "")), None);
            assert_eq!(gate.refusal(&event(RecordKind::EksAudit, "111111111111")), None);
            assert!(gate.refusal(&event(RecordKind::CloudTrail, "222222222222")).unwrap().contains("222222222222"));
            assert!(gate.refusal(&event(RecordKind::SecurityHub, "111111111111")).unwrap().contains("ASFF_SECURITYHUB_FINDING"));
        }
        assert!(strict.refusal(&event(RecordKind::CloudTrail, "333333333333")).unwrap().contains("not registered"));
        assert_eq!(open.refusal(&event(RecordKind::CloudTrail, "333333333333")), None);
        assert_eq!(Gate::default().refusal(&event(RecordKind::SecurityHub, "333333333333")), None);
    }
}
