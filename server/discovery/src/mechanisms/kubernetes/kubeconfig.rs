//! Files that tell a client which API server to call and how: `kubeconfig_file`, and what every pod finds in itself.
//!
//! Source of truth: the page on kubeconfig files of the Kubernetes documentation. Plugins that fetch credentials
//! (`exec`, `auth-provider`) are refused.

use client::{Authorization, BasicAuth, HttpConfig, Secret, TlsConfig};
use serde::Deserialize;
use std::path::Path;

/// Where a pod finds its account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Which server is called, and how.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Access {
    pub(super) server: String,
    pub(super) http: HttpConfig,
    /// The namespace that the access is made for.
    pub(super) namespace: String,
}

/// The server of the cluster that this process runs in.
///
/// # Errors
/// When it runs in none.
pub(super) fn in_cluster(variable: impl Fn(&str) -> Option<String>) -> Result<Access, String> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let (Some(host), Some(port)) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT")) else {
        return Err(
            "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must \
                    be defined"
                .into(),
        );
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let tls = TlsConfig { ca_file: Some(format!("{ACCOUNT}/ca.crt").into()), ..TlsConfig::default() };
    let token = Authorization { credentials_file: Some(format!("{ACCOUNT}/token").into()), ..Authorization::default() };
    let http = HttpConfig { tls_config: Some(tls), authorization: Some(token), ..HttpConfig::default() };
    Ok(Access { server: format!("https://{host}:{port}"), http, namespace: own_namespace() })
}

/// The namespace of this pod; empty outside of one.
pub(super) fn own_namespace() -> String {
    std::fs::read_to_string(format!("{ACCOUNT}/namespace")).map(|text| text.trim().to_owned()).unwrap_or_default()
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    current_context: String,
    contexts: Vec<ContextEntry>,
    clusters: Vec<ClusterEntry>,
    users: Vec<UserEntry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContextEntry {
    name: String,
    context: ContextParts,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContextParts {
    cluster: String,
    user: String,
    namespace: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClusterEntry {
    name: String,
    cluster: Cluster,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UserEntry {
    name: String,
    user: User,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
}

/// Reads a kubeconfig's text; relative paths in it start at `folder`.
///
/// # Errors
/// What is missing or not understood.
pub(super) fn parse(text: &str, folder: &Path) -> Result<Access, String> {
    let file: File = serde_saphyr::from_str(text)
        .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())?;
    let none = |what: &str, name: &str| format!("no {what} {name:?}");
    let context = file.contexts.into_iter().find(|one| one.name == file.current_context);
    let context = context.ok_or_else(|| none("context", &file.current_context))?.context;
    let cluster = file.clusters.into_iter().find(|one| one.name == context.cluster);
    let cluster = cluster.ok_or_else(|| none("cluster", &context.cluster))?.cluster;
    let user = file.users.into_iter().find(|one| one.name == context.user).map(|one| one.user).unwrap_or_default();
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Err(
            "credentials from plugins (exec, auth-provider) are not built; give a token or a certificate".into()
        );
    }
    let tls = TlsConfig {
        ca: decoded(cluster.certificate_authority_data)?,
        ca_file: cluster.certificate_authority.map(Into::into),
        cert: decoded(user.client_certificate_data)?,
        cert_file: user.client_certificate.map(Into::into),
        key: decoded(user.client_key_data)?.map(Secret::new),
        key_file: user.client_key.map(Into::into),
        server_name: cluster.tls_server_name,
        insecure_skip_verify: cluster.insecure_skip_tls_verify,
        ..TlsConfig::default()
    };
    let bearer = user.token.is_some() || user.token_file.is_some();
    let mut http = HttpConfig {
        tls_config: Some(tls),
        authorization: bearer.then(|| Authorization {
            credentials: user.token.map(Secret::new),
            credentials_file: user.token_file.map(Into::into),
            ..Authorization::default()
        }),
        basic_auth: user.username.map(|username| BasicAuth {
            username: Some(username),
            password: user.password.map(Secret::new),
            ..BasicAuth::default()
        }),
        proxy_url: cluster.proxy_url.map(client::ProxyUrl::new),
        ..HttpConfig::default()
    };
    http.set_directory(folder);
    Ok(Access { server: cluster.server, http, namespace: context.namespace })
}

fn decoded(data: Option<String>) -> Result<Option<String>, String> {
    use base64::Engine as _;
    let decode = |data: String| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(data.trim()).map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map_err(|error| error.to_string())
    };
    data.map(decode).transpose().map_err(|error| format!("certificate data: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: v1
kind: Config
current-context: a
contexts: [{name: a, context: {cluster: c, user: u, namespace: n}}]
clusters: [{name: c, cluster: {server: 'https://h:6443', certificate-authority-data: UEVN}}]
users: [{name: u, user: {token: t, client-certificate: cert.pem, client-key: /k.pem}}]
";

    #[test]
    fn the_current_context_says_who_is_called_and_how() {
        let access = parse(FILE, Path::new("/etc/k")).expect("valid");
        assert_eq!((access.server.as_str(), access.namespace.as_str()), ("https://h:6443", "n"));
        let tls = access.http.tls_config.as_ref().expect("given");
        assert_eq!(tls.ca.as_deref(), Some("PEM"));
        assert_eq!(tls.cert_file.as_deref(), Some(Path::new("/etc/k/cert.pem")));
        assert_eq!(tls.key_file.as_deref(), Some(Path::new("/k.pem")));
        assert!(access.http.authorization.is_some() && access.http.validate().is_ok());
        for (from, to, want) in [
            ("current-context: a", "current-context: b", "no context \"b\""),
            ("cluster: c,", "cluster: x,", "no cluster \"x\""),
            ("token: t", "exec: {command: x}", "plugins"),
            ("UEVN", "'*'", "certificate data"),
        ] {
            let error = parse(&FILE.replace(from, to), Path::new("")).expect_err(to);
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn a_pod_knows_its_server_by_its_environment() {
        let inside = |name: &str| Some(if name.ends_with("HOST") { "fd00::1" } else { "443" }.to_owned());
        let access = in_cluster(inside).expect("inside");
        assert_eq!(access.server, "https://[fd00::1]:443");
        assert!(in_cluster(|_| None).expect_err("outside").contains("KUBERNETES_SERVICE_HOST"));
    }
}
