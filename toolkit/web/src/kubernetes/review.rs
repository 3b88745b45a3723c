//! The two questions to the API server and its answers.

use super::settings::{Attributes, Settings};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use client::{Client, Encoding, FetchError, HttpConfig, Options, Request};
use runtime::{Clock, Tasks};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, time::Duration};

const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
/// Bytes of an answer.
const ANSWER_MAX: u64 = 1 << 20;
/// Bytes of a refusal that are shown.
const SHOWN_MAX: usize = 256;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Client(#[from] client::BuildError),
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("{url}: {status}: {text}; does the service account have create on {what}?")]
    Refused { url: String, status: String, text: String, what: &'static str },
    #[error("{url}: the answer is not what it should be: {cause}")]
    Form { url: String, cause: serde_json::Error },
}

/// Who a token belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct User {
    pub(super) username: String,
    pub(super) uid: String,
    pub(super) groups: Vec<String>,
    pub(super) extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Everything that can make a difference to what is allowed, so that no two users are the same.
    pub(super) fn identity(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut part = |text: &str| {
            out.extend_from_slice(&(text.len() as u64).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        };
        part(&self.username);
        part(&self.uid);
        self.groups.iter().for_each(|group| part(group));
        for (name, values) in &self.extra {
            // No length is this long, so that a name is not one more group or value.
            part("\u{0}extra");
            part(name);
            values.iter().for_each(|value| part(value));
        }
        out
    }
}

#[derive(Debug, Default, Deserialize)]
struct Reviewed<S: Default> {
    #[serde(default)]
    status: S,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenStatus {
    authenticated: bool,
    user: User,
    audiences: Vec<String>,
    error: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AccessStatus {
    allowed: bool,
    denied: bool,
}

/// The API server and how it is called.
pub(super) struct Api {
    client: Client,
    server: String,
    audiences: Vec<String>,
    resource: Option<Attributes>,
    deadline: Duration,
    clock: Clock,
}

impl Api {
    pub(super) fn new(settings: &Settings, clock: &Clock, tasks: &Tasks) -> Result<Self, Failure> {
        let section = HttpConfig {
            authorization: settings
                .token_file
                .clone()
                .map(|file| client::Authorization { credentials_file: Some(file), ..client::Authorization::default() }),
            tls_config: settings
                .ca_file
                .clone()
                .map(|file| client::TlsConfig { ca_file: Some(file), ..client::TlsConfig::default() }),
            // A redirect would carry the token of a user elsewhere.
            follow_redirects: Some(false),
            ..HttpConfig::default()
        };
        Ok(Self {
            client: Client::new(section, Options::new(clock.clone(), tasks.clone(), "narthex"))?,
            server: settings.server.clone(),
            audiences: settings.audiences.clone(),
            resource: settings.resource_attributes.clone(),
            deadline: settings.deadline,
            clock: clock.clone(),
        })
    }

    /// Who a token belongs to; none when it is nobody's, or not meant for this audience.
    pub(super) async fn token(&self, token: &str) -> Result<Option<User>, Failure> {
        let mut spec = Map::from_iter([("token".to_owned(), json!(token))]);
        if !self.audiences.is_empty() {
            spec.insert("audiences".to_owned(), json!(self.audiences));
        }
        let asked = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec });
        let Reviewed::<TokenStatus> { status } = self.ask(TOKEN_REVIEWS, &asked, "tokenreviews").await?;
        if !status.error.is_empty() {
            tracing::debug!(error = status.error, "the cluster does not take the token");
        }
        // A server that knows nothing of audiences answers with none: its word is not enough then.
        let meant = self.audiences.is_empty() || self.audiences.iter().any(|own| status.audiences.contains(own));
        Ok(Some(status.user).filter(|user| status.authenticated && meant && !user.username.is_empty()))
    }

    /// Whether a user may.
    pub(super) async fn access(&self, user: &User, verb: &str, path: &str) -> Result<bool, Failure> {
        let mut spec = Map::new();
        spec.insert("user".to_owned(), json!(user.username));
        for (key, value, empty) in [
            ("groups", json!(user.groups), user.groups.is_empty()),
            ("uid", json!(user.uid), user.uid.is_empty()),
            ("extra", json!(user.extra), user.extra.is_empty()),
        ] {
            if !empty {
                spec.insert(key.to_owned(), value);
            }
        }
        match &self.resource {
            Some(resource) => spec.insert("resourceAttributes".to_owned(), resource.json(verb)),
            None => spec.insert("nonResourceAttributes".to_owned(), json!({ "path": path, "verb": verb })),
        };
        let asked = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec });
        let Reviewed::<AccessStatus> { status } = self.ask(ACCESS_REVIEWS, &asked, "subjectaccessreviews").await?;
        Ok(status.allowed && !status.denied)
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str, asked: &Value, what: &'static str) -> Result<T, Failure> {
        let url = format!("{}{path}", self.server);
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, json.clone()), (header::ACCEPT, json)]);
        let end = self.clock.now() + self.deadline;
        let request = |deadline| Request {
            method: Method::POST,
            headers: headers.clone(),
            body: asked.to_string().into(),
            accept: &[Encoding::Gzip],
            ..Request::get(&url, deadline, ANSWER_MAX)
        };
        let mut body = Vec::new();
        // A review changes nothing, so that one that met a connection just given up is asked again.
        let answer = match self.client.fetch(&request(self.deadline), &mut body).await {
            Err(error) if !error.is_deadline() => self.client.fetch(&request(end - self.clock.now()), &mut body).await,
            answer => answer,
        }?;
        if !answer.status.is_success() {
            let text = String::from_utf8_lossy(&body);
            let text = text[..text.floor_char_boundary(SHOWN_MAX)].trim().to_owned();
            return Err(Failure::Refused { url, status: answer.status_line, text, what });
        }
        serde_json::from_slice(&body).map_err(|cause| Failure::Form { url, cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_users_are_the_same() {
        let user = |name: &str, groups: &[&str], extra: &[(&str, &[&str])]| {
            let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            let extra = extra.iter().map(|(name, values)| ((*name).to_owned(), owned(values))).collect();
            User { username: name.to_owned(), uid: String::new(), groups: owned(groups), extra }.identity()
        };
        let all = [
            user("a", &[], &[]),
            user("a", &["b"], &[]),
            user("ab", &[], &[]),
            user("a", &["b", "c"], &[]),
            user("a", &["b"], &[("c", &[])]),
            user("a", &[], &[("b", &["c"])]),
            user("a", &[], &[("b", &[]), ("c", &[])]),
        ];
        for (index, identity) in all.iter().enumerate() {
            assert!(!all[..index].contains(identity), "{index}");
        }
    }
}
