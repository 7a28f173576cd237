//! What keeps the graph service from starting or going on.

/// A fault at start or stop; faults of calls are statuses.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lake cannot be opened.
    #[error("the lake cannot be opened")]
    Lake(#[from] gumshoe_lake::LakeError),
    /// The database of leases cannot be used.
    #[error("the store cannot be used")]
    Store(#[from] crate::store::StoreError),
    /// The store of hot profiles cannot be opened.
    #[error("the store of hot profiles cannot be opened")]
    Profiles(#[from] gumshoe_profiles::OpenError),
    /// A database of places cannot be read.
    #[error("a database of places cannot be read")]
    Places(#[from] gumshoe_enrich::OpenError),
    /// The rules that come with Gumshoe are not right.
    #[error("the rules that come with Gumshoe are not right")]
    Rules(#[from] gumshoe_detections::LoadError),
    /// The keys of trusted issuers cannot be read.
    #[error("the keys of trusted issuers cannot be read")]
    Keys(#[from] gumshoe_runtime::token::KeyError),
    /// The server failed.
    #[error("the server failed")]
    Serve(#[from] gumshoe_runtime::server::ServeError),
}
