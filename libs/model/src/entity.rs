//! Entities: the nodes of the behaviour graph.

use std::{borrow::Cow, fmt, str::FromStr};

use crate::Invalid;

macro_rules! entity_types {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What kind of thing an entity is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum EntityType { $($(#[$doc])* $variant,)* }

        impl EntityType {
            /// Every type, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name used in the lake, on the command line and in URLs.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        impl FromStr for EntityType {
            type Err = Invalid;

            fn from_str(value: &str) -> Result<Self, Invalid> {
                match value {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(Invalid::new("entity type", value, "not a known entity type")),
                }
            }
        }
    };
}

entity_types! {
    /// An AWS account; id: 12 digits.
    Account = "account",
    /// An IAM user; id: its ARN.
    User = "user",
    /// An IAM role; id: its ARN, with path where the record gives one.
    Role = "role",
    /// A session of a role; id: `AROA…:session-name`, or the session's ARN where the record gives no principal id.
    RoleSession = "role_session",
    /// A federated identity (SAML, web identity, GetFederationToken, Identity Center, source identity); id: as the provider writes it.
    FederatedUser = "federated_user",
    /// The root user of an account; id: `arn:aws:iam::ACCOUNT:root`.
    Root = "root",
    /// An AWS service, as caller or as called; id: its DNS name, such as `ec2.amazonaws.com`.
    AwsService = "aws_service",
    /// An access key; id: `AKIA…` or `ASIA…`.
    AccessKey = "access_key",
    /// An IPv4 or IPv6 address; id: canonical text.
    IpAddress = "ip_address",
    /// An EC2 instance; id: `i-…`.
    Ec2Instance = "ec2_instance",
    /// A network interface; id: `eni-…`.
    NetworkInterface = "network_interface",
    /// An S3 bucket; id: its name.
    S3Bucket = "s3_bucket",
    /// Any other resource; id: its ARN.
    Resource = "resource",
    /// A user agent; id: the string itself, cut to 1,024 bytes.
    UserAgent = "user_agent",
    /// An EKS cluster; id: its ARN, or its name where the record gives no ARN.
    EksCluster = "eks_cluster",
    /// A Kubernetes user or service account; id: `CLUSTER/username`, or the username alone.
    KubernetesSubject = "kubernetes_subject",
    /// A pod; id: `CLUSTER/namespace/name`, or `namespace/name`.
    Pod = "pod",
    /// A container image; id: its reference.
    ContainerImage = "container_image",
    /// A finding; id: its ARN or the id its product gives.
    Finding = "finding",
}

impl fmt::Display for EntityType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// An entity named without owning its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityRef<'a> {
    /// What kind of thing.
    pub kind: EntityType,
    /// Which one; see [`EntityType`] for the form.
    pub id: Cow<'a, str>,
}

impl<'a> EntityRef<'a> {
    /// Names an entity.
    pub fn new(kind: EntityType, id: impl Into<Cow<'a, str>>) -> Self {
        Self { kind, id: id.into() }
    }

    /// The same entity, owning its text.
    #[must_use]
    pub fn to_key(&self) -> EntityKey {
        EntityKey { kind: self.kind, id: self.id.clone().into_owned() }
    }
}

/// The longest id, in bytes; longer ones are cut at a character when an event is normalised.
pub const MAX_ID_BYTES: usize = 2048;

/// An entity of one graph. Its text form is `type:id`, such as `ip_address:203.0.113.7`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityKey {
    /// What kind of thing.
    pub kind: EntityType,
    /// Which one; see [`EntityType`] for the form.
    pub id: String,
}

impl EntityKey {
    /// A key; the id must not be empty or longer than [`MAX_ID_BYTES`].
    ///
    /// # Errors
    /// [`Invalid`] when the id is empty or too long.
    pub fn new(kind: EntityType, id: impl Into<String>) -> Result<Self, Invalid> {
        let id = id.into();
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return Err(Invalid::new("entity id", &id, "expected 1 to 2048 bytes"));
        }
        Ok(Self { kind, id })
    }
}

impl fmt::Display for EntityKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.kind, self.id)
    }
}

impl FromStr for EntityKey {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let (kind, id) = value.split_once(':').ok_or_else(|| Invalid::new("entity", value, "expected `type:id`"))?;
        Self::new(kind.parse()?, id)
    }
}
