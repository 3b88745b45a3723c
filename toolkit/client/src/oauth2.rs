//! Tokens from an OAuth2 server: asked for once, kept until shortly before they expire.
//!
//! Source of truth: RFC 6749 section 4.4 (client credentials), RFC 7523 section 2.1 (signed assertions), and
//! `golang.org/x/oauth2` for what servers are tolerated: the client is named by a header first and, when that fails, in
//! the body, and what worked is remembered.

use crate::{
    BuildError, Cause, Client, HttpConfig, Options, Request,
    client::header,
    config::{self, JWT_BEARER, OAuth2},
    dial, jwt,
};
use bytes::Bytes;
use form_urlencoded::{Serializer, byte_serialize};
use http::{
    HeaderMap, HeaderValue, Method,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use runtime::{Clock, Monotonic};
use std::{collections::BTreeMap, time::Duration};
use tokio::sync::Mutex;

/// How long before its end a token counts as expired, as Go.
const EARLY: Duration = Duration::from_secs(10);

/// Time for an answer when the caller has more.
const DEADLINE: Duration = Duration::from_secs(30);

/// Bytes of an answer.
const ANSWER_MAX: u64 = 1 << 20;

/// The token of one client.
pub(crate) struct Tokens {
    section: OAuth2,
    client: Client,
    clock: Clock,
    /// Locked while one is asked for, so that only one is.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    style: Option<Style>,
}

struct Token {
    header: HeaderValue,
    expires: Option<Monotonic>,
    /// What it was obtained with.
    secret: String,
}

/// Where the client names itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Header,
    Body,
}

/// What a server answers.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Answer {
    access_token: String,
    token_type: String,
    expires_in: serde_json::Value,
    error: String,
    error_description: String,
}

impl Tokens {
    pub(crate) fn new(section: &OAuth2, options: &Options) -> Result<Self, BuildError> {
        let http = HttpConfig {
            tls_config: section.tls_config.clone(),
            enable_http2: Some(false),
            proxy_url: section.proxy_url.clone(),
            no_proxy: section.no_proxy.clone(),
            proxy_from_environment: section.proxy_from_environment,
            proxy_connect_header: section.proxy_connect_header.clone(),
            ..HttpConfig::default()
        };
        let options = Options { idle_per_host: 1, idle_timeout: Duration::from_secs(10), ..options.clone() };
        let clock = options.clock.clone();
        Ok(Self { section: section.clone(), client: Client::new(http, options)?, clock, state: Mutex::default() })
    }

    /// An `Authorization` header. Waits while another request asks for the token.
    pub(crate) async fn header(&self, secret: &str) -> Result<HeaderValue, Cause> {
        let mut state = self.state.lock().await;
        if let Some(token) = &state.token
            && token.secret == secret
            && token.expires.is_none_or(|expires| self.clock.now() < expires)
        {
            return Ok(token.header.clone());
        }
        let token = self.ask(secret, &mut state.style).await.map_err(Cause::Token)?;
        let header = token.header.clone();
        state.token = Some(token);
        Ok(header)
    }

    async fn ask(&self, secret: &str, style: &mut Option<Style>) -> Result<Token, String> {
        let styles = match style {
            _ if self.section.signs() => &[Style::Body][..],
            Some(Style::Header) => &[Style::Header],
            Some(Style::Body) => &[Style::Body],
            None => &[Style::Header, Style::Body],
        };
        let mut failed = String::new();
        for one in styles {
            match self.ask_so(secret, *one).await {
                Ok(token) => {
                    *style = Some(*one);
                    return Ok(token);
                }
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }

    async fn ask_so(&self, secret: &str, style: Style) -> Result<Token, String> {
        let url = config::text(&self.section.token_url).unwrap_or_default();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let form = if self.section.signs() {
            let assertion = jwt::assertion(&self.section, secret, self.clock.unix_ms() / 1000)?;
            Serializer::new(String::new())
                .append_pair("grant_type", JWT_BEARER)
                .append_pair("assertion", &assertion)
                .finish()
        } else {
            if style == Style::Header {
                let id = config::text(&self.section.client_id).unwrap_or_default();
                let escape = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                let value = header(&dial::basic(&(escape(id), escape(secret)))).map_err(|cause| cause.to_string())?;
                headers.insert(AUTHORIZATION, value);
            }
            self.form(secret, style)
        };
        let request = Request {
            method: Method::POST,
            headers,
            body: Bytes::from(form),
            ..Request::get(url, DEADLINE, ANSWER_MAX)
        };
        let mut body = Vec::new();
        // The client asks through itself, with a section that has no tokens.
        let fetched = Box::pin(self.client.fetch(&request, &mut body)).await;
        let response = fetched.map_err(|error| error.to_string())?;
        let kind = response.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let answer = Answer::read(kind, &body);
        if !response.status.is_success() {
            return Err(refusal(&response.status_line, &answer.unwrap_or_default(), &body));
        }
        let answer = answer?;
        if !answer.error.is_empty() {
            return Err(refusal(&response.status_line, &answer, &body));
        }
        if answer.access_token.is_empty() {
            return Err("oauth2: server response missing access_token".into());
        }
        let value = header(&format!("{} {}", answer.kind(), answer.access_token)).map_err(|cause| cause.to_string())?;
        let expires = answer.lifetime().map(|lifetime| self.clock.now() + lifetime.saturating_sub(EARLY));
        Ok(Token { header: value, expires, secret: secret.to_owned() })
    }

    /// Sorted by name, as Go writes forms.
    fn form(&self, secret: &str, style: Style) -> String {
        let mut form = BTreeMap::from([("grant_type", "client_credentials".to_owned())]);
        if let Some(scopes) = self.section.scopes.as_deref().filter(|scopes| !scopes.is_empty()) {
            form.insert("scope", scopes.join(" "));
        }
        let params = self.section.endpoint_params.iter().flatten();
        form.extend(params.map(|(name, value)| (name.as_str(), value.clone())));
        if style == Style::Body {
            form.insert("client_id", config::text(&self.section.client_id).unwrap_or_default().to_owned());
            if !secret.is_empty() {
                form.insert("client_secret", secret.to_owned());
            }
        }
        Serializer::new(String::new()).extend_pairs(form).finish()
    }
}

impl Answer {
    /// JSON, or a form from servers that were there before the standard.
    fn read(kind: &str, body: &[u8]) -> Result<Self, String> {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !matches!(kind, "application/x-www-form-urlencoded" | "text/plain") {
            return serde_json::from_slice(body).map_err(|error| format!("oauth2: cannot parse json: {error}"));
        }
        let mut answer = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            match &*name {
                "access_token" => answer.access_token = value.into_owned(),
                "token_type" => answer.token_type = value.into_owned(),
                "expires_in" => answer.expires_in = value.into_owned().into(),
                "error" => answer.error = value.into_owned(),
                "error_description" => answer.error_description = value.into_owned(),
                _ => {}
            }
        }
        Ok(answer)
    }

    fn kind(&self) -> &str {
        let known = ["Bearer", "MAC", "Basic"];
        match known.into_iter().find(|known| known.eq_ignore_ascii_case(&self.token_type)) {
            Some(known) => known,
            None if self.token_type.is_empty() => "Bearer",
            None => &self.token_type,
        }
    }

    /// None is for ever.
    fn lifetime(&self) -> Option<Duration> {
        let seconds = match &self.expires_in {
            serde_json::Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }
}

fn refusal(status: &str, answer: &Answer, body: &[u8]) -> String {
    match (answer.error.as_str(), answer.error_description.as_str()) {
        ("", _) => format!("oauth2: cannot fetch token: {status}\nResponse: {}", String::from_utf8_lossy(body)),
        (error, "") => format!("oauth2: {error:?}"),
        (error, description) => format!("oauth2: {error:?} {description:?}"),
    }
}
