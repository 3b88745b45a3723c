//! Keeps `docs/discovery.md` true: the page is made of the mechanisms themselves. `UPDATE_GOLDEN=1` writes it anew.

use crate::{BUILT, Description, UPSTREAM_KEYS, is_unbuilt, testing::refusal};
use std::{fmt::Write as _, io::Write as _, path::Path};

const HEAD: &str = "# Target discovery

Made by a test out of the mechanisms; change those and run `UPDATE_GOLDEN=1 cargo test -p discovery reference`.

Each key below is a list in a scrape configuration; keys and labels are upstream's. Jobs whose entries are equal share
one task, which goes on across reloads. A mechanism that fails keeps the targets it found last. Changes reach a job at
once when nothing changed in the last five seconds, else when those are over. Labels that begin with `__meta_` are there
for `relabel_configs` and are gone afterwards.
";

const TAIL: &str = "
## Not built yet

Valid upstream; a configuration that uses one of these keys is refused and told so:

";

const CLIENT: &str = "\nBeside these it takes the keys of the HTTP client section: `basic_auth`, `authorization`, \
                      `oauth2`, `tls_config`, `proxy_url`, `follow_redirects`, `http_headers` and the others.\n";

fn section(one: &Description, page: &mut String) {
    let _ = writeln!(page, "\n## {}\n\n{}\n\n| Key | Default | |\n|---|---|---|", one.key, one.summary);
    for key in one.keys {
        let _ = writeln!(page, "| `{}` | {} | {} |", key.name, key.default, key.text);
    }
    if one.client {
        page.push_str(CLIENT);
    }
    if !one.labels.is_empty() {
        page.push_str("\n| Label | |\n|---|---|\n");
        for label in one.labels {
            let _ = writeln!(page, "| `{}` | {} |", label.name, label.text);
        }
    }
}

#[test]
fn the_reference_page_is_true() {
    let mut page = HEAD.to_owned();
    BUILT.iter().for_each(|one| section(one, &mut page));
    page.push_str(TAIL);
    let missing: Vec<String> =
        UPSTREAM_KEYS.iter().filter(|key| is_unbuilt(key)).map(|key| format!("`{key}`")).collect();
    for line in missing.chunks(5) {
        let _ = writeln!(page, "{}", line.join(", "));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/discovery.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::File::create(&path).and_then(|mut file| file.write_all(page.as_bytes())).expect("page");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = written.lines().zip(page.lines()).find(|(old, new)| old != new);
    assert!(written == page, "docs/discovery.md is out of date, first at {differing:?}; run with UPDATE_GOLDEN=1");
}

#[test]
fn every_key_is_described_and_every_described_key_exists() {
    for one in BUILT {
        let refusal = refusal(&format!("{}: [{{no_such_key: 1}}]", one.key));
        let (_, listed) = refusal.split_once("expected ").unwrap_or_else(|| panic!("{}: {refusal}", one.key));
        let listed = listed.lines().next().unwrap_or_default().trim_start_matches("one of ").replace(" or ", ", ");
        let mut have: Vec<&str> = listed.split(", ").map(|name| name.trim_matches('`')).collect();
        let mut described: Vec<&str> = one.keys.iter().map(|key| key.name).collect();
        have.sort_unstable();
        described.sort_unstable();
        assert_eq!(have, described, "{}", one.key);
    }
}
