//! Certificates of clients: who has to show one, and which are believed.
//!
//! The truth is Go's `crypto/tls` under the policies of the exporter toolkit. Two of its habits are kept by hand: a
//! certificate that is itself in the pool is believed whatever it says about being an authority, and a policy that
//! verifies without a pool of its own verifies against the system's.

use crate::{config::ConfigError, names::AuthType};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use std::{net::IpAddr, sync::Arc};
use x509_cert::{
    Certificate,
    der::{Decode, oid::db::rfc5280},
    ext::pkix::{ExtendedKeyUsage, SubjectAltName, name::GeneralName},
};

/// What the settings say about clients.
pub(crate) struct Trust {
    pub(crate) auth: AuthType,
    /// The pool of the settings, if they name one; it may be empty.
    pub(crate) authorities: Option<Vec<CertificateDer<'static>>>,
    pub(crate) allowed_sans: Option<Vec<String>>,
}

/// The certificates in a PEM file. What is none is passed over, as Go does.
pub(crate) fn authorities(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect()
}

/// None where clients are not asked for a certificate.
pub(crate) fn verifier(
    trust: Trust,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, ConfigError> {
    let verify = match trust.auth {
        AuthType::None => return Ok(None),
        AuthType::Request | AuthType::RequireAny => false,
        AuthType::VerifyIfGiven | AuthType::RequireAndVerify => true,
    };
    let required = matches!(trust.auth, AuthType::RequireAny | AuthType::RequireAndVerify);
    let pool = match trust.authorities {
        Some(pool) => pool,
        None if verify => system_authorities(),
        None => Vec::new(),
    };
    let policy = if verify { Policy::verify(pool, provider)? } else { Policy::Any };
    Ok(Some(Arc::new(Verifier {
        policy,
        // A name that must be right has to be shown.
        mandatory: required || trust.allowed_sans.is_some(),
        allowed_sans: trust.allowed_sans,
        algorithms: provider.signature_verification_algorithms,
    })))
}

fn system_authorities() -> Vec<CertificateDer<'static>> {
    tracing::warn!("client certificates are verified against the system's authorities, as client_ca_file is not set");
    rustls_native_certs::load_native_certs().certs
}

/// How a certificate becomes believed.
#[derive(Debug)]
enum Policy {
    Any,
    /// The pool as it is, and a chain to it; there is no chain to an empty pool.
    Verified {
        pool: Vec<CertificateDer<'static>>,
        chain: Option<Arc<dyn ClientCertVerifier>>,
    },
}

impl Policy {
    fn verify(pool: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Result<Self, ConfigError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(pool.iter().cloned());
        if roots.is_empty() {
            tracing::warn!("no authority is known for client certificates, so none of them will be believed");
            return Ok(Self::Verified { pool, chain: None });
        }
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        let chain = chain.map_err(|error| ConfigError::NotOffered(format!("client_ca_file: {error}")))?;
        Ok(Self::Verified { pool, chain: Some(chain) })
    }

    fn check(&self, own: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        match self {
            Self::Any => Ok(()),
            Self::Verified { pool, .. } if pool.iter().any(|known| known == own) => valid_now(own, now),
            Self::Verified { chain: Some(chain), .. } => chain.verify_client_cert(own, others, now).map(drop),
            Self::Verified { chain: None, .. } => Err(CertificateError::UnknownIssuer.into()),
        }
    }
}

fn parse(certificate: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding.into())
}

/// What is left to check of a certificate that is in the pool: its time, and that it is meant for clients.
fn valid_now(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let certificate = parse(certificate)?;
    let body = certificate.tbs_certificate();
    let validity = body.validity();
    if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired.into());
    }
    let usage = body.get_extension::<ExtendedKeyUsage>().map_err(|_| Error::from(CertificateError::BadEncoding))?;
    let meant = [rfc5280::ID_KP_CLIENT_AUTH, rfc5280::ANY_EXTENDED_KEY_USAGE];
    match usage {
        Some((_, usage)) if !usage.0.iter().any(|purpose| meant.contains(purpose)) => {
            Err(CertificateError::InvalidPurpose.into())
        }
        _ => Ok(()),
    }
}

/// The names of a certificate that `client_allowed_sans` may list, in Go's spelling.
fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, Error> {
    let certificate = parse(certificate)?;
    let found = certificate.tbs_certificate().get_extension::<SubjectAltName>();
    let found = found.map_err(|_| Error::from(CertificateError::BadEncoding))?;
    let names = found.map(|(_, names)| names.0).unwrap_or_default();
    Ok(names.iter().filter_map(name).collect())
}

fn name(name: &GeneralName) -> Option<String> {
    Some(match name {
        GeneralName::DnsName(text) | GeneralName::Rfc822Name(text) => text.as_str().to_owned(),
        GeneralName::UniformResourceIdentifier(text) => text.as_str().to_owned(),
        GeneralName::IpAddress(bytes) => match bytes.as_bytes() {
            bytes if bytes.len() == 4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string(),
            bytes => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical().to_string(),
        },
        _ => return None,
    })
}

#[derive(Debug)]
struct Verifier {
    policy: Policy,
    mandatory: bool,
    allowed_sans: Option<Vec<String>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match &self.policy {
            Policy::Verified { chain: Some(chain), .. } => chain.root_hint_subjects(),
            _ => &[],
        }
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.policy.check(end_entity, intermediates, now)?;
        if let Some(allowed) = &self.allowed_sans
            && !names(end_entity)?.iter().any(|name| allowed.contains(name))
        {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
