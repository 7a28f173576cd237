//! TLS and mutual TLS between services.

use std::{fs, path::Path};

use gumshoe_runtime::{
    PrincipalChannel, ServerOptions, Upstream,
    config::{ClientTls, Tls},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tonic::Code;

use crate::echo::{Running, caller, say};

/// Writes `NAME-authority.pem`, `NAME.pem` and `NAME-key.pem`: a certificate for `localhost` and who signed it.
fn certificate(directory: &Path, name: &str) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    fs::write(directory.join(format!("{name}-authority.pem")), authority.pem()).unwrap();
    fs::write(directory.join(format!("{name}.pem")), leaf.pem()).unwrap();
    fs::write(directory.join(format!("{name}-key.pem")), key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn only_clients_of_the_right_authority_get_in() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["server", "client", "stranger"] {
        certificate(directory.path(), name);
    }
    let tls = Tls { certificate: path("server.pem"), key: path("server-key.pem"), client_authority: Some(path("client-authority.pem")) };
    let options = ServerOptions { tls: Some(tls), ..ServerOptions::default() };
    let running = Running::start(|server| server.options(&options)).await;

    let call = async |authority: &str, identity: Option<&str>| {
        let url = format!("https://localhost:{}", running.address.port()).parse().unwrap();
        let tls = ClientTls {
            authority: path(authority),
            certificate: identity.map(|name| path(&format!("{name}.pem"))),
            key: identity.map(|name| path(&format!("{name}-key.pem"))),
            server_name: None,
        };
        let upstream = Upstream { tls: Some(tls), ..Upstream::new(url) };
        let channel = PrincipalChannel::connect_lazy(&upstream, "test").unwrap();
        say(channel.signed(running.signer.clone(), caller()), "graph").await.map_err(|status| status.code())
    };
    assert!(call("server-authority.pem", Some("client")).await.is_ok());
    for (authority, identity) in [("server-authority.pem", Some("stranger")), ("server-authority.pem", None), ("stranger-authority.pem", Some("client"))] {
        let refused = call(authority, identity).await.unwrap_err();
        assert!(matches!(refused, Code::Unavailable | Code::Unknown), "{authority} {identity:?}: {refused:?}");
    }
    assert!(say(running.signed(), "graph").await.is_err(), "plaintext");
    running.end().await;
}
