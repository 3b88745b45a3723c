//! TLS: authorities, names, client certificates, versions, HTTP/2, and files that change.

use super::{
    client, failure, get,
    server::{Server, https, plain, raw},
    text,
};
use http::Version;
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use runtime::Disk;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// An authority that certificates are made with.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn pem(&self) -> String {
        self.certificate.pem()
    }

    fn issue(&self, name: &str) -> (Certificate, KeyPair) {
        self.issue_as(CertificateParams::new([name.to_owned()]).expect("a name"))
    }

    fn issue_as(&self, params: CertificateParams) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("signed"), key)
    }
}

fn builder() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    builder.with_safe_default_protocol_versions().expect("versions")
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

fn shows((certificate, key): (Certificate, KeyPair)) -> ServerConfig {
    let chain = vec![certificate.der().clone()];
    builder().with_no_client_auth().with_single_cert(chain, private(&key)).expect("a pair")
}

/// A PEM as a YAML text.
fn quoted(pem: &str) -> String {
    format!("{pem:?}")
}

async fn greeting(config: ServerConfig) -> Server {
    https(config, |seen| plain(format!("{} {:?}", seen.uri, seen.version))).await
}

/// Writes through the seam, as everything that is written.
fn write(folder: &tempfile::TempDir, name: &str, text: &str) {
    let disk = Disk::open(folder.path().to_str().expect("UTF-8")).expect("a folder");
    disk.publish(name, text.as_bytes()).expect("written");
}

#[tokio::test]
async fn servers_are_known_by_their_authority_and_name() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = greeting(shows(authority.issue("localhost"))).await;
    let named = greeting(shows(authority.issue("metrics.example"))).await;
    let mut old = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    old.not_after = date_time_ymd(2020, 1, 1);
    let expired = greeting(shows(authority.issue_as(old))).await;
    let (ca, other) = (quoted(&authority.pem()), quoted(&stranger.pem()));
    let url = server.secure_url("/m");
    let tls = |keys: &str| client(&format!("{{tls_config: {{{keys}}}}}"));
    assert_eq!(text(&tls(&format!("ca: {ca}")), &url).await, "/m HTTP/1.1");
    assert_eq!(text(&tls("insecure_skip_verify: true"), &url).await, "/m HTTP/1.1");
    let verify = "tls: failed to verify certificate: x509: ";
    for (keys, url, expected) in [
        (format!("ca: {other}"), &url, format!("{verify}certificate signed by unknown authority")),
        (
            format!("ca: {ca}"),
            &named.secure_url("/"),
            format!("{verify}certificate is valid for metrics.example, not localhost"),
        ),
        (format!("ca: {ca}"), &expired.secure_url("/"), format!("{verify}certificate has expired or is not yet valid")),
    ] {
        let told = failure(&tls(&keys), url).await;
        assert!(told.contains(&format!("Get {url:?}: {expected}")), "{told}");
    }
    let told = failure(&tls(&format!("ca: {ca}")), &format!("https://{}/", server.address)).await;
    let expected = "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs";
    assert!(told.ends_with(expected), "{told}");
    let renamed = tls(&format!("ca: {ca}, server_name: metrics.example"));
    assert_eq!(text(&renamed, &named.secure_url("/")).await, "/ HTTP/1.1");
}

#[tokio::test]
async fn a_self_signed_certificate_is_its_own_authority() {
    for authority in [true, false] {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
        params.is_ca = if authority { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        let ca = quoted(&certificate.pem());
        let server = greeting(shows((certificate, key))).await;
        let known = client(&format!("{{tls_config: {{ca: {ca}}}}}"));
        assert_eq!(text(&known, &server.secure_url("/")).await, "/ HTTP/1.1");
        assert_eq!(text(&known, &format!("https://{}/", server.address)).await, "/ HTTP/1.1");
        let misnamed = client(&format!("{{tls_config: {{ca: {ca}, server_name: elsewhere}}}}"));
        let told = failure(&misnamed, &server.secure_url("/")).await;
        assert!(told.ends_with("x509: certificate is valid for localhost, not elsewhere"), "{told}");
        let stranger = client(&format!("{{tls_config: {{ca: {}}}}}", quoted(&Authority::new().pem())));
        let told = failure(&stranger, &server.secure_url("/")).await;
        assert!(told.ends_with("x509: certificate signed by unknown authority"), "{told}");
    }
}

#[tokio::test]
async fn client_certificates_are_shown_and_read_again() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let mut roots = RootCertStore::empty();
    roots.add(clients.certificate.der().clone()).expect("an authority");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
    let (certificate, key) = authority.issue("localhost");
    let config = builder()
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(vec![certificate.der().clone()], private(&key));
    let server = greeting(config.expect("a pair")).await;
    let url = server.secure_url("/");
    let ca = quoted(&authority.pem());
    let without = client(&format!("{{tls_config: {{ca: {ca}}}}}"));
    assert_eq!(failure(&without, &url).await, format!("Get {url:?}: remote error: tls: certificate required"));

    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().display();
    let with = client(&format!("{{tls_config: {{ca: {ca}, cert_file: {at}/cert, key_file: {at}/key}}}}"));
    let absent = format!("Get {url:?}: unable to read client cert: unable to read file {at}/cert: open {at}/cert: ");
    assert!(failure(&with, &url).await.starts_with(&absent));
    let (stranger, stranger_key) = authority.issue("me");
    write(&folder, "cert", &stranger.pem());
    write(&folder, "key", "nonsense");
    let told = failure(&with, &url).await;
    let expected = format!("unable to use specified client cert (file {at}/cert) & key (file {at}/key): ");
    assert!(told.contains(&expected), "{told}");
    write(&folder, "key", &stranger_key.serialize_pem());
    assert!(failure(&with, &url).await.contains("remote error: tls: "), "an unknown client");
    let (me, key) = clients.issue("me");
    write(&folder, "cert", &me.pem());
    write(&folder, "key", &key.serialize_pem());
    assert_eq!(text(&with, &url).await, "/ HTTP/1.1");
    assert_eq!(text(&with, &url).await, "/ HTTP/1.1");
    let connections: Vec<_> = server.seen().iter().map(|one| one.connection).collect();
    assert_eq!(connections.first(), connections.last(), "the same files keep their connection");
}

#[tokio::test]
async fn a_new_authority_means_new_connections() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = greeting(shows(authority.issue("localhost"))).await;
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder, "ca", &authority.pem());
    let client = client(&format!("{{tls_config: {{ca_file: {}/ca}}}}", folder.path().display()));
    let url = server.secure_url("/");
    assert_eq!(text(&client, &url).await, "/ HTTP/1.1");
    write(&folder, "ca", &stranger.pem());
    assert!(failure(&client, &url).await.contains("unknown authority"));
    write(&folder, "ca", "nothing in here");
    let told = failure(&client, &url).await;
    assert!(told.ends_with(&format!("unable to use specified CA cert file {}/ca", folder.path().display())), "{told}");
    write(&folder, "ca", &authority.pem());
    assert_eq!(text(&client, &url).await, "/ HTTP/1.1");
}

#[tokio::test]
async fn http2_is_spoken_when_both_sides_do() {
    let authority = Authority::new();
    let mut config = shows(authority.issue("localhost"));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let server = greeting(config).await;
    let ca = quoted(&authority.pem());
    let url = server.secure_url("/");
    let both = client(&format!("{{tls_config: {{ca: {ca}}}}}"));
    let all = tokio::join!(text(&both, &url), text(&both, &url), text(&both, &url));
    let expected = format!("{url} HTTP/2.0");
    assert_eq!(all, (expected.clone(), expected.clone(), expected));
    let (response, _) = get(&both, &url).await.expect("an answer");
    assert_eq!(response.version, Version::HTTP_2);
    let old = client(&format!("{{enable_http2: false, tls_config: {{ca: {ca}}}}}"));
    assert_eq!(text(&old, &url).await, "/ HTTP/1.1");
}

#[tokio::test]
async fn versions_are_kept_to() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("localhost");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("a version")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private(&key));
    let server = greeting(config.expect("a pair")).await;
    let ca = quoted(&authority.pem());
    let tls = |keys: &str| client(&format!("{{tls_config: {{ca: {ca}, {keys}}}}}"));
    let url = server.secure_url("/");
    assert_eq!(text(&tls("min_version: TLS10"), &url).await, "/ HTTP/1.1");
    assert_eq!(text(&tls("max_version: TLS12"), &url).await, "/ HTTP/1.1");
    let told = failure(&tls("min_version: TLS13"), &url).await;
    assert!(told.contains("remote error: tls: protocol version not supported"), "{told}");
}

#[tokio::test]
async fn a_server_without_tls_is_named_so() {
    let address = raw(|mut socket, _| async move {
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        std::future::pending::<()>().await;
    })
    .await;
    let url = format!("https://{address}/");
    let told = failure(&client("{tls_config: {insecure_skip_verify: true}}"), &url).await;
    assert_eq!(told, format!("Get {url:?}: http: server gave HTTP response to HTTPS client"));
}

/// A server whose certificate nobody knows.
pub(super) async fn unverified() -> Server {
    greeting(shows(Authority::new().issue("nobody.example"))).await
}
