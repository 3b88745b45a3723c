//! Rules applied to targets, as a running Prometheus applied them; see `testdata/README.md`.

use model::{Action, Builder, Labels, Relabel, RelabelRule};

fn unescape(field: &str) -> String {
    let mut out = String::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let code = after.strip_prefix("u{").and_then(|code| code.split_once('}'));
        let (c, tail) = match code {
            Some((code, tail)) => (u32::from_str_radix(code, 16).ok().and_then(char::from_u32), tail),
            None => (after.chars().next(), &after[1..]),
        };
        out.extend(c);
        rest = tail;
    }
    out + rest
}

fn items(field: &str) -> Vec<String> {
    field.split('\u{1}').filter(|_| !field.is_empty()).map(str::to_owned).collect()
}

fn given(field: &str) -> Option<String> {
    field.strip_prefix('=').map(str::to_owned)
}

fn pairs(items: &[String]) -> impl Iterator<Item = (&str, &str)> {
    items.chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str()))
}

#[test]
fn rules_do_what_upstream_does() {
    let (mut count, mut failures) = (0, Vec::new());
    for line in include_str!("../testdata/relabel.txt").lines() {
        let fields: Vec<String> = line.split('\t').map(unescape).collect();
        let rule = RelabelRule {
            action: Action::parse(&fields[0]).expect("an action"),
            source_labels: items(&fields[1]),
            separator: given(&fields[2]),
            target_label: given(&fields[3]),
            regex: given(&fields[4]),
            modulus: fields[5].parse().ok(),
            replacement: given(&fields[6]),
        };
        let mut labels = Builder::default();
        pairs(&items(&fields[7])).for_each(|(name, value)| _ = labels.set(name, value));
        let rules = [Relabel::compile(&rule).expect("valid")];
        let have = Relabel::apply(&rules, &mut labels).then(|| labels.build());
        let after = items(&fields[8]);
        let want = (after[0] == "kept").then(|| Labels::from_pairs(pairs(&after[1..])));
        count += 1;
        if have != want {
            failures.push(format!("{rule:?}\n  on {:?}\n  want {want:?}\n  have {have:?}", items(&fields[7])));
        }
    }
    failures.iter().for_each(|failure| println!("{failure}"));
    println!("relabel.txt: {} passed, {} failed", count - failures.len(), failures.len());
    assert!(failures.is_empty() && count == 377);
}
