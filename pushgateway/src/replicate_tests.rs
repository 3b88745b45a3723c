//! Gateways that tell each other what changed come to hold the same, whatever is lost, repeated or late.

use super::*;
use crate::{
    body::Body,
    gateway::{Caps, How, Policy},
    key::key,
    record::Groups,
    served::{Served, free_port},
};
use runtime::Clock;
use testkit::Rng;

fn gateway(clock: &Clock, keys_max: usize) -> Gateway {
    let policy = Policy {
        checked: true,
        utf8: false,
        body_max: 1 << 20,
        ttl: 0,
        ttl_by_push: false,
        sums: false,
        caps: Caps::default(),
    };
    let registry = Registry::new();
    let replicas = Replicas::new(&["http://peer".to_owned()], keys_max, &registry);
    Gateway::new(clock.clone(), registry, policy, Some(replicas))
}

fn peer(gateway: &Gateway) -> &Peer {
    &gateway.replicas.as_ref().expect("replicated").peers[0]
}

async fn change(gateway: &Gateway, rng: &mut Rng) {
    let key = key(&[("job", ["a", "b", "c", "d"][rng.below(4)])]);
    match rng.below(20) {
        0 => gateway.wipe().await.expect("no journal"),
        1..=4 => gateway.delete(&key).await.expect("no journal"),
        n => {
            let text = format!("m{} {}\n", rng.below(2), rng.next_u64() % 1000);
            let families = exposition::families::parse_text(text.as_bytes()).expect("valid");
            let how = How { replace: n % 2 == 0, ..How::default() };
            gateway.push(key, Body { families, mismatch: None }, how).await.expect("nothing contradicts");
        }
    }
}

/// Takes a message over; the network may lose it, or the answer to it, or deliver it twice.
async fn carry(from: &Gateway, to: &Gateway, rng: Option<&mut Rng>) {
    let (message, barrier) = peer(from).capture(from);
    assert!(barrier.is_none());
    let records = read(&message.body).expect("a message");
    let luck = rng.map_or(9, |rng| rng.below(10));
    if luck != 0 {
        to.receive(records.clone()).await.expect("no journal");
    }
    if luck == 1 {
        to.receive(records).await.expect("no journal");
    }
    peer(from).settle(message, luck > 2, 0);
}

fn held(gateway: &Gateway) -> BTreeMap<Key, crate::Group> {
    Groups::of(&gateway.state.lock().store).0
}

#[tokio::test(start_paused = true)]
async fn two_gateways_become_alike_whatever_the_network_does() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        // Wall clocks that are apart by up to two seconds.
        let clocks = [Clock::simulated(1_000_000), Clock::simulated(1_000_000 + rng.below(2000) as i64)];
        let pair = [gateway(&clocks[0], 2 + rng.below(4)), gateway(&clocks[1], 2 + rng.below(4))];
        for _ in 0..60 {
            let side = rng.below(2);
            clocks[side].jump(rng.below(3) as i64);
            change(&pair[side], &mut rng).await;
            if rng.chance(30) {
                let from = rng.below(2);
                carry(&pair[from], &pair[1 - from], Some(&mut rng)).await;
            }
        }
        for _ in 0..20 {
            carry(&pair[0], &pair[1], None).await;
            carry(&pair[1], &pair[0], None).await;
        }
        assert!(pair.iter().all(|gateway| peer(gateway).queue.lock().is_empty()), "seed {seed}");
        assert_eq!(held(&pair[0]), held(&pair[1]), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_later_push_stays_although_its_clock_is_behind() {
    let clocks = [Clock::simulated(9_000_000), Clock::simulated(1_000_000)];
    let pair = [gateway(&clocks[0], 9), gateway(&clocks[1], 9)];
    let push = |gateway: usize, text: &'static str| {
        let families = exposition::families::parse_text(text.as_bytes()).expect("valid");
        pair[gateway].push(key(&[("job", "a")]), Body { families, mismatch: None }, How::default())
    };
    push(0, "m 1\n").await.expect("taken");
    carry(&pair[0], &pair[1], None).await;
    push(1, "m 2\n").await.expect("taken");
    carry(&pair[1], &pair[0], None).await;
    carry(&pair[0], &pair[1], None).await;
    for gateway in &pair {
        let (_, family) = held(gateway)[&key(&[("job", "a")])].families().next().expect("a family");
        assert_eq!(family.metrics[0].value, exposition::MetricValue::Untyped(2.0));
    }
}

const SERIES: &str = "m{instance=\"\",job=\"a\"}";

#[tokio::test]
async fn pushes_deletions_and_wipes_reach_the_peer_and_do_not_come_back() {
    let ports = [free_port(), free_port()];
    let flag = |other: u16| format!("--replication.peer=http://127.0.0.1:{other}/");
    let a = Served::start_on(ports[0], &[&flag(ports[1]), "--web.enable-admin-api"]).await;
    let b = Served::start_on(ports[1], &[&flag(ports[0])]).await;
    assert_eq!(a.push("PUT", "/metrics/job/a", "m 1\n").await, 200);
    b.until(SERIES, Some(1.0)).await;
    assert_eq!(b.push("POST", "/metrics/job/a", "m 2\n").await, 200);
    a.until(SERIES, Some(2.0)).await;
    assert_eq!(a.push("DELETE", "/metrics/job/a", "").await, 202);
    b.until(SERIES, None).await;
    assert_eq!(b.push("PUT", "/metrics/job/a", "m 3\n").await, 200);
    a.until(SERIES, Some(3.0)).await;
    assert_eq!(a.push("PUT", "/api/v1/admin/wipe", "").await, 202);
    b.until(SERIES, None).await;
    let peer = |port: u16| format!("narthex_pushgateway_replication_sent_total{{peer=\"http://127.0.0.1:{port}/\"}}");
    // Two pushes and no echo of the other's, but what was there when everything was sent at the start.
    assert!(b.value(&peer(ports[0])).await.is_some_and(|sent| (2.0..=3.0).contains(&sent)));
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_peer_that_was_away_catches_up_and_keeps_what_is_newer() {
    let ports = [free_port(), free_port()];
    let folder = tempfile::tempdir().expect("a folder");
    let flag = |other: u16| format!("--replication.peer=http://127.0.0.1:{other}");
    let file = format!("--persistence.file={}", folder.path().join("data").display());
    // A queue so short that everything must be sent again.
    let a = Served::start_on(ports[0], &[&flag(ports[1]), "--replication.queue-groups=2"]).await;
    let b_flags = [flag(ports[0]), file];
    let b_flags: Vec<&str> = b_flags.iter().map(String::as_str).collect();
    let b = Served::start_on(ports[1], &b_flags).await;
    for job in ["a", "gone"] {
        assert_eq!(b.push("PUT", &format!("/metrics/job/{job}"), "m 1\n").await, 200);
        a.until(&format!("m{{instance=\"\",job=\"{job}\"}}"), Some(1.0)).await;
    }
    b.stop().await;
    for n in 0..7 {
        assert_eq!(a.push("PUT", &format!("/metrics/job/j{n}"), "m 1\n").await, 200);
    }
    assert_eq!(a.push("DELETE", "/metrics/job/gone", "").await, 202);
    assert_eq!(a.push("PUT", "/metrics/job/a", "m 5\n").await, 200);
    let dropped = format!("narthex_pushgateway_replication_dropped_total{{peer=\"http://127.0.0.1:{}\"}}", ports[1]);
    assert!(a.value(&dropped).await.is_some_and(|dropped| dropped > 0.0));
    let b = Served::start_on(ports[1], &b_flags).await;
    b.until(SERIES, Some(5.0)).await;
    b.until("m{instance=\"\",job=\"gone\"}", None).await;
    for n in 0..7 {
        b.until(&format!("m{{instance=\"\",job=\"j{n}\"}}"), Some(1.0)).await;
    }
    // And one without a memory gets everything of the other.
    a.stop().await;
    let a = Served::start_on(ports[0], &[&flag(ports[1])]).await;
    a.until(SERIES, Some(5.0)).await;
    a.until("m{instance=\"\",job=\"gone\"}", None).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn messages_need_the_token_of_all_jobs_and_make_sense() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokens.yml");
    let file = std::fs::File::create(&path).expect("a file");
    std::io::Write::write_all(&mut &file, b"a: one\n'*': all\n").expect("written");
    let flag = format!("--push.tokens-file={}", path.display());
    let served = Served::start(&[&flag, "--replication.accept"]).await;
    let check = async |token: &str, body: &[u8], want: u16| {
        let headers: &[(&str, &str)] = if token.is_empty() { &[] } else { &[("X-Narthex-Token", token)] };
        let answer = served.ask("POST", PATH, headers, body).await;
        assert_eq!(answer.status, want, "{token}: {}", answer.body);
    };
    check("", MAGIC, 401).await;
    check("one", MAGIC, 403).await;
    check("all", MAGIC, 200).await;
    check("all", b"m 1\n", 400).await;
    let mut bad = MAGIC.to_vec();
    put_bytes(&mut bad, &[3, 0]);
    check("all", &bad, 400).await;
    let plain = Served::start(&[]).await;
    assert_eq!(plain.ask("POST", PATH, &[], MAGIC).await.status, 404, "nobody asked for it");
    plain.stop().await;
    served.stop().await;
}
