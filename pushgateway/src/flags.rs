//! The command line: upstream's flags with upstream's meaning, then ours, each of which changes nothing unless given.

use crate::gateway::{Caps, Policy};
use cli::{Command, Flag, Parsed};

/// The command line.
pub fn command() -> Command {
    let limits = "0 is no limit.";
    Command::new("pushgateway", "The Pushgateway")
        .web_flags(":9091")
        .flag(Flag::string("web.telemetry-path", "/metrics", "Path under which to expose metrics."))
        .flag(Flag::string("web.external-url", "", "The URL under which the Pushgateway is externally reachable."))
        .flag(Flag::string(
            "web.route-prefix",
            "",
            "Prefix for the internal routes of web endpoints. Defaults to the path of --web.external-url.",
        ))
        .flag(Flag::boolean("web.enable-lifecycle", false, "Enable shutdown via HTTP request."))
        .flag(Flag::boolean("web.enable-admin-api", false, "Enable API endpoints for admin control actions."))
        .flag(Flag::string(
            "persistence.file",
            "",
            "File to persist metrics. If empty, metrics are only kept in memory.",
        ))
        .flag(Flag::duration_go(
            "persistence.interval",
            "5m",
            "The minimum interval at which to write out the persistence file.",
        ))
        .flag(Flag::boolean(
            "push.disable-consistency-check",
            false,
            "Do not check consistency of pushed metrics. DANGEROUS.",
        ))
        .flag(Flag::boolean("push.enable-utf8-names", false, "Allow UTF-8 characters in metric and label names."))
        .flag(Flag::int(
            "push.max-body-bytes",
            64 << 20,
            "Bytes a pushed body may have once inflated; more is refused with 413.",
        ))
        .flag(Flag::int(
            "push.max-groups",
            0,
            format!("Groups to hold; a push that makes one more is refused with 429. {limits}"),
        ))
        .flag(Flag::int(
            "push.max-bytes",
            0,
            format!("Bytes of pushed metrics to hold, as packed in memory; more is refused with 429. {limits}"),
        ))
        .flag(Flag::int(
            "push.max-series-per-push",
            0,
            format!("Series one push may have; more is refused with 413. {limits}"),
        ))
        .flag(Flag::duration_prom(
            "push.ttl",
            "0s",
            "Forget a group this long after its last push. 0s keeps it until it is deleted.",
        ))
        .flag(Flag::boolean(
            "push.enable-ttl",
            false,
            "Let a push say how long its group is kept, by ?ttl=2h or the header X-Narthex-TTL.",
        ))
        .flag(Flag::boolean(
            "push.enable-batch",
            false,
            "Take pushes of several groups in one request at /api/v1/groups.",
        ))
        .flag(Flag::boolean(
            "push.enable-aggregation",
            false,
            "Let a push be added to what its group has, by ?aggregate=sum or the header X-Narthex-Aggregate.",
        ))
        .flag(Flag::string(
            "push.tokens-file",
            "",
            "YAML file of jobs and the tokens that may push to them and delete them. Without it everybody may.",
        ))
        .flag(Flag::list(
            "replication.peer",
            &[],
            "Address of a gateway that is to hold the same groups. Repeatable; every gateway names all others.",
        ))
        .flag(Flag::boolean("replication.accept", false, "Take groups of other gateways. On when there are peers."))
        .flag(Flag::int(
            "replication.queue-groups",
            100_000,
            "Changed groups that wait for one peer; when there are more, all groups are sent once more.",
        ))
        .flag(Flag::string(
            "replication.http.config.file",
            "",
            "File with an HTTP client section for calling peers: TLS, passwords, proxies.",
        ))
        .flag(Flag::string(
            "replication.token-file",
            "",
            "File with the token for peers that have a --push.tokens-file; it must be one for all jobs there.",
        ))
        .log_flags()
}

fn whole(parsed: &Parsed, flag: &str) -> usize {
    usize::try_from(parsed.int(flag)).unwrap_or(0)
}

/// How pushes are taken, by the flags.
pub(crate) fn policy(parsed: &Parsed) -> anyhow::Result<Policy> {
    let body_max = parsed.int("push.max-body-bytes");
    anyhow::ensure!(body_max > 0, "--push.max-body-bytes {body_max} must be above 0");
    for flag in ["push.max-groups", "push.max-bytes", "push.max-series-per-push"] {
        anyhow::ensure!(parsed.int(flag) >= 0, "--{flag} must not be negative; 0 is no limit");
    }
    Ok(Policy {
        checked: !parsed.bool("push.disable-consistency-check"),
        utf8: parsed.bool("push.enable-utf8-names"),
        body_max: body_max.unsigned_abs(),
        ttl: i64::try_from(parsed.duration("push.ttl").as_millis()).unwrap_or(i64::MAX),
        ttl_by_push: parsed.bool("push.enable-ttl"),
        sums: parsed.bool("push.enable-aggregation"),
        caps: Caps {
            groups: whole(parsed, "push.max-groups"),
            bytes: whole(parsed, "push.max-bytes"),
            samples: whole(parsed, "push.max-series-per-push"),
        },
    })
}

/// The path of an external URL, without a slash at the end: the prefix of links, and of routes unless told otherwise.
pub(crate) fn external_path(url: &str) -> anyhow::Result<String> {
    if url.is_empty() {
        return Ok(String::new());
    }
    let rest = url.split_once("://").filter(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
    let (_, rest) =
        rest.ok_or_else(|| anyhow::anyhow!("--web.external-url {url:?} is not of the form http://host/path"))?;
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = rest.find('/').map_or("", |slash| &rest[slash..]);
    Ok(path.trim_end_matches('/').to_owned())
}

/// A route prefix with a leading slash and none at the end; empty for none.
pub(crate) fn prefix(given: &str, external: &str) -> String {
    let chosen = if given.is_empty() { external } else { given };
    match chosen.trim_matches('/') {
        "" => String::new(),
        inner => format!("/{inner}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_come_from_the_url_unless_given() {
        let check = |url: &str, given: &str, want: &str| {
            assert_eq!(prefix(given, &external_path(url).expect("a URL")), want, "{url} {given}");
        };
        check("", "", "");
        check("http://h.example/pg/", "", "/pg");
        check("http://h.example/pg/", "/", "");
        check("http://h.example", "x/", "/x");
        check("https://h:1/a/b?c", "", "/a/b");
        assert!(external_path("h.example/x").is_err());
    }
}
