//! Go's names of what TLS can do, and what of it rustls offers.
//!
//! A name that Go knows and rustls does not offer is no mistake of the user: it is left out with a warning as long as
//! something else remains. What Go does not know is refused, as there.

use crate::config::ConfigError;
use rustls::{CipherSuite, NamedGroup};

/// `min_version` and `max_version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

impl Version {
    pub(crate) fn parse(name: &str) -> Result<Self, ConfigError> {
        Ok(match name {
            "TLS10" => Self::Tls10,
            "TLS11" => Self::Tls11,
            "TLS12" => Self::Tls12,
            "TLS13" => Self::Tls13,
            _ => return Err(ConfigError::Version(name.to_owned())),
        })
    }
}

/// `client_auth_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthType {
    None,
    Request,
    RequireAny,
    VerifyIfGiven,
    RequireAndVerify,
}

impl AuthType {
    pub(crate) fn parse(name: &str) -> Result<Self, ConfigError> {
        Ok(match name {
            "" | "NoClientCert" => Self::None,
            "RequestClientCert" => Self::Request,
            "RequireAnyClientCert" | "RequireClientCert" => Self::RequireAny,
            "VerifyClientCertIfGiven" => Self::VerifyIfGiven,
            "RequireAndVerifyClientCert" => Self::RequireAndVerify,
            _ => return Err(ConfigError::AuthType(name.to_owned())),
        })
    }
}

/// One of `cipher_suites`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cipher {
    pub(crate) name: &'static str,
    /// What rustls calls it, if it has it.
    pub(crate) suite: Option<CipherSuite>,
}

/// The suites that Go calls secure.
const CIPHERS: &[Cipher] = &[
    offered("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    offered("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    offered("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    offered("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    offered("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    offered("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    offered("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    offered(
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    offered("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    missing("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
    missing("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"),
    missing("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"),
    missing("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"),
];

const fn offered(name: &'static str, suite: CipherSuite) -> Cipher {
    Cipher { name, suite: Some(suite) }
}

const fn missing(name: &'static str) -> Cipher {
    Cipher { name, suite: None }
}

impl Cipher {
    pub(crate) fn parse(name: &str) -> Result<Self, ConfigError> {
        let found = CIPHERS.iter().find(|cipher| cipher.name == name);
        found.copied().ok_or_else(|| ConfigError::Cipher(name.to_owned()))
    }

    /// Whether HTTP/2 over TLS 1.2 may rely on it (RFC 9113, 9.2.2).
    pub(crate) fn suits_http2(self) -> bool {
        let required =
            [CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];
        self.suite.is_some_and(|suite| required.contains(&suite))
    }
}

/// One of `curve_preferences`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Curve {
    name: &'static str,
    pub(crate) group: NamedGroup,
}

const CURVES: &[Curve] = &[
    Curve { name: "CurveP256", group: NamedGroup::secp256r1 },
    Curve { name: "CurveP384", group: NamedGroup::secp384r1 },
    Curve { name: "CurveP521", group: NamedGroup::secp521r1 },
    Curve { name: "X25519", group: NamedGroup::X25519 },
];

impl Curve {
    pub(crate) fn parse(name: &str) -> Result<Self, ConfigError> {
        let found = CURVES.iter().find(|curve| curve.name == name);
        found.copied().ok_or_else(|| ConfigError::Curve(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_is_offered() {
        for curve in CURVES {
            assert!(crate::curves::group(curve.group).is_some(), "{}", curve.name);
        }
    }

    /// A suite that is called offered has to be there, and one that is called missing must not be.
    #[test]
    fn what_is_called_offered_is_in_the_provider() {
        let provider = rustls::crypto::ring::default_provider();
        let there: Vec<CipherSuite> = provider.cipher_suites.iter().map(|suite| suite.suite()).collect();
        for cipher in CIPHERS {
            if let Some(suite) = cipher.suite {
                assert!(there.contains(&suite), "{}", cipher.name);
            }
        }
        assert_eq!(there.len(), CIPHERS.iter().filter(|cipher| cipher.suite.is_some()).count());
    }

    #[test]
    fn the_old_spelling_of_required_certificates_is_known() {
        assert_eq!(AuthType::parse("RequireClientCert").ok(), Some(AuthType::RequireAny));
        assert_eq!(AuthType::parse("x").map_err(|error| error.to_string()), Err("invalid ClientAuth: x".into()));
    }
}
