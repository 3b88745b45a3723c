//! Every kind of credentials, and their files.

use super::{
    client, failure,
    server::{Seen, http, plain, with},
    text,
};
use parking_lot::Mutex;
use rcgen::KeyPair;
use runtime::Disk;

/// Writes through the seam, as everything that is written.
fn write(folder: &tempfile::TempDir, name: &str, text: &str) {
    let disk = Disk::open(folder.path().to_str().expect("UTF-8")).expect("a folder");
    disk.publish(name, text.as_bytes()).expect("written");
}

#[tokio::test]
async fn every_kind_of_credentials_reaches_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder, "name", " ann\n");
    write(&folder, "word", "pass:word\n");
    let at = folder.path().display();
    let server = http(|seen| plain(seen.header("authorization"))).await;
    for (yaml, expected) in [
        ("{basic_auth: {username: ann, password: 'pass:word'}}".to_owned(), "Basic YW5uOnBhc3M6d29yZA=="),
        (
            format!("{{basic_auth: {{username_file: {at}/name, password_file: {at}/word}}}}"),
            "Basic YW5uOnBhc3M6d29yZA==",
        ),
        ("{basic_auth: {username: ann}}".to_owned(), "Basic YW5uOg=="),
        ("{authorization: {credentials: t}}".to_owned(), "Bearer t"),
        ("{authorization: {type: ' Token ', credentials: t}}".to_owned(), "Token t"),
        (format!("{{authorization: {{credentials_file: {at}/word}}}}"), "Bearer pass:word"),
        ("{bearer_token: t}".to_owned(), "Bearer t"),
        (format!("{{bearer_token_file: {at}/word}}"), "Bearer pass:word"),
        ("{}".to_owned(), ""),
    ] {
        assert_eq!(text(&client(&yaml), &server.url("/")).await, expected, "{yaml}");
    }
}

#[tokio::test]
async fn files_are_read_for_every_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().display();
    let server = http(|seen| plain(format!("{} {}", seen.header("authorization"), seen.header("x-key")))).await;
    let client = client(&format!(
        "{{authorization: {{credentials_file: {at}/token}}, http_headers: {{x-key: {{files: [{at}/key]}}}}}}"
    ));
    let url = server.url("/");
    assert_eq!(
        failure(&client, &url).await,
        format!(
            "Get \"{url}\": unable to read authorization credentials: unable to read file {at}/token: open {at}/token: \
             no such file or directory"
        )
    );
    write(&folder, "token", "one");
    assert!(failure(&client, &url).await.contains("unable to read headers file"));
    write(&folder, "key", "k");
    assert_eq!(text(&client, &url).await, "Bearer one k");
    write(&folder, "token", "two\n");
    assert_eq!(text(&client, &url).await, "Bearer two k");
    write(&folder, "token", "t\nwo");
    assert!(failure(&client, &url).await.contains("invalid header field value"));
    assert!(server.seen().iter().all(|one| one.connection == 0));
}

/// A server of tokens `t1`, `t2` and so on.
async fn issuer(
    answer: impl Fn(&Seen, usize) -> super::server::Answer + Send + Sync + 'static,
) -> super::server::Server {
    let count = Mutex::new(0);
    http(move |seen| {
        let mut count = count.lock();
        *count += 1;
        answer(seen, *count)
    })
    .await
}

fn token(number: usize, lifetime: u64) -> super::server::Answer {
    let json = format!("{{\"access_token\": \"t{number}\", \"token_type\": \"bearer\", \"expires_in\": {lifetime}}}");
    with(200, "content-type", "application/json", json)
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_kept() {
    let issuer = issuer(|_, number| token(number, 3600)).await;
    let server = http(|seen| plain(seen.header("authorization"))).await;
    let client = client(&format!(
        "{{oauth2: {{client_id: i d, client_secret: s&t, scopes: [a, b], endpoint_params: {{x: y z}}, token_url: '{}'}}}}",
        issuer.url("/token")
    ));
    let url = server.url("/");
    let all = tokio::join!(text(&client, &url), text(&client, &url), text(&client, &url));
    assert_eq!(all, ("Bearer t1".into(), "Bearer t1".into(), "Bearer t1".into()));
    let asked = issuer.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].body, "grant_type=client_credentials&scope=a+b&x=y+z");
    assert_eq!(asked[0].header("authorization"), "Basic aStkOnMlMjZ0", "i+d:s%26t");
    assert_eq!(asked[0].header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(asked[0].header("user-agent"), "tester/1");
}

#[tokio::test]
async fn an_expired_token_and_a_new_secret_ask_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let issuer = issuer(|_, number| token(number, if number == 1 { 5 } else { 3600 })).await;
    let server = http(|seen| plain(seen.header("authorization"))).await;
    write(&folder, "secret", "one");
    let client = client(&format!(
        "{{oauth2: {{client_id: i, client_secret_file: {}/secret, token_url: '{}'}}}}",
        folder.path().display(),
        issuer.url("/")
    ));
    let url = server.url("/");
    assert_eq!(text(&client, &url).await, "Bearer t1");
    // Ten seconds before its end a token counts as expired.
    assert_eq!(text(&client, &url).await, "Bearer t2");
    assert_eq!(text(&client, &url).await, "Bearer t2");
    write(&folder, "secret", "two");
    assert_eq!(text(&client, &url).await, "Bearer t3");
    assert_eq!(issuer.last().header("authorization"), "Basic aTp0d28=");
}

#[tokio::test]
async fn servers_that_want_the_client_in_the_body_get_it_there() {
    let issuer = issuer(|seen, number| match seen.header("authorization").is_empty() {
        true => with(200, "content-type", "text/plain", format!("access_token=t{number}&token_type=mac")),
        false => with(401, "content-type", "text/plain", "no"),
    })
    .await;
    let server = http(|seen| plain(seen.header("authorization"))).await;
    let client = client(&format!("{{oauth2: {{client_id: i, client_secret: s, token_url: '{}'}}}}", issuer.url("/")));
    assert_eq!(text(&client, &server.url("/")).await, "MAC t2");
    assert_eq!(issuer.last().body, "client_id=i&client_secret=s&grant_type=client_credentials");
}

#[tokio::test]
async fn refused_tokens_say_why() {
    let server = http(|_| plain("")).await;
    let url = server.url("/");
    for (status, body, expected) in [
        (400, r#"{"error": "invalid_client"}"#, "oauth2: \"invalid_client\""),
        (400, r#"{"error": "invalid_client", "error_description": "who?"}"#, "oauth2: \"invalid_client\" \"who?\""),
        (500, "oops", "oauth2: cannot fetch token: 500 Internal Server Error\nResponse: oops"),
        (200, "{}", "oauth2: server response missing access_token"),
        (200, "x", "oauth2: cannot parse json: expected value at line 1 column 1"),
    ] {
        let issuer = issuer(move |_, _| with(status, "content-type", "application/json", body)).await;
        let client = client(&format!("{{oauth2: {{client_id: i, token_url: '{}'}}}}", issuer.url("/")));
        assert_eq!(failure(&client, &url).await, format!("Get \"{url}\": {expected}"));
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_signed_assertion_stands_for_a_secret() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use ring::signature::{RSA_PKCS1_2048_8192_SHA384, UnparsedPublicKey};

    let pem = include_str!("rsa.pem");
    let key = KeyPair::from_pem(pem).expect("a key");
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder, "key", pem);
    let issuer = issuer(|_, number| token(number, 3600)).await;
    let server = http(|seen| plain(seen.header("authorization"))).await;
    let client = client(&format!(
        "{{oauth2: {{client_id: i, grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', scopes: [a, b], \
         client_certificate_key_file: {}/key, client_certificate_key_id: k, signature_algorithm: RS384, \
         claims: {{extra: [1, x]}}, token_url: '{}'}}}}",
        folder.path().display(),
        issuer.url("/")
    ));
    assert_eq!(text(&client, &server.url("/")).await, "Bearer t1");
    let form: Vec<(String, String)> = form_urlencoded::parse(issuer.last().body.as_bytes()).into_owned().collect();
    assert_eq!(form[0], ("grant_type".into(), crate::config::JWT_BEARER.into()));
    let (signed, signature) = form[1].1.rsplit_once('.').expect("three parts");
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64");
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA384, key.public_key_raw());
    public.verify(signed.as_bytes(), &decode(signature)).expect("the signature holds");
    let (head, claims) = signed.split_once('.').expect("two parts");
    let head: serde_json::Value = serde_json::from_slice(&decode(head)).expect("JSON");
    assert_eq!(head, serde_json::json!({"alg": "RS384", "typ": "JWT", "kid": "k"}));
    let claims: serde_json::Value = serde_json::from_slice(&decode(claims)).expect("JSON");
    for (name, expected) in [
        ("iss", serde_json::json!("i")),
        ("sub", serde_json::json!("i")),
        ("aud", serde_json::json!(issuer.url("/"))),
        ("scope", serde_json::json!("a b")),
        ("extra", serde_json::json!([1, "x"])),
    ] {
        assert_eq!(claims[name], expected, "{name}");
    }
    assert_eq!(claims["exp"].as_i64(), claims["iat"].as_i64().map(|made| made + 600));
}
