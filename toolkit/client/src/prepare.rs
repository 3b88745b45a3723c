//! What a request takes from its section: credentials, headers, certificates, read from their files.
//!
//! Files are read whenever a request is made, so that what was rotated is used at once, as upstream.

use crate::{
    Cause, HttpConfig,
    config::{self, BasicAuth},
    dial, texts,
    tls::{Inputs, Text},
};
use http::{HeaderName, HeaderValue};
use std::{
    io::Read,
    path::{Path, PathBuf},
};

/// Bytes of a file with credentials or certificates.
const FILE_MAX: u64 = 1 << 20;

/// What the section says at this moment.
#[derive(Default)]
pub(crate) struct Prepared {
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) tls: Inputs,
    /// The secret, or the key, that tokens are asked for with.
    pub(crate) token_secret: String,
}

/// Whether the section names files, so that it has to be prepared for each request.
pub(crate) fn has_files(section: &HttpConfig) -> bool {
    let (basic, authorization) = (section.basic_auth.as_ref(), section.authorization.as_ref());
    let (oauth2, tls) = (section.oauth2.as_ref(), section.tls_config.as_ref());
    let files = [
        &section.bearer_token_file,
        basic.map_or(&None, |basic| &basic.username_file),
        basic.map_or(&None, |basic| &basic.password_file),
        authorization.map_or(&None, |authorization| &authorization.credentials_file),
        oauth2.map_or(&None, |oauth2| &oauth2.client_secret_file),
        oauth2.map_or(&None, |oauth2| &oauth2.client_certificate_key_file),
        tls.map_or(&None, |tls| &tls.ca_file),
        tls.map_or(&None, |tls| &tls.cert_file),
        tls.map_or(&None, |tls| &tls.key_file),
    ];
    let headers = section.http_headers.iter().flat_map(|all| all.values());
    files.into_iter().any(|file| config::path(file).is_some())
        || headers.filter_map(|header| header.files.as_ref()).any(|files| !files.is_empty())
}

/// Reads everything. Blocks on files.
pub(crate) fn prepare(section: &HttpConfig) -> Result<Prepared, Cause> {
    let authorization = authorization(section).and_then(|value| value.map(|value| hidden(&value)).transpose());
    Ok(Prepared {
        authorization: authorization.map_err(Cause::Credentials)?,
        headers: headers(section).map_err(Cause::Credentials)?,
        tls: certificates(section).map_err(Cause::Credentials)?,
        token_secret: token_secret(section).map_err(Cause::Credentials)?,
    })
}

/// A file's text without the white space around it.
fn read(file: &Path) -> Result<String, String> {
    let refuse = |why: String| format!("unable to read file {}: {why}", file.display());
    let system = |error| refuse(format!("open {}: {}", file.display(), texts::system(&error)));
    let mut bytes = Vec::new();
    std::fs::File::open(file).and_then(|open| open.take(FILE_MAX + 1).read_to_end(&mut bytes)).map_err(system)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(refuse("larger than 1 MiB".into()));
    }
    let text = String::from_utf8(bytes).map_err(|_| refuse("not UTF-8".into()))?;
    Ok(text.trim().to_owned())
}

/// What is written down, else what the file holds; empty when neither is given.
fn either(inline: Option<&str>, file: &Option<PathBuf>) -> Result<String, String> {
    match (inline, config::path(file)) {
        (Some(text), _) => Ok(text.to_owned()),
        (None, Some(file)) => read(file),
        (None, None) => Ok(String::new()),
    }
}

fn hidden(value: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| "net/http: invalid header field value for \"Authorization\"".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The `Authorization` header, unless it is a token that has to be asked for.
fn authorization(section: &HttpConfig) -> Result<Option<String>, String> {
    let failed = |why| format!("unable to read authorization credentials: {why}");
    if let Some(basic) = &section.basic_auth {
        return user(basic).map(Some);
    }
    if let Some(authorization) = &section.authorization {
        let text = either(config::secret(&authorization.credentials), &authorization.credentials_file);
        return Ok(Some(format!("{} {}", authorization.kind(), text.map_err(failed)?)));
    }
    let (inline, file) = (config::secret(&section.bearer_token), &section.bearer_token_file);
    if inline.is_none() && config::path(file).is_none() {
        return Ok(None);
    }
    Ok(Some(format!("Bearer {}", either(inline, file).map_err(failed)?)))
}

fn user(basic: &BasicAuth) -> Result<String, String> {
    let name = either(config::text(&basic.username), &basic.username_file)
        .map_err(|why| format!("unable to read basic auth username: {why}"))?;
    let password = either(config::secret(&basic.password), &basic.password_file)
        .map_err(|why| format!("unable to read basic auth password: {why}"))?;
    Ok(dial::basic(&(name, password)))
}

fn headers(section: &HttpConfig) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = Vec::new();
    for (name, header) in section.http_headers.iter().flatten() {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("net/http: invalid header field name {name:?}"))?;
        let mut add = |value: &str| {
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("net/http: invalid header field value for {:?}", config::canonical(name)))?;
            headers.push((parsed.clone(), value));
            Ok::<_, String>(())
        };
        header.values.iter().flatten().try_for_each(|value| add(value))?;
        header.secrets.iter().flatten().try_for_each(|value| add(value.expose()))?;
        for file in header.files.iter().flatten() {
            add(&read(file).map_err(|why| why.replacen("unable to read file", "unable to read headers file", 1))?)?;
        }
    }
    Ok(headers)
}

fn certificates(section: &HttpConfig) -> Result<Inputs, String> {
    let Some(tls) = &section.tls_config else { return Ok(Inputs::default()) };
    let text = |inline: Option<&str>, file: &Option<PathBuf>, what: &str| match (inline, config::path(file)) {
        (Some(pem), _) => Ok(Some(Text { pem: pem.to_owned(), origin: "inline".into() })),
        (None, Some(file)) => {
            let pem = read(file).map_err(|why| format!("unable to read {what}: {why}"))?;
            Ok(Some(Text { pem, origin: format!("file {}", file.display()) }))
        }
        (None, None) => Ok::<_, String>(None),
    };
    Ok(Inputs {
        ca: text(config::text(&tls.ca), &tls.ca_file, "CA cert")?,
        cert: text(config::text(&tls.cert), &tls.cert_file, "client cert")?,
        key: text(config::secret(&tls.key), &tls.key_file, "client key")?,
    })
}

fn token_secret(section: &HttpConfig) -> Result<String, String> {
    let Some(oauth2) = &section.oauth2 else { return Ok(String::new()) };
    let (what, read) = if oauth2.signs() {
        let file = &oauth2.client_certificate_key_file;
        ("client certificate key", either(config::secret(&oauth2.client_certificate_key), file))
    } else {
        ("client secret", either(config::secret(&oauth2.client_secret), &oauth2.client_secret_file))
    };
    read.map_err(|why| format!("unable to read oauth2 {what}: {why}"))
}
