//! A rustls server configuration made from `tls_server_config`.
//!
//! rustls speaks TLS 1.2 and 1.3 with forward secrecy and nothing else. Settings that ask for less, such as
//! `min_version: TLS10`, start with a warning; settings that leave nothing both sides could speak are refused.

use crate::{
    clients::{self, Trust},
    config::{self, ConfigError, Pem, TlsSettings},
    curves,
    names::{AuthType, Version},
};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::{TLS12, TLS13},
};
use std::{path::PathBuf, sync::Arc};

/// The bytes that a configuration is made of. They are compared to see whether a file that was touched has changed.
#[derive(PartialEq, Eq)]
pub(crate) struct Material {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Material {
    /// Reads what the settings name.
    pub(crate) fn read(settings: &TlsSettings) -> Result<Self, ConfigError> {
        if !settings.is_on() {
            return Err(ConfigError::TlsGone);
        }
        let part = |pem: &Pem, key: &'static str| match (&pem.file, &pem.inline) {
            (Some(path), _) => config::read(path).map(Some).map_err(|cause| ConfigError::Part {
                key,
                path: path.display().to_string(),
                cause: Box::new(cause),
            }),
            (None, inline) => Ok(inline.as_ref().map(|text| text.clone().into_bytes())),
        };
        if !settings.certificate.is_given() {
            return Err(ConfigError::NoCertificate);
        }
        if !settings.key.is_given() {
            return Err(ConfigError::NoKey);
        }
        Ok(Self {
            certificate: part(&settings.certificate, "cert_file")?.ok_or(ConfigError::NoCertificate)?,
            key: part(&settings.key, "key_file")?.ok_or(ConfigError::NoKey)?,
            // Upstream's text for this one does not name the key.
            client_ca: part(&settings.client_ca, "client_ca_file").map_err(|error| match error {
                ConfigError::Part { cause, .. } => *cause,
                other => other,
            })?,
        })
    }
}

/// The files that the settings name.
pub(crate) fn files(settings: &TlsSettings) -> Vec<PathBuf> {
    [&settings.certificate, &settings.key, &settings.client_ca].into_iter().filter_map(|pem| pem.file.clone()).collect()
}

/// Makes the configuration of sessions.
pub(crate) fn build(settings: &TlsSettings, http2: bool, material: &Material) -> Result<ServerConfig, ConfigError> {
    let auth = settings.client_auth()?;
    if settings.client_ca.is_given() && auth == AuthType::None {
        return Err(ConfigError::NoAuthType);
    }
    if http2 && !settings.ciphers.is_empty() && settings.versions.0 < Version::Tls13 {
        let suited = settings.ciphers.iter().any(|cipher| cipher.suits_http2());
        suited.then_some(()).ok_or(ConfigError::Http2Cipher)?;
    }
    let (certificates, key) = pair(material)?;
    let (provider, versions) = offer(settings)?;
    let provider = Arc::new(provider);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|error| ConfigError::NotOffered(error.to_string()))?;
    let trust = Trust {
        auth,
        authorities: material.client_ca.as_deref().map(clients::authorities),
        allowed_sans: settings.allowed_sans.clone(),
    };
    let builder = match clients::verifier(trust, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config =
        builder.with_single_cert(certificates, key).map_err(|error| ConfigError::KeyPair(error.to_string()))?;
    config.alpn_protocols = if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(config)
}

fn pair(material: &Material) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConfigError> {
    let pair = |text: String| ConfigError::KeyPair(text);
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&material.certificate).collect();
    let certificates = found.map_err(|error| pair(format!("cert_file: {error}")))?;
    if certificates.is_empty() {
        return Err(pair("failed to find any PEM data in certificate input".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&material.key).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            pair("failed to find any PEM data of a private key in key input".to_owned())
        }
        error => pair(format!("key_file: {error}")),
    })?;
    Ok((certificates, key))
}

type Offer = (CryptoProvider, Vec<&'static SupportedProtocolVersion>);

/// What is left of rustls' own offer after the settings.
fn offer(settings: &TlsSettings) -> Result<Offer, ConfigError> {
    let refuse = |text: String| Err(ConfigError::NotOffered(text));
    let mut provider = rustls::crypto::ring::default_provider();
    let (min, max) = settings.versions;
    if min < Version::Tls12 {
        tracing::warn!("min_version below TLS12 is taken as TLS12, the oldest version offered");
    }
    let mut versions = Vec::new();
    if max >= Version::Tls13 {
        versions.push(&TLS13);
    }
    if min <= Version::Tls12 && max >= Version::Tls12 {
        versions.push(&TLS12);
    }
    if versions.is_empty() {
        return refuse("no version of TLS is left; TLS12 and TLS13 are offered, set max_version to one of them".into());
    }
    if !settings.ciphers.is_empty() {
        let wanted: Vec<_> = settings.ciphers.iter().filter_map(|cipher| cipher.suite).collect();
        warn_missing("cipher_suites", settings.ciphers.iter().filter(|c| c.suite.is_none()).map(|c| c.name));
        // Those of TLS 1.3 are not for choosing, as in Go.
        provider.cipher_suites.retain(|suite| suite.tls13().is_some() || wanted.contains(&suite.suite()));
        if provider.cipher_suites.iter().all(|suite| suite.tls13().is_some()) {
            versions.retain(|version| version.version != rustls::ProtocolVersion::TLSv1_2);
        }
        if versions.is_empty() {
            return refuse("none of cipher_suites is offered; name one with ECDHE and GCM or POLY1305".into());
        }
    }
    if !settings.curves.is_empty() {
        provider.kx_groups = settings.curves.iter().filter_map(|curve| curves::group(curve.group)).collect();
        if provider.kx_groups.is_empty() {
            return refuse("none of curve_preferences is offered; name X25519, CurveP256 or CurveP384".into());
        }
    }
    Ok((provider, versions))
}

fn warn_missing<'a>(key: &str, names: impl Iterator<Item = &'a str>) {
    let names: Vec<&str> = names.collect();
    if !names.is_empty() {
        tracing::warn!(key, names = names.join(","), "known to Go and not offered here, left out");
    }
}
