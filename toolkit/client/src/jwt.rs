//! Assertions: a JSON web token signed with RSA (RFC 7519, RFC 7523).

use crate::config::{self, OAuth2};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{
    rand::{SecureRandom, SystemRandom},
    rsa::KeyPair,
    signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::{Map, Value, json};

/// Seconds for which an assertion holds.
const LIFETIME: i64 = 600;

/// The assertion for a section, signed with `key` (PEM), made at `now` (seconds since 1970).
pub(crate) fn assertion(section: &OAuth2, key: &str, now: i64) -> Result<String, String> {
    let random = SystemRandom::new();
    let (name, algorithm) = match config::text(&section.signature_algorithm) {
        Some("RS384") => ("RS384", &RSA_PKCS1_SHA384),
        Some("RS512") => ("RS512", &RSA_PKCS1_SHA512),
        _ => ("RS256", &RSA_PKCS1_SHA256),
    };
    let pair = key_pair(key)?;
    let mut id = [0; 16];
    random.fill(&mut id).map_err(|_| "oauth2: no randomness for an assertion")?;
    let mut head = json!({"alg": name, "typ": "JWT"});
    if let Some(key_id) = config::text(&section.client_certificate_key_id) {
        head["kid"] = key_id.into();
    }
    let claims = Value::Object(claims(section, &BASE64.encode(id), now));
    let message = format!("{}.{}", BASE64.encode(head.to_string()), BASE64.encode(claims.to_string()));
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(algorithm, &random, message.as_bytes(), &mut signature)
        .map_err(|_| "oauth2: client_certificate_key cannot sign; use an RSA key of at least 2048 bits")?;
    Ok(format!("{message}.{}", BASE64.encode(signature)))
}

fn claims(section: &OAuth2, id: &str, now: i64) -> Map<String, Value> {
    let client = config::text(&section.client_id).unwrap_or_default();
    let mut claims = Map::new();
    claims.insert("iss".into(), config::text(&section.iss).unwrap_or(client).into());
    claims.insert("sub".into(), client.into());
    claims.insert("jti".into(), id.into());
    let audience = config::text(&section.audience).or(config::text(&section.token_url));
    claims.insert("aud".into(), audience.unwrap_or_default().into());
    claims.insert("iat".into(), now.into());
    claims.insert("exp".into(), now.saturating_add(LIFETIME).into());
    if let Some(scopes) = section.scopes.as_deref().filter(|scopes| !scopes.is_empty()) {
        claims.insert("scope".into(), scopes.join(" ").into());
    }
    claims.extend(section.claims.iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
    claims
}

fn key_pair(key: &str) -> Result<KeyPair, String> {
    let refuse = |why: &dyn std::fmt::Display| format!("oauth2: client_certificate_key cannot be used: {why}");
    let pair = match PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| refuse(&error))? {
        PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(refuse(&"not an RSA key in PKCS#8 or PKCS#1")),
    };
    pair.map_err(|error| refuse(&error))
}
