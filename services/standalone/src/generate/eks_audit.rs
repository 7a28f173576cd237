//! Kubernetes audit events as EKS delivers them, a JSON object a line.

use super::{
    random::{Random, Zipf},
    text,
    world::Account,
};

/// Writes the audit events of one account's cluster.
#[derive(Debug)]
pub struct Writer<'a> {
    account: &'a Account,
    region: &'static str,
    law: Zipf,
    random: Random,
}

const CALLERS: &[(&str, &str)] = &[
    ("system:node:ip-10-0-12-7.ec2.internal", "kubelet/v1.31.2 (linux/amd64) kubernetes/3b7d0c9"),
    (
        "system:serviceaccount:kube-system:generic-garbage-collector",
        "kube-controller-manager/v1.31.2 (linux/amd64) kubernetes/3b7d0c9/system:serviceaccount:kube-system:generic-garbage-collector",
    ),
    ("system:kube-scheduler", "kube-scheduler/v1.31.2 (linux/amd64) kubernetes/3b7d0c9/scheduler"),
    ("system:serviceaccount:argocd:argocd-application-controller", "argocd-application-controller/v2.12.4 (linux/amd64)"),
    ("system:serviceaccount:monitoring:prometheus", "Prometheus/2.54.1"),
    ("system:serviceaccount:orders:orders-api", "orders-api/1.14.0 client-go/v0.31.1"),
    ("kubernetes-admin", "kubectl/v1.31.0 (darwin/arm64) kubernetes/9edcffc"),
    ("system:anonymous", "curl/8.7.1"),
];
const ACTIONS: &[(&str, &str, &str)] = &[
    ("update", "leases", ""),
    ("get", "nodes", ""),
    ("watch", "pods", ""),
    ("patch", "pods", "status"),
    ("list", "endpointslices", ""),
    ("create", "events", ""),
    ("get", "configmaps", ""),
    ("create", "serviceaccounts", "token"),
    ("list", "secrets", ""),
    ("get", "secrets", ""),
    ("create", "pods", ""),
    ("delete", "pods", ""),
    ("create", "pods", "exec"),
    ("update", "deployments", ""),
    ("create", "rolebindings", ""),
];

impl<'a> Writer<'a> {
    /// A writer whose records depend on its generator only.
    pub fn new(account: &'a Account, region: &'static str, random: Random) -> Self {
        Self { account, region, law: Zipf::new(CALLERS.len() * ACTIONS.len(), 1.0), random }
    }

    /// Writes the next event and a line break.
    pub fn record(&mut self, out: &mut String, time: u64) {
        let choice = self.law.index(&mut self.random);
        let (caller, agent) = CALLERS.get(choice % CALLERS.len()).copied().unwrap_or_default();
        let (verb, resource, subresource) = ACTIONS.get(choice / CALLERS.len()).copied().unwrap_or_default();
        let namespace = self.random.pick(&["kube-system", "orders", "payments", "monitoring", "default"]);
        let denied = caller == "system:anonymous" || self.random.chance(8);
        let put = |out: &mut String, parts: &[&str]| parts.iter().for_each(|part| out.push_str(part));
        let mut name = self.account.names.first().cloned().unwrap_or_default();
        name.push('-');
        text::hex(&mut name, self.random.below(40) * 0x9e37, 6);
        out.push_str(r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":""#);
        text::uuid(out, &mut self.random);
        let slash = if subresource.is_empty() { "" } else { "/" };
        put(out, &[r#"","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/"#, namespace, "/", resource, "/", &name, slash, subresource]);
        put(out, &[r#"","verb":""#, verb, r#"","user":{"username":""#, caller]);
        if caller == "kubernetes-admin" {
            let user = self.account.users.first();
            let (arn, access_key) = user.map_or(("", ""), |user| (user.arn.as_str(), user.access_key.as_str()));
            put(
                out,
                &[
                    r#"","uid":"aws-iam-authenticator:"#,
                    &self.account.id,
                    r#":AIDA","groups":["system:masters","system:authenticated"],"extra":{"accessKeyId":[""#,
                    access_key,
                ],
            );
            put(out, &[r#""],"arn":[""#, arn, r#""],"canonicalArn":[""#, arn, r#""],"sessionName":[""]}}"#]);
        } else {
            put(out, &[r#"","groups":["system:authenticated"]}"#]);
        }
        let address = if caller == "kubernetes-admin" { self.account.users.first().map_or("10.0.0.1", |user| user.address.as_str()) } else { "10.0.12.7" };
        put(out, &[r#","sourceIPs":[""#, address, r#""],"userAgent":""#, agent, r#"","objectRef":{"resource":""#, resource, r#"","namespace":""#, namespace]);
        put(out, &[r#"","name":""#, &name, r#"","apiVersion":"v1""#]);
        if !subresource.is_empty() {
            put(out, &[r#","subresource":""#, subresource, "\""]);
        }
        out.push_str(if denied {
            r#"},"responseStatus":{"metadata":{},"status":"Failure","reason":"Forbidden","code":403}"#
        } else {
            r#"},"responseStatus":{"metadata":{},"code":200}"#
        });
        for field in [r#","requestReceivedTimestamp":""#, r#","stageTimestamp":""#] {
            out.push_str(field);
            let at = out.len();
            text::time(out, time);
            out.truncate(at + 19);
            out.push('.');
            text::padded(out, self.random.below(1_000_000), 6);
            out.push_str("Z\"");
        }
        put(out, &[r#","annotations":{"authorization.k8s.io/decision":""#, if denied { "forbid" } else { "allow" }]);
        put(
            out,
            &[
                r#"","authorization.k8s.io/reason":"","eks.amazonaws.com/cluster-arn":"arn:aws:eks:"#,
                self.region,
                ":",
                &self.account.id,
                ":cluster/",
                &self.account.cluster,
            ],
        );
        out.push_str("\"}}\n");
    }
}
