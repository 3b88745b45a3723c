//! TLS from its section: which certificates are trusted, which one is shown, which versions are spoken.
//!
//! Differences to Go that show: nothing older than TLS 1.2 is spoken, and a `max_version` below it is refused. As in Go,
//! a certificate given as its own authority is trusted even when it says that it is one.

use crate::{
    Cause, ConfigError, TlsVersion,
    config::{self, TlsConfig},
};
use runtime::{Clock, Tasks};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
    time_provider::TimeProvider,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::OnceCell;

/// A certificate or key as text, and where it comes from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) pem: String,
    /// `inline` or `file NAME`.
    pub(crate) origin: String,
}

/// All that may change while a client lives.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Inputs {
    pub(crate) ca: Option<Text>,
    pub(crate) cert: Option<Text>,
    pub(crate) key: Option<Text>,
}

/// TLS of one set of inputs; built when first needed, because reading the system's certificates takes a while.
pub(crate) struct Tls {
    clock: Clock,
    tasks: Tasks,
    section: Arc<TlsConfig>,
    inputs: Inputs,
    http2: bool,
    built: OnceCell<Arc<ClientConfig>>,
}

impl Tls {
    pub(crate) fn new(clock: Clock, tasks: Tasks, section: Arc<TlsConfig>, inputs: Inputs, http2: bool) -> Self {
        Self { clock, tasks, section, inputs, http2, built: OnceCell::new() }
    }

    /// What connections are made with.
    pub(crate) async fn config(&self) -> Result<Arc<ClientConfig>, Cause> {
        let build = async || {
            let (clock, section, inputs, http2) =
                (self.clock.clone(), self.section.clone(), self.inputs.clone(), self.http2);
            let work = move || build(clock, &section, &inputs, http2).map(Arc::new).map_err(Cause::Credentials);
            let built = self.tasks.blocking("client certificates", work).await;
            built.unwrap_or_else(|panicked| Err(Cause::Credentials(panicked.to_string())))
        };
        self.built.get_or_try_init(build).await.cloned()
    }

    /// The name that a server's certificate must carry.
    pub(crate) fn name(&self, host: &str) -> Result<ServerName<'static>, Cause> {
        let name = config::text(&self.section.server_name).unwrap_or(host);
        ServerName::try_from(name.to_owned())
            .map_err(|_| Cause::Dial(format!("tls: {name:?} is no name that a certificate can carry; set server_name")))
    }
}

/// The versions between the two given; upstream's text when there are none.
pub(crate) fn versions(section: &TlsConfig) -> Result<Vec<&'static SupportedProtocolVersion>, ConfigError> {
    let (min, max) = (section.min_version, section.max_version);
    if let (Some(min), Some(max)) = (min, max)
        && max < min
    {
        return Err(ConfigError::Conflict(
            "tls_config.max_version must be greater than or equal to tls_config.min_version if both are specified",
        ));
    }
    let (min, max) = (min.unwrap_or(TlsVersion::Tls12), max.unwrap_or(TlsVersion::Tls13));
    if max < TlsVersion::Tls12 {
        return Err(ConfigError::Value(
            "tls_config.max_version below TLS12 is valid upstream but not spoken by narthex; use TLS12 or TLS13".into(),
        ));
    }
    let all = [(TlsVersion::Tls12, &rustls::version::TLS12), (TlsVersion::Tls13, &rustls::version::TLS13)];
    Ok(all.into_iter().filter(|(name, _)| (min..=max).contains(name)).map(|(_, version)| version).collect())
}

/// Reads and checks certificates and key. O(certificates); with no authority given, of the whole system.
pub(crate) fn build(clock: Clock, section: &TlsConfig, inputs: &Inputs, http2: bool) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if section.insecure_skip_verify == Some(true) {
        authorities(inputs.ca.as_ref())?;
        Arc::new(Unverified(provider.clone()))
    } else {
        verifier(inputs.ca.as_ref(), provider.clone())?
    };
    let versions = versions(section).map_err(|error| error.to_string())?;
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Wall(clock)))
        .with_protocol_versions(&versions)
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&inputs.cert, &inputs.key) {
        (Some(cert), Some(key)) => {
            let refuse = |error: &dyn std::fmt::Display| {
                format!("unable to use specified client cert ({}) & key ({}): {error}", cert.origin, key.origin)
            };
            let chain: Vec<_> = CertificateDer::pem_slice_iter(cert.pem.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|error| refuse(&error))?;
            let key = PrivateKeyDer::from_pem_slice(key.pem.as_bytes()).map_err(|error| refuse(&error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| refuse(&error))?
        }
        _ => builder.with_no_client_auth(),
    };
    if http2 {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    Ok(config)
}

/// The certificates of the section; none when it has none.
fn authorities(ca: Option<&Text>) -> Result<Option<Vec<CertificateDer<'static>>>, String> {
    let Some(ca) = ca else { return Ok(None) };
    // As Go does, what is no certificate is passed over as long as there is one.
    let all: Vec<_> = CertificateDer::pem_slice_iter(ca.pem.as_bytes()).filter_map(Result::ok).collect();
    if all.is_empty() { Err(format!("unable to use specified CA cert {}", ca.origin)) } else { Ok(Some(all)) }
}

fn verifier(ca: Option<&Text>, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let given = authorities(ca)?;
    let mut roots = RootCertStore::empty();
    match &given {
        Some(given) => {
            let (added, _) = roots.add_parsable_certificates(given.iter().cloned());
            if added == 0 {
                return Err(format!("unable to use specified CA cert {}", ca.map_or("", |ca| ca.origin.as_str())));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        // Every server is unknown then, and says so; a client that only calls plain HTTP is not disturbed.
        return Ok(Arc::new(Nobody(provider)));
    }
    let chain =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(|e| e.to_string())?;
    Ok(Arc::new(Pinned { chain, given: given.unwrap_or_default() }))
}

/// The wall clock, for the validity of certificates.
#[derive(Debug)]
struct Wall(Clock);

impl TimeProvider for Wall {
    fn current_time(&self) -> Option<UnixTime> {
        let ms = u64::try_from(self.0.unix_ms()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(ms)))
    }
}

/// Verifies chains, and lets a certificate that was itself given as an authority stand for its server, as Go does: a
/// self-signed one usually says that it is an authority, which a server's certificate may not say.
#[derive(Debug)]
struct Pinned {
    chain: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

/// Whether all that is wrong is that an authority stands for a server. Validity in time was checked before.
fn is_authority(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(error) if is_authority(&error) => {
                if !self.given.iter().any(|one| one == end_entity) {
                    return Err(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer));
                }
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// `insecure_skip_verify`: any certificate will do. The server still has to prove that it holds the key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

/// A system without certificates: no server can be known.
#[derive(Debug)]
struct Nobody(Arc<CryptoProvider>);

macro_rules! signatures_by_provider {
    ($name:ident, $answer:expr) => {
        impl ServerCertVerifier for $name {
            fn verify_server_cert(
                &self,
                _: &CertificateDer<'_>,
                _: &[CertificateDer<'_>],
                _: &ServerName<'_>,
                _: &[u8],
                _: UnixTime,
            ) -> Result<ServerCertVerified, rustls::Error> {
                $answer
            }

            fn verify_tls12_signature(
                &self,
                message: &[u8],
                cert: &CertificateDer<'_>,
                dss: &DigitallySignedStruct,
            ) -> Result<HandshakeSignatureValid, rustls::Error> {
                let algorithms = &self.0.signature_verification_algorithms;
                rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
            }

            fn verify_tls13_signature(
                &self,
                message: &[u8],
                cert: &CertificateDer<'_>,
                dss: &DigitallySignedStruct,
            ) -> Result<HandshakeSignatureValid, rustls::Error> {
                let algorithms = &self.0.signature_verification_algorithms;
                rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
            }

            fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
                self.0.signature_verification_algorithms.supported_schemes()
            }
        }
    };
}

signatures_by_provider!(Unverified, Ok(ServerCertVerified::assertion()));
signatures_by_provider!(Nobody, Err(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)));
