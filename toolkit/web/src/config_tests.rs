//! The file's keys and refusals; the texts were seen on promtool 3.

use super::*;

fn parse(text: &str) -> Result<WebConfig, ConfigError> {
    WebConfig::parse(text.as_bytes(), Path::new("/etc/narthex/web.yml"))
}

/// What a start says about the text: nothing, or the first refusal.
fn refusal(text: &str) -> Option<String> {
    match parse(text) {
        Ok(config) => config.mistakes.first().map(ToString::to_string),
        Err(error) => Some(error.to_string()),
    }
}

const HASH: &str = "$2y$10$qRTBuFoULoYNA7AQ/F3ck.trZBPyjV64.oA4ZsSBCIWvXuvQlQTuu";

#[test]
fn refusals_have_the_words_of_upstream() {
    let cases = [
        ("", None),
        ("# nothing\n", None),
        ("tls_server_config:\n", None),
        ("tls_server_config: {prefer_server_cipher_suites: false}", None),
        ("http_server_config: {headers: {X-XSS-Protection: 1, Content-Security-Policy: ''}}", None),
        ("tls_server_config: {cipher_suites: [X]}", Some("unknown cipher: X")),
        (
            "tls_server_config: {cipher_suites: [TLS_RSA_WITH_AES_128_GCM_SHA256]}",
            Some("unknown cipher: TLS_RSA_WITH_AES_128_GCM_SHA256"),
        ),
        ("tls_server_config: {curve_preferences: [CurveP257]}", Some("unknown curve: CurveP257")),
        ("tls_server_config: {min_version: TLS111}", Some("unknown TLS version: TLS111")),
        ("tls_server_config: {min_version: 12}", Some("unknown TLS version: 12")),
        (
            "http_server_config: {headers: {x-frame-options: deny}}",
            Some("HTTP header \"x-frame-options\" can not be configured"),
        ),
        (
            "http_server_config: {headers: {X-Content-Type-Options: sniff}}",
            Some("invalid value for X-Content-Type-Options. Expected one of: [\"nosniff\"], but got: \"sniff\""),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(text).as_deref(), expected, "{text}");
    }
}

#[test]
fn what_is_not_of_the_form_names_the_file() {
    let cases = [
        "a: [b",
        "junk: 1",
        "just text",
        "tls_server_config: {cert_filse: x}",
        "basic_auth_users: [a]",
        "basic_auth_users: {a: x}\nbasic_auth_users: {a: x}",
        "rate_limit: {interval: 1d}",
        "rate_limit: {burst: x}",
        "basic_auth_users:\n  a: SECRET\n  b: [SECRET]\n",
    ];
    for text in cases {
        let said = refusal(text).expect(text);
        assert!(!said.contains("SECRET"), "{said}");
        assert!(said.starts_with("/etc/narthex/web.yml: ") && said.lines().count() == 1, "{text}: {said}");
    }
}

#[test]
fn hashes_are_checked_and_a_wrong_one_lets_nobody_in() {
    assert_eq!(refusal(&format!("basic_auth_users: {{a: {HASH}}}")), None);
    for wrong in ["doe", &HASH[..HASH.len() - 1], &HASH.replace("$10$", "$99$"), &HASH.replace("$2y$", "$1y$")] {
        let text = format!("basic_auth_users: {{a: '{wrong}', b: {HASH}}}");
        let said = refusal(&text).expect(wrong);
        assert!(said.contains("the hash of \"a\""), "{said}");
        assert!(!said.contains(wrong), "a hash is a secret: {said}");
        assert_eq!(parse(&text).expect("known by its mistake").users.hashes.len(), 2);
    }
}

#[test]
fn a_stranger_costs_what_most_users_cost() {
    let hash = |cost: u32| HASH.replace("$10$", &format!("${cost:02}$"));
    let text = format!("basic_auth_users: {{a: {}, b: {}, c: {}}}", hash(12), hash(6), hash(6));
    let nobody = parse(&text).expect("parses").users.nobody;
    assert_eq!(cost(&nobody), Ok(6));
    assert_eq!(cost(&parse("").expect("parses").users.nobody), Ok(10));
    assert!(!bcrypt::verify("", &nobody.replace("$06$", "$04$")).expect("a hash"));
}

#[test]
fn limits_and_paths_are_read() {
    let limit = |text: &str| parse(&format!("rate_limit: {text}")).expect(text).rate_limit;
    let cases = [
        ("{interval: 0, burst: 0}", 0, 0),
        ("{interval: 5, burst: 1}", 5, 1),
        ("{interval: 1.5s, burst: -1}", 1_500_000_000, 0),
        ("{interval: '1m30s'}", 90_000_000_000, 0),
    ];
    for (text, nanos, burst) in cases {
        assert_eq!(limit(text), RateLimit { interval: Duration::from_nanos(nanos), burst }, "{text}");
    }
    let tls = parse("tls_server_config: {cert_file: a.crt, key_file: /b.key, client_ca: x, client_ca_file: ''}");
    let tls = tls.expect("parses").tls;
    assert_eq!(tls.certificate.file.as_deref(), Some(Path::new("/etc/narthex/a.crt")));
    assert_eq!(tls.key.file.as_deref(), Some(Path::new("/b.key")));
    assert!(tls.client_ca.file.is_none() && tls.client_ca.is_given());
}
