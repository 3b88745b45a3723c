//! The store against its rules, and the incremental check against one that looks at everything.

use super::*;
use crate::key::key;
use exposition::families::parse_text;
use std::collections::HashSet;
use testkit::Rng;

fn push(key: &Key, text: &str) -> Push {
    Push::new(key.clone(), Body { families: parse_text(text.as_bytes()).expect("valid"), mismatch: None })
}

fn put(store: &mut Store, key: &Key, text: &str, at: i64) -> Result<(), Refusal> {
    store.push(&push(key, text), true, true, None, at).0
}

fn shown(store: &Store) -> String {
    let mut out = String::new();
    for (name, indexed) in store.index() {
        out.push_str(&format!("# {name} {} {:?}\n", indexed.kind.as_str(), indexed.help()));
        for chunk in indexed.lines.chunks() {
            out.push_str(&String::from_utf8_lossy((**chunk).as_ref()));
        }
    }
    out
}

#[test]
fn put_replaces_the_group_and_post_the_families() {
    let (mut store, j) = (Store::default(), key(&[("job", "j")]));
    put(&mut store, &j, "# HELP a one\na{job=\"other\"} 1\nb 2\n", 5000).expect("taken");
    let text = shown(&store);
    assert!(text.contains("a{instance=\"\",job=\"j\"} 1\n"), "{text}");
    assert!(text.contains("push_time_seconds{instance=\"\",job=\"j\"} 5\n"), "{text}");
    store.push(&push(&j, "a 3\n"), false, true, None, 6000).0.expect("taken");
    let text = shown(&store);
    assert!(text.contains("a{instance=\"\",job=\"j\"} 3\n") && text.contains("b{"), "{text}");
    put(&mut store, &j, "a 4\n", 7000).expect("taken");
    assert!(!shown(&store).contains("b{"));
    store.delete(&j, 0);
    assert_eq!((shown(&store).as_str(), store.bytes()), ("", 0));
}

#[test]
fn a_contradiction_is_refused_and_only_marked() {
    let (a, b) = (key(&[("job", "a")]), key(&[("job", "b")]));
    let mut store = Store::default();
    let check = |store: &mut Store, key: &Key, text: &str, want: &str| match put(store, key, text, 4000) {
        Ok(()) => assert_eq!(want, "", "{text}"),
        Err(why) => assert!(!want.is_empty() && why.to_string().contains(want), "{text}: {why}"),
    };
    check(&mut store, &a, "# TYPE x counter\nx 1\n", "");
    check(&mut store, &b, "# TYPE x gauge\nx 1\n", "is not a COUNTER");
    check(&mut store, &b, "x 1 1000\n", "must not have timestamps");
    check(&mut store, &b, "y 1\ny 2\n", "was collected before");
    check(&mut store, &b, "y{job=\"1\"} 1\ny{job=\"2\"} 2\n", "was collected before");
    check(&mut store, &b, "y{__a=\"1\"} 1\n", "invalid name: __a");
    check(&mut store, &a, "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n", "");
    check(&mut store, &b, "h_count 1\n", "collides with previously collected histogram");
    check(&mut store, &b, "s_sum 1\n", "");
    check(
        &mut store,
        &a,
        "# TYPE s summary\ns_count 1\ns{quantile=\"0.5\"} 1\n",
        "collides with previously collected metric",
    );
    check(&mut store, &b, "push_time_seconds 5\n", "");
    let (ai, aj) = (key(&[("job", "a"), ("instance", "i")]), key(&[("job", "a"), ("instance", "")]));
    check(&mut store, &ai, "m 1\n", "");
    check(&mut store, &a, "m{instance=\"i\"} 1\n", "was collected before");
    check(&mut store, &aj, "z 1\n", "was collected before");
    assert!(!store.groups().contains_key(&aj), "a group that cannot be shown is not made");
    assert!(shown(&store).contains("push_failure_time_seconds{instance=\"\",job=\"a\"} 4\n"));
    check(&mut store, &a, "# TYPE x gauge\nx 1\n", "");
}

#[test]
fn what_is_unchecked_waits_until_it_fits() {
    let (a, b) = (key(&[("job", "a")]), key(&[("job", "b")]));
    let mut store = Store::default();
    let unchecked = |store: &mut Store, key: &Key, text: &str| {
        store.push(&push(key, text), true, false, None, 1000).0.expect("unchecked");
    };
    unchecked(&mut store, &a, "# TYPE x gauge\nx 1\n");
    unchecked(&mut store, &b, "# TYPE x counter\nx 1\n");
    assert!(store.conflict().is_some() && store.groups().len() == 2);
    assert!(store.mark_failed(&b, 2000).is_some() && store.conflict().is_some());
    store.delete(&a, 0);
    assert!(store.conflict().is_none());
    assert!(shown(&store).contains("# x counter") && shown(&store).contains("job=\"b\"} 1\n"));
    unchecked(&mut store, &a, "y{__b=\"\"} 1\ny{__a=\"1\"} 1\n");
    assert!(store.conflict().is_some());
    unchecked(&mut store, &a, "y 1\n");
    assert!(store.conflict().is_none());
}

/// What upstream does: the whole store with the push applied, looked through from the start.
fn whole_check(groups: &BTreeMap<Key, BTreeMap<String, Family>>) -> bool {
    let mut kinds: BTreeMap<String, MetricType> = BTreeMap::new();
    let mut seen = HashSet::new();
    for (key, families) in groups {
        for family in families.values() {
            if *kinds.entry(family.name.clone()).or_insert(family.kind) != family.kind {
                return false;
            }
            for metric in &family.metrics {
                let labels: Vec<(String, String)> = line::exposed(metric.labels.iter(), key)
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect();
                if !seen.insert((family.name.clone(), labels)) {
                    return false;
                }
            }
        }
    }
    kinds.iter().all(|(name, kind)| collisions(name, *kind, &|name| kinds.get(name).copied()).is_ok())
}

fn random_body(rng: &mut Rng) -> String {
    let mut out = String::new();
    for name in ["x", "y", "x_sum", "x_count"] {
        if !rng.chance(40) {
            continue;
        }
        match rng.below(if name.len() == 1 { 4 } else { 2 }) {
            0 => out.push_str(&format!("# TYPE {name} gauge\n")),
            2 => {
                out.push_str(&format!("# TYPE {name} summary\n{name}_sum 1\n{name}_count {}\n", rng.below(9)));
                continue;
            }
            _ => {}
        }
        for _ in 0..rng.below(3) {
            let instance = ["", ",instance=\"\"", ",instance=\"i\""][rng.below(3)];
            out.push_str(&format!("{name}{{l=\"{}\"{instance}}} {}\n", rng.below(3), rng.below(9)));
        }
    }
    out
}

#[test]
fn the_incremental_check_gives_the_verdicts_of_a_whole_one() {
    let keys = [
        key(&[("job", "a")]),
        key(&[("job", "b")]),
        key(&[("job", "a"), ("instance", "i")]),
        key(&[("job", "b"), ("instance", "i")]),
    ];
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..60 {
        let (mut rng, mut store, mut model) = (Rng::new(seed), Store::default(), BTreeMap::new());
        for step in 1..60 {
            let key = &keys[rng.below(keys.len())];
            if rng.chance(10) {
                store.delete(key, 0);
                model.remove(key);
                continue;
            }
            let (text, replace) = (random_body(&mut rng), rng.chance(50));
            let Ok(families) = parse_text(text.as_bytes()) else { continue };
            let mut next: BTreeMap<Key, BTreeMap<String, Family>> = model.clone();
            let group = next.entry(key.clone()).or_default();
            if replace {
                group.clear();
            }
            group.extend(families.iter().map(|family| (family.name.clone(), family.clone())));
            let before = shown(&store);
            let good = whole_check(&next);
            let (verdict, undo) = store.push(&push(key, &text), replace, true, None, step);
            assert_eq!(verdict.is_ok(), good, "seed {seed} step {step}: {text} {verdict:?}");
            if rng.chance(20) {
                store.undo(undo.expect("a change"));
                assert_eq!(shown(&store), before, "seed {seed} step {step}: undone");
                continue;
            }
            (taken, refused) = (taken + u32::from(good), refused + u32::from(!good));
            if good {
                model = next;
            }
        }
        let all: usize = model.values().flat_map(|group| group.values()).map(|family| family.metrics.len()).sum();
        let lines = shown(&store).lines().filter(|line| !line.starts_with('#')).count();
        let summaries =
            shown(&store).lines().filter(|line| line.starts_with("x_sum") || line.starts_with("y_sum")).count();
        assert!(lines >= all + 2 * store.groups().len() && summaries <= lines);
        for key in &keys {
            store.delete(key, 0);
        }
        assert_eq!((shown(&store).as_str(), store.bytes()), ("", 0), "seed {seed}: all taken out again");
    }
    assert!(taken > 300 && refused > 300, "{taken} {refused}");
}
