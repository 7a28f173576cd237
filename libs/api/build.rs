//! Generates messages, clients and servers from `proto/` without protoc.

use std::{env, fs, io, path::PathBuf};

const FILES: &[&str] = &[
    "gumshoe/common/v1/common.proto",
    "gumshoe/ingest/v1/ingest_service.proto",
    "gumshoe/graph/v1/behavior_service.proto",
    "gumshoe/graph/v1/analysis_service.proto",
    "gumshoe/graph/v1/graph_administration_service.proto",
    "gumshoe/graph/v1/graph_service.proto",
    "gumshoe/graph/v1/graph_writer_service.proto",
    "gumshoe/graph/v1/hot_profile.proto",
    "gumshoe/graph/v1/rule_service.proto",
    "gumshoe/membership/v1/credential_service.proto",
    "gumshoe/membership/v1/membership_service.proto",
    "gumshoe/membership/v1/organization_service.proto",
    "gumshoe/membership/v1/principal_service.proto",
    "gumshoe/investigation/v1/finding_group_service.proto",
    "gumshoe/investigation/v1/investigation_service.proto",
];

fn main() -> io::Result<()> {
    // Asked at run time: a target folder shared by several checkouts may hold this program as another one built it.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| io::Error::other("CARGO_MANIFEST_DIR is not set"))?;
    let root = PathBuf::from(manifest).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut compiler = protox::Compiler::new([&root]).map_err(io::Error::other)?;
    compiler.include_imports(true).include_source_info(true);
    for file in FILES {
        compiler.open_file(file).map_err(io::Error::other)?;
    }
    let descriptors = compiler.file_descriptor_set();
    // Encoded by protox, which keeps the authorization options that prost would drop.
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?);
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().bytes(".gumshoe.ingest.v1.RecordsPiece.data").bytes(".gumshoe.graph.v1.CommitBatchRequest.events").compile_fds(descriptors)
}
