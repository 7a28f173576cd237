//! What the protobuf descriptors say about an RPC: whether it streams.

use std::{collections::HashSet, sync::LazyLock};

use gumshoe_api::method::WATCH;
use prost::Message as _;
use prost_types::FileDescriptorSet;

/// The streaming RPCs of this project's API, health and reflection.
pub(crate) static STREAMING: LazyLock<Streaming> = LazyLock::new(|| {
    let mut streaming = Streaming::default();
    for descriptors in [
        gumshoe_api::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        streaming.add(descriptors);
    }
    streaming
});

/// Paths (`/package.Service/Method`) of RPCs that stream in at least one direction: no deadline of ours ends them. Those
/// whose answer has no end of its own are told apart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streaming {
    all: HashSet<String>,
    watches: HashSet<String>,
}

impl Streaming {
    /// Learns the streaming RPCs of an encoded `FileDescriptorSet`; one that is damaged teaches nothing.
    pub(crate) fn add(&mut self, descriptors: &[u8]) {
        for file in FileDescriptorSet::decode(descriptors).unwrap_or_default().file {
            for service in &file.service {
                for method in service.method.iter().filter(|method| method.client_streaming() || method.server_streaming()) {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    if method.server_streaming() && method.name().starts_with(WATCH) {
                        self.watches.insert(path.clone());
                    }
                    self.all.insert(path);
                }
            }
        }
    }

    pub(crate) fn contains(&self, path: &str) -> bool {
        self.all.contains(path)
    }

    /// Whether the answer goes on until the server ends.
    pub(crate) fn is_watch(&self, path: &str) -> bool {
        self.watches.contains(path)
    }
}

/// Health and reflection: served to anybody, since load balancers and debuggers have no principal.
pub(crate) fn is_infrastructure(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.Health/")
        || path.starts_with("/grpc.reflection.v1.ServerReflection/")
        || path.starts_with("/grpc.reflection.v1alpha.ServerReflection/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_tell_streams_from_unary_calls() {
        assert!(STREAMING.contains("/grpc.health.v1.Health/Watch"));
        assert!(!STREAMING.contains("/grpc.health.v1.Health/Check"));
        assert!(STREAMING.is_watch("/gumshoe.graph.v1.GraphService/WatchRisk"));
        assert!(!STREAMING.is_watch("/gumshoe.graph.v1.GraphService/StreamEvents"));
        assert!(STREAMING.contains("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"));
        assert!(is_infrastructure("/grpc.health.v1.Health/Check"));
        assert!(!is_infrastructure("/grpc.health.v1.Healthy/Check"));
        assert!(!is_infrastructure("/gumshoe.graph.v1.GraphService/Check"));
    }
}
