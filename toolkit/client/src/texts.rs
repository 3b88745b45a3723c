//! What went wrong, in the words that users of upstream know: Go's.

use rustls::{AlertDescription, CertificateError, pki_types::ServerName};
use std::{error::Error, io};

/// What the system said, without its number: `connection refused`.
pub(crate) fn system(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

/// Why a name has no addresses.
pub(crate) fn lookup(host: &str, error: &io::Error) -> String {
    let text = error.to_string();
    let reason = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    let absent = ["Name or service not known", "No address associated with hostname"].contains(&reason);
    format!("lookup {host}: {}", if absent { "no such host" } else { reason })
}

/// The error of TLS within an I/O error.
fn tls_within(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// Why a handshake failed.
pub(crate) fn handshake(error: &io::Error, ends: &str) -> String {
    match tls_within(error) {
        Some(inner) => tls(inner),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".into(),
        None => format!("read tcp {ends}: read: {}", system(error)),
    }
}

fn tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(why) => {
            format!("tls: failed to verify certificate: x509: {}", certificate(why))
        }
        rustls::Error::AlertReceived(alert) => format!("remote error: tls: {}", self::alert(*alert)),
        rustls::Error::InvalidMessage(_) => "tls: first record does not look like a TLS handshake".into(),
        other => format!("tls: {other}"),
    }
}

fn certificate(error: &CertificateError) -> String {
    let expired = "certificate has expired or is not yet valid";
    match error {
        // An authority of the same name with another key is another authority.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "certificate signed by unknown authority".into()
        }
        CertificateError::Expired | CertificateError::NotValidYet => expired.into(),
        CertificateError::ExpiredContext { time, not_after } => {
            format!("{expired}: current time {} is after {}", time.as_secs(), not_after.as_secs())
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("{expired}: current time {} is before {}", time.as_secs(), not_before.as_secs())
        }
        CertificateError::NotValidForNameContext { expected, presented } => misnamed(expected, presented),
        other => other.to_string(),
    }
}

/// `presented` are written `DnsName("a")` and `IpAddress(1.2.3.4)`.
fn misnamed(expected: &ServerName<'_>, presented: &[String]) -> String {
    let (name, address) = (expected.to_str(), matches!(expected, ServerName::IpAddress(_)));
    let kind = if address { "IpAddress(" } else { "DnsName(" };
    let names = presented.iter().filter_map(|one| one.strip_prefix(kind)?.strip_suffix(')'));
    let names: Vec<&str> = names.map(|one| one.trim_matches('"')).collect();
    if !names.is_empty() {
        return format!("certificate is valid for {}, not {name}", names.join(", "));
    }
    if address {
        return format!("cannot validate certificate for {name} because it doesn't contain any IP SANs");
    }
    if presented.is_empty() {
        return "certificate relies on legacy Common Name field, use SANs instead".into();
    }
    format!("certificate is not valid for any names, but wanted to match {name}")
}

fn alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::HandshakeFailure => "handshake failure".into(),
        AlertDescription::BadCertificate => "bad certificate".into(),
        AlertDescription::UnsupportedCertificate => "unsupported certificate".into(),
        AlertDescription::CertificateRevoked => "revoked certificate".into(),
        AlertDescription::CertificateExpired => "expired certificate".into(),
        AlertDescription::CertificateUnknown => "unknown certificate".into(),
        AlertDescription::UnknownCA => "unknown certificate authority".into(),
        AlertDescription::AccessDenied => "access denied".into(),
        AlertDescription::ProtocolVersion => "protocol version not supported".into(),
        AlertDescription::InternalError => "internal error".into(),
        AlertDescription::UnrecognisedName => "unrecognized name".into(),
        AlertDescription::CertificateRequired => "certificate required".into(),
        AlertDescription::NoApplicationProtocol => "no application protocol".into(),
        other => format!("alert({other:?})"),
    }
}

/// Why an exchange over an open connection, between these ends, failed.
pub(crate) fn exchange(error: &(dyn Error + 'static), ends: Option<&str>) -> String {
    let mut next = Some(error);
    let mut last = String::new();
    while let Some(one) = next {
        if let Some(io) = one.downcast_ref::<io::Error>() {
            match tls_within(io) {
                Some(inner) => return tls(inner),
                None if io.kind() == io::ErrorKind::UnexpectedEof => return "unexpected EOF".into(),
                None if io.raw_os_error().is_some() => {
                    return format!("read tcp {}: read: {}", ends.unwrap_or_default(), system(io));
                }
                None if io.to_string().starts_with("Invalid chunk") => return "invalid byte in chunk length".into(),
                None => {}
            }
        }
        if let Some(hyper) = one.downcast_ref::<hyper::Error>() {
            if hyper.is_incomplete_message() {
                return "EOF".into();
            }
            if hyper.is_parse() {
                return "net/http: HTTP/1.x transport connection broken: malformed HTTP response".into();
            }
        }
        last = one.to_string();
        next = one.source();
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_words_read_as_gos() {
        for (number, expected) in [
            (111, "connection refused"),
            (113, "no route to host"),
            (101, "network is unreachable"),
            (104, "connection reset by peer"),
        ] {
            assert_eq!(system(&io::Error::from_raw_os_error(number)), expected);
        }
        let unknown = io::Error::other("failed to lookup address information: Name or service not known");
        assert_eq!(lookup("x.invalid", &unknown), "lookup x.invalid: no such host");
    }
}
