//! The gRPC API: generated messages, clients and servers, and conversions to the domain model.
//!
//! | module | holds |
//! |---|---|
//! | [`common`], [`ingest`], [`graph`], [`membership`], [`investigation`] | generated from `proto/gumshoe/*/v1` |
//! | [`convert`] | messages to model types and back |
//! | [`method`] | what each RPC needs to be authorised, read from its options |

/// Generated from `proto/gumshoe/common/v1`.
pub mod common {
    /// Version 1.
    pub mod v1 {
        #![expect(clippy::all, reason = "generated")]
        tonic::include_proto!("gumshoe.common.v1");
    }
}

/// Generated from `proto/gumshoe/ingest/v1`.
pub mod ingest {
    /// Version 1.
    pub mod v1 {
        #![expect(clippy::all, clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
        tonic::include_proto!("gumshoe.ingest.v1");
    }
}

/// Generated from `proto/gumshoe/graph/v1`.
pub mod graph {
    /// Version 1.
    pub mod v1 {
        #![expect(clippy::all, clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
        tonic::include_proto!("gumshoe.graph.v1");
    }
}

/// Generated from `proto/gumshoe/membership/v1`.
pub mod membership {
    /// Version 1.
    pub mod v1 {
        #![expect(clippy::all, clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
        tonic::include_proto!("gumshoe.membership.v1");
    }
}

/// Generated from `proto/gumshoe/investigation/v1`.
pub mod investigation {
    /// Version 1.
    pub mod v1 {
        #![expect(clippy::all, clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
        tonic::include_proto!("gumshoe.investigation.v1");
    }
}

pub mod convert;
pub mod method;

/// Every proto file, encoded as a `google.protobuf.FileDescriptorSet`, options included.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
