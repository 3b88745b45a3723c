//! A file of flags that changes under a running service.

use super::*;
use crate::testing::Tree;
use runtime::{Shutdown, Tasks};

fn environment() -> Environment {
    let clock = Clock::system();
    Environment { clock: clock.clone(), shutdown: Shutdown::new(), tasks: Tasks::new(clock) }
}

fn names(service: &Service) -> Vec<&'static str> {
    service.present.load().collection.names().collect()
}

const FIRST: &str = "collector:\n  disable-defaults: true\n  loadavg: true\n";

fn service(tree: &Tree, more: &[&str]) -> (Arc<Service>, Environment) {
    let file = format!("--config.file={}", tree.path("flags.yml").display());
    let flags: Vec<&str> = std::iter::once(file.as_str()).chain(more.iter().copied()).collect();
    let environment = environment();
    (Arc::new(Service::new(tree.parse(&flags), &environment).expect("service")), environment)
}

#[tokio::test]
async fn collectors_follow_the_file_and_mistakes_change_nothing() {
    let tree = Tree::new().file("flags.yml", FIRST);
    let (service, environment) = service(&tree, &["--collector.stat"]);
    let reload = Reload::new(&service, &environment);
    assert_eq!(names(&service), ["loadavg", "stat"]);
    tree.put("flags.yml", &format!("{FIRST}  uname: true\n  stat: false\nweb.max-requests: 1\n"));
    reload.now().await.expect("reload");
    assert_eq!(names(&service), ["loadavg", "stat", "uname"], "the command line wins");
    assert_eq!(service.present.load().parsed.int("web.max-requests"), 1);
    for (text, part) in [
        ("collector.nope: true\n", "flags.yml:1:1: unknown key"),
        ("collector.netdev: {device-include: a, device-exclude: b}\n", "mutually exclusive"),
        ("collector.netdev.device-include: '('\n", "collector.netdev.device-include"),
    ] {
        tree.put("flags.yml", text);
        let error = reload.now().await.expect_err("refused");
        assert!(error.contains(part), "{error}");
        assert_eq!((names(&service).len(), reload.successful.get()), (3, 0.0));
    }
    std::fs::remove_file(tree.path("flags.yml")).expect("removed");
    assert!(reload.now().await.is_err());
    tree.put("flags.yml", FIRST);
    let before = service.present.load_full();
    reload.now().await.expect("reload");
    assert_eq!((names(&service).len(), reload.successful.get()), (2, 1.0));
    assert!(!Arc::ptr_eq(&before, &service.present.load_full()));
    let before = service.present.load_full();
    reload.now().await.expect("reload");
    assert!(Arc::ptr_eq(&before, &service.present.load_full()), "nothing has changed, nothing begins anew");
}

async fn post(service: &Arc<Service>, reload: &Reload) -> u16 {
    let mut router = crate::service::router(service.clone(), "/metrics", Some(reload.clone()));
    let request = web::http::Request::post(PATH).body(web::body::Body::empty()).expect("request");
    tower_service::Service::call(&mut router, request).await.expect("answer").status().as_u16()
}

#[tokio::test]
async fn a_request_reloads_only_where_that_is_allowed() {
    let tree = Tree::new().file("flags.yml", FIRST);
    let (closed, environment) = service(&tree, &[]);
    assert_eq!(post(&closed, &Reload::new(&closed, &environment)).await, 404);
    let (open, environment) = service(&tree, &["--web.enable-lifecycle"]);
    let reload = Reload::new(&open, &environment);
    assert_eq!(post(&open, &reload).await, 200);
    tree.put("flags.yml", "[");
    assert_eq!(post(&open, &reload).await, 500);
    assert_eq!(reload.successful.get(), 0.0);
}

#[tokio::test]
async fn a_hangup_reloads() {
    let tree = Tree::new().file("flags.yml", FIRST);
    let (service, environment) = service(&tree, &[]);
    assert!(Reload::follow(&service, &environment).expect("signals").is_some());
    tree.put("flags.yml", &format!("{FIRST}  uname: true\n"));
    let script = format!("kill -HUP {}", std::process::id());
    assert!(std::process::Command::new("sh").args(["-c", &script]).status().expect("sh").success());
    let changed = async {
        while names(&service).len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    environment.clock.timeout(std::time::Duration::from_secs(60), changed).await.expect("reloaded");
}

#[test]
fn there_is_nothing_to_follow_without_a_file() {
    let environment = environment();
    let service = Arc::new(Service::new(Tree::new().parse(&[]), &environment).expect("service"));
    assert!(Reload::follow(&service, &environment).expect("nothing to do").is_none());
}

#[test]
fn what_cannot_change_is_a_flag() {
    let help = crate::command().help_text();
    for flag in FIXED {
        assert!(help.contains(flag), "{flag}");
    }
}
