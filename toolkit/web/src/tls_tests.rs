//! Sessions over real sockets: versions, suites, client certificates, rotation.

use crate::testing::{Caller, Folder, GET, Identity, LAST_GET, ask, hello, rest, send};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, DnType, ExtendedKeyUsagePurpose, IsCa};
use rustls::{
    SupportedProtocolVersion,
    crypto::ring::{cipher_suite, kx_group},
    version::{TLS12, TLS13},
};
use std::{sync::Arc, time::Duration};
use tokio::io::AsyncReadExt;

const ONLY12: &[&SupportedProtocolVersion] = &[&TLS12];
const ONLY13: &[&SupportedProtocolVersion] = &[&TLS13];
const PAIR: &str = "cert_file: server.crt, key_file: server.key";

/// A folder with a server's certificate, and that certificate.
fn folder(more: &str) -> (Folder, Identity) {
    let folder = Folder::new(&format!("tls_server_config: {{{PAIR}{more}}}"));
    let server = Identity::own(&["localhost"]);
    folder.put_identity("server", &server);
    (folder, server)
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_as_the_client_asks() {
    let (folder, server) = folder("");
    let mut caller = Caller::of(&server);
    folder
        .served()
        .with(hello(), async |address| {
            assert!(caller.ask(address).await.ends_with("hello"), "without ALPN");
            caller.protocols = &["http/1.1"];
            assert!(caller.ask(address).await.ends_with("hello"));
            caller.protocols = &["h2", "http/1.1"];
            let stream = caller.connect(address).await.expect("a session");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let (mut client, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("h2");
            let request = hyper::Request::get("https://localhost/").body(Empty::<hyper::body::Bytes>::new());
            let answer = async {
                let response = client.send_request(request.expect("a request")).await.expect("an answer");
                let body = response.into_body().collect().await.expect("a body").to_bytes();
                drop(client);
                body
            };
            let (body, _) = tokio::join!(answer, connection);
            assert_eq!(&body[..], b"hello");
        })
        .await;
}

#[tokio::test]
async fn http2_can_be_switched_off() {
    let (folder, server) = folder("");
    folder.put("web.yml", &format!("tls_server_config: {{{PAIR}}}\nhttp_server_config: {{http2: false}}"));
    let mut caller = Caller::of(&server);
    caller.protocols = &["h2", "http/1.1"];
    folder
        .served()
        .with(hello(), async |address| {
            let stream = caller.connect(address).await.expect("a session");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        })
        .await;
}

#[tokio::test]
async fn those_who_forgot_the_s_are_told() {
    let (folder, _) = folder("");
    let served = folder.served();
    served
        .with(hello(), async |address| {
            let told = ask(address, GET).await;
            assert_eq!(told, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
            ask(address, b"neither of the two\r\n\r\n").await;
        })
        .await;
    assert_eq!(served.value("narthex_tls_handshake_failures_total{reason=\"plain_http\"}"), 1.0);
    assert_eq!(served.value("narthex_tls_handshake_failures_total{reason=\"protocol\"}"), 1.0);
}

#[tokio::test]
async fn a_handshake_has_a_deadline_and_does_not_hold_up_the_end() {
    let (folder, _) = folder("");
    let mut served = folder.served();
    served.limits.handshake_timeout = Duration::from_millis(20);
    served.with(hello(), async |address| assert_eq!(ask(address, b"\x16\x03").await, "")).await;
    assert_eq!(served.value("narthex_tls_handshake_failures_total{reason=\"timeout\"}"), 1.0);

    let mut served = folder.served();
    served.limits.handshake_timeout = Duration::from_secs(3600);
    let mut silent = None;
    served
        .with(hello(), async |address| {
            silent = Some(send(address, b"\x16").await);
            served.until("narthex_http_connections", 1.0).await;
        })
        .await;
    assert_eq!(rest(&mut silent.expect("connected")).await, "");
}

/// Settings, and whether one who speaks only TLS 1.2, only TLS 1.3, only one suite, only one curve is served.
#[tokio::test]
async fn settings_bound_what_is_spoken() {
    const AES128: &str = ", cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]";
    const CBC: &str = ", cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, TLS_AES_128_GCM_SHA256]";
    let cases: &[(&str, [bool; 4])] = &[
        ("", [true, true, true, true]),
        (", min_version: TLS13", [false, true, false, false]),
        (", max_version: TLS12", [true, false, true, true]),
        (", min_version: TLS10", [true, true, true, true]),
        (AES128, [true, true, false, true]),
        (CBC, [false, true, false, false]),
        (", curve_preferences: [X25519]", [true, true, true, false]),
        (", curve_preferences: [CurveP256, CurveP521]", [true, true, true, true]),
        (", curve_preferences: [CurveP384]", [true, true, true, false]),
        (", curve_preferences: [CurveP521]", [false, false, false, false]),
    ];
    for (more, expected) in cases {
        let (folder, server) = folder(more);
        // Suites without the one of HTTP/2 need it off.
        folder.put("web.yml", &format!("tls_server_config: {{{PAIR}{more}}}\nhttp_server_config: {{http2: false}}"));
        let any = Caller::of(&server);
        let mut callers = [any.clone(), any.clone(), any.clone(), any];
        callers[0].versions = ONLY12;
        callers[1].versions = ONLY13;
        callers[2].versions = ONLY12;
        callers[2].provider.cipher_suites = vec![cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384];
        callers[3].versions = ONLY12;
        callers[3].provider.kx_groups = vec![kx_group::SECP256R1];
        folder
            .served()
            .with(hello(), async |address| {
                for (i, caller) in callers.iter().enumerate() {
                    assert_eq!(caller.ask(address).await.ends_with("hello"), expected[i], "{more} by caller {i}");
                }
            })
            .await;
    }
}

#[tokio::test]
async fn p521_is_spoken_by_both_versions() {
    let (folder, server) = folder(", curve_preferences: [CurveP521]");
    let mut caller = Caller::of(&server);
    caller.provider.kx_groups = vec![crate::curves::group(rustls::NamedGroup::secp521r1).expect("offered")];
    folder
        .served()
        .with(hello(), async |address| {
            for version in [ONLY12, ONLY13] {
                caller.versions = version;
                assert!(caller.ask(address).await.ends_with("hello"), "{version:?}");
            }
        })
        .await;
}

fn refusal(text: &str) -> String {
    let (folder, _) = folder("");
    folder.put("other.key", &Identity::own(&["x"]).key_pem());
    folder.put("empty.pem", "");
    folder.put("web.yml", text);
    let config = folder.served().config;
    let said = crate::Listeners::bind(&config).map(drop).map_err(|error| error.to_string()).err().unwrap_or_default();
    said.replace(&format!("{}/", folder.path("").display()).replace("//", "/"), "")
}

#[test]
fn what_cannot_be_served_by_is_refused_at_the_start() {
    let pair = |more: &str| refusal(&format!("tls_server_config: {{{PAIR}{more}}}"));
    let cases = [
        (pair(""), ""),
        (pair(", client_auth_type: RequireAndVerifyClientCert, client_ca_file: empty.pem"), ""),
        (pair(", client_auth_type: x"), "invalid ClientAuth: x"),
        (pair(", client_ca_file: server.crt"), "client CA's have been configured without a Client Auth Policy"),
        (
            pair(", client_auth_type: RequestClientCert, client_ca_file: no.pem"),
            "open no.pem: no such file or directory",
        ),
        (pair(", max_version: TLS11"), "tls_server_config: no version of TLS is left"),
        (pair(", min_version: TLS13, max_version: TLS12"), "tls_server_config: no version of TLS is left"),
        (
            pair(", max_version: TLS12, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]"),
            "http2: cipher_suites is missing",
        ),
        (refusal("tls_server_config: {cert_file: server.crt}"), "missing one of key or key_file"),
        (refusal("tls_server_config: {client_auth_type: x}"), "missing one of cert or cert_file"),
        (
            refusal("tls_server_config: {cert_file: no.crt, key_file: server.key}"),
            "failed to read cert_file (no.crt): open no.crt: no such file or directory",
        ),
        (refusal("tls_server_config: {cert_file: server.key, key_file: server.key}"), "failed to load X509KeyPair: "),
        (refusal("tls_server_config: {cert_file: server.crt, key_file: server.crt}"), "failed to load X509KeyPair: "),
        (refusal("tls_server_config: {cert_file: server.crt, key_file: other.key}"), "failed to load X509KeyPair: "),
    ];
    for (i, (said, expected)) in cases.iter().enumerate() {
        assert!(said.starts_with(expected) && said.is_empty() == expected.is_empty(), "case {i}: {said:?}");
    }
}

#[tokio::test]
async fn inline_certificates_serve_as_well() {
    let server = Identity::own(&["localhost"]);
    let indent = |text: String| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let text = format!("tls_server_config:\n  cert: |\n{}  key: |\n{}", indent(server.pem()), indent(server.key_pem()));
    let folder = Folder::new(&text);
    let caller = Caller::of(&server);
    folder.served().with(hello(), async |address| assert!(caller.ask(address).await.ends_with("hello"))).await;
}

/// Who comes to a site that asks for certificates.
struct Clients {
    authority: Identity,
    known: Arc<Identity>,
    /// In order: nobody, signed by the authority, in the pool itself, a stranger, expired, not meant for clients.
    all: Vec<Option<Arc<Identity>>>,
}

impl Clients {
    fn new() -> Self {
        let authority = Identity::authority();
        let signed = Identity::client(&["client.example", "10.0.0.1"], Some(&authority));
        // As `openssl req -x509` makes them: an authority of its own.
        let known = Arc::new(Identity::new(&["known.example"], None, |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, "known");
        }));
        let stranger = Identity::client(&["client.example"], None);
        let expired = Identity::new(&["client.example"], Some(&authority), |params| {
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        });
        let server = Identity::new(&["client.example"], Some(&authority), |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        let certified = [signed, stranger, expired, server].map(|identity| Some(Arc::new(identity)));
        let [signed, stranger, expired, server] = certified;
        let all = vec![None, signed, Some(known.clone()), stranger, expired, server];
        Self { authority, known, all }
    }

    async fn check(&self, more: &str, pool: &str, expected: [bool; 6]) {
        let (folder, server) = folder(more);
        folder.put("pool.pem", pool);
        let served = folder.served();
        let mut caller = Caller::of(&server);
        served
            .with(hello(), async |address| {
                for (i, identity) in self.all.iter().enumerate() {
                    for version in [ONLY12, ONLY13] {
                        caller.versions = version;
                        caller.identity = identity.clone();
                        let answered = caller.ask(address).await.ends_with("hello");
                        assert_eq!(answered, expected[i], "{more}: client {i}, {version:?}");
                    }
                }
            })
            .await;
        let refused = expected.iter().filter(|served| !**served).count() * 2;
        let counted = served.value("narthex_tls_handshake_failures_total{reason=\"client_certificate\"}");
        assert_eq!(counted, refused as f64, "{more}");
    }
}

#[tokio::test]
async fn client_certificates_are_asked_for_and_checked_by_type() {
    let clients = Clients::new();
    let pool = clients.authority.pem() + &clients.known.pem();
    let with_pool = |kind: &str| format!(", client_auth_type: {kind}, client_ca_file: pool.pem");
    let (all, some) = ([true; 6], [false, true, true, true, true, true]);
    clients.check("", "", all).await;
    clients.check(", client_auth_type: NoClientCert", "", all).await;
    clients.check(", client_auth_type: RequestClientCert", "", all).await;
    clients.check(", client_auth_type: RequireAnyClientCert", "", some).await;
    clients.check(", client_auth_type: RequireClientCert", "", some).await;
    clients.check(&with_pool("VerifyClientCertIfGiven"), &pool, [true, true, true, false, false, false]).await;
    clients.check(&with_pool("RequireAndVerifyClientCert"), &pool, [false, true, true, false, false, false]).await;
    // An empty pool believes nobody.
    clients.check(&with_pool("VerifyClientCertIfGiven"), "", [true, false, false, false, false, false]).await;
}

/// What is in the pool is believed for what it is, but not after its time and not for other purposes.
#[tokio::test]
async fn certificates_in_the_pool_have_a_time_and_a_purpose() {
    let made = |change: &dyn Fn(&mut rcgen::CertificateParams)| Arc::new(Identity::new(&["x"], None, change));
    let identities = [
        made(&|_| {}),
        made(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
        made(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
        made(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        made(&|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1)),
        made(&|params| params.not_before = rcgen::date_time_ymd(4000, 1, 1)),
    ];
    let pool: String = identities.iter().map(|identity| identity.pem()).collect();
    let (folder, server) = folder(", client_auth_type: RequireAndVerifyClientCert, client_ca_file: pool.pem");
    folder.put("pool.pem", &pool);
    let mut caller = Caller::of(&server);
    folder
        .served()
        .with(hello(), async |address| {
            for (i, identity) in identities.iter().enumerate() {
                caller.identity = Some(identity.clone());
                assert_eq!(caller.ask(address).await.ends_with("hello"), i < 3, "identity {i}");
            }
        })
        .await;
}

#[tokio::test]
async fn client_names_are_checked_after_the_certificate() {
    let clients = Clients::new();
    let pool = clients.authority.pem() + &clients.known.pem();
    let named = |names: &str| {
        format!(
            ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: pool.pem, client_allowed_sans: [{names}]"
        )
    };
    let signed = [false, true, false, false, false, false];
    clients.check(&named("client.example, other"), &pool, signed).await;
    clients.check(&named("10.0.0.1"), &pool, signed).await;
    clients.check(&named("CLIENT.example, '*.example'"), &pool, [false; 6]).await;
    clients.check(&named(""), &pool, [false; 6]).await;
    let any = ", client_auth_type: RequestClientCert, client_allowed_sans: [client.example]";
    clients.check(any, "", [false, true, false, true, true, true]).await;
}

#[tokio::test]
async fn new_certificates_are_served_without_a_signal() {
    let (folder, first) = folder("");
    let (second, third) = (Identity::own(&["localhost"]), Identity::own(&["localhost"]));
    let served = folder.served();
    let good = async |server: &Identity, address| Caller::of(server).ask(address).await.ends_with("hello");
    served
        .with(hello(), async |address| {
            assert!(good(&first, address).await && !good(&second, address).await);
            folder.put_identity("server", &second);
            assert!(good(&second, address).await && !good(&first, address).await);
            // A key without its certificate: no session until they fit again.
            folder.put("server.key", &third.key_pem());
            assert!(!good(&second, address).await && !good(&third, address).await);
            folder.put("server.crt", &third.pem());
            assert!(good(&third, address).await);
            // Other settings, then none at all.
            folder.put("web.yml", &format!("tls_server_config: {{{PAIR}, client_auth_type: RequireAnyClientCert}}"));
            assert!(!good(&third, address).await);
            folder.put("web.yml", "");
            assert!(!good(&third, address).await);
            assert!(ask(address, LAST_GET).await.contains("Client sent an HTTP request"), "TLS stays on");
        })
        .await;
    assert_eq!(served.value("narthex_tls_handshake_failures_total{reason=\"config\"}"), 3.0);
}

/// Kubernetes swaps a link to a folder; nothing of the path itself changes.
#[tokio::test]
async fn a_swapped_link_is_a_change() {
    let (folder, _) = folder("");
    let (first, second) = (Identity::own(&["localhost"]), Identity::own(&["localhost"]));
    for (name, identity) in [("one", &first), ("two", &second)] {
        folder.disk.create_dir(name).expect("a folder");
        folder.put_identity(&format!("{name}/server"), identity);
    }
    let link = |to: &str| {
        std::os::unix::fs::symlink(folder.path(to), folder.path("next")).expect("a link");
        folder.disk.rename("next", "now").expect("swapped");
    };
    link("one");
    folder.put("web.yml", "tls_server_config: {cert_file: now/server.crt, key_file: now/server.key}");
    folder
        .served()
        .with(hello(), async |address| {
            assert!(Caller::of(&first).ask(address).await.ends_with("hello"));
            link("two");
            assert!(Caller::of(&second).ask(address).await.ends_with("hello"));
        })
        .await;
}

/// A drain waits for a request that came by TLS, and TLS ends with its own goodbye.
#[tokio::test]
async fn sessions_end_in_order() {
    let (folder, server) = folder("");
    let caller = Caller::of(&server);
    let mut open = None;
    folder
        .served()
        .with(hello(), async |address| {
            let mut stream = caller.connect(address).await.expect("a session");
            tokio::io::AsyncWriteExt::write_all(&mut stream, GET).await.expect("sent");
            assert!(crate::testing::one(&mut stream).await.ends_with("hello"));
            open = Some(stream);
        })
        .await;
    let mut left = Vec::new();
    open.expect("open").read_to_end(&mut left).await.expect("closed as TLS demands, not cut");
    assert!(left.is_empty());
}
