//! What was learned from tables, beside them.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the message")]

use bytes::Bytes;
use gumshoe_lake::Lake;
use gumshoe_model::GraphArn;

#[tokio::test]
async fn models_come_back_as_they_were_or_not_at_all_and_go_with_their_graph() {
    let folder = tempfile::tempdir().unwrap();
    let config = serde_json::json!({ "url": format!("file://{}", folder.path().display()) });
    let lake = Lake::open(&serde_json::from_value(config).unwrap()).await.unwrap();
    let arn: GraphArn = "arn:aws:detective:us-east-1:111122223333:graph:0123456789abcdef0123456789abcdef".parse().unwrap();
    let graph = lake.graph(&arn).await.unwrap();
    let name = graph.store_model("peers", Bytes::from_static(b"learned")).await.unwrap();
    assert!(name.starts_with("peers-"));
    assert_eq!(graph.store_model("peers", Bytes::from_static(b"learned")).await.unwrap(), name, "named by its content");
    assert_eq!(graph.model(&name).await.unwrap().as_deref(), Some(b"learned".as_slice()));
    let path = folder.path().join(arn.id()).join("models").join(&name);
    std::fs::write(&path, b"damaged").unwrap();
    assert_eq!(graph.model(&name).await.unwrap(), None);
    graph.remove_model(&name).await.unwrap();
    graph.remove_model(&name).await.unwrap();
    assert_eq!(graph.model(&name).await.unwrap(), None);
    graph.store_model("state", Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(lake.graphs().await.unwrap(), std::slice::from_ref(&arn), "no graph of its own");
    lake.remove(&arn).await.unwrap();
    let left = walk(folder.path());
    assert!(left.is_empty(), "{left:?}");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}
