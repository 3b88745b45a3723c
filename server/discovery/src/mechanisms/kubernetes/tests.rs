//! Refusals; labels as the running upstream makes them of the same objects; an API server that lists, streams and
//! forgets.

use super::*;
use crate::{
    Group,
    testing::{Bench, configs, refusal},
};
use model::{Builder, Labels};
use std::collections::BTreeMap;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

#[test]
fn what_does_not_fit_together_is_refused_in_upstreams_words() {
    for (yaml, want) in [
        ("{}", "role missing (one of: pod"),
        ("{role: vacation}", "unknown Kubernetes SD role \"vacation\""),
        ("{role: pod, api_server: 'http://x', kubeconfig_file: k}", "cannot use 'kubeconfig_file' and 'api_server'"),
        ("{role: pod, bearer_token: x}", "please provide the 'api_server' URL explicitly"),
        ("{role: pod, kubeconfig_file: k, bearer_token: x}", "together with 'kubeconfig_file'"),
        ("{role: pod, api_server: 'http://x', namespaces: {own_namespace: true}}", "'namespaces.own_namespace'"),
        ("{role: pod, selectors: [{role: service}]}", "pod role supports only pod, node selectors"),
        ("{role: pod, selectors: [{role: pod}, {role: pod}]}", "duplicated selector role: pod"),
        ("{role: pod, selectors: [{role: pod, field: 'a-b'}]}", "invalid selector: 'a-b'"),
        ("{role: pod, namespaces: {foo: bar}}", "unknown field"),
    ] {
        let refusal = refusal(&format!("kubernetes_sd_configs: [{yaml}]"));
        assert!(refusal.contains(want), "{yaml}: {refusal}");
    }
    configs("kubernetes_sd_configs: [{role: pod}, {role: node, kubeconfig_file: k}]", Path::new(""));
}

/// Objects for all roles, by the path of their list.
fn objects() -> BTreeMap<String, Vec<Value>> {
    serde_json::from_str(include_str!("../../../testdata/kubernetes.json")).expect("the sample is JSON")
}

fn filled(role: Role, attach: Attach) -> Store {
    let mut store = Store::new(role, attach);
    for (path, items) in objects() {
        let kinds = Role::ALL.into_iter().map(Role::kind);
        let kind = kinds.into_iter().find(|kind| path == format!("{}/{}", kind.path().0, kind.path().1));
        let kind = kind.unwrap_or_else(|| panic!("{path} is the list of no kind"));
        for item in items {
            store.set(kind, &key_of(&item), Some(item)).expect("understood");
        }
    }
    store
}

/// Targets with the labels of their groups.
fn shown(groups: &[Group]) -> Vec<String> {
    let whole = |group: &Group, target: &Labels| {
        let mut labels = Builder::from(&group.labels);
        target.iter().for_each(|(name, value)| _ = labels.set(name, value));
        labels.build().to_string()
    };
    groups.iter().flat_map(|group| group.targets.iter().map(move |target| whole(group, target))).collect()
}

/// `testdata/kubernetes.labels.txt` is what release 3.5.3 showed as discovered labels when its API server had the
/// objects of `testdata/kubernetes.json`. Of targets that only differ in labels which scraping drops it shows one.
#[test]
fn labels_are_those_of_the_running_upstream() {
    let expected = include_str!("../../../testdata/kubernetes.labels.txt");
    for role in Role::ALL {
        for node in [false, true] {
            let job = if node { format!("{}+node", role.word()) } else { role.word().to_owned() };
            let prefix = format!("{job} ");
            let mut want: Vec<&str> = expected.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
            if want.is_empty() {
                continue;
            }
            let have = shown(&filled(role, Attach { node, ..Attach::default() }).groups());
            want.retain(|one| !have.iter().any(|have| have == one));
            assert!(want.is_empty(), "{job}: not made\n{}\nbut\n{}", want.join("\n"), have.join("\n"));
            let count = expected.lines().filter(|line| line.starts_with(&prefix)).count();
            let same_but_path = if role == Role::Ingress { 1 } else { 0 };
            assert_eq!(have.len(), count + same_but_path, "{job}: {}", have.join("\n"));
        }
    }
}

#[test]
fn groups_follow_what_stands_behind_them() {
    let attach = Attach { node: true, namespace: true, deployment: true, job: true, cronjob: true };
    let mut store = filled(Role::Endpoints, attach);
    let touched = |store: &mut Store, kind, key: &str, object: Option<Value>| {
        let (_, touched) = store.set(kind, key, object).expect("understood");
        touched.into_iter().collect::<Vec<_>>()
    };
    let named = |name: &str, owner: &str| {
        serde_json::json!({"metadata": {"name": name, "namespace": "shop", "labels": {"l": name},
            "ownerReferences": [{"kind": "Deployment", "name": owner, "controller": true}]}})
    };
    assert_eq!(touched(&mut store, Kind::Service, "shop/web", None), ["shop/web"]);
    assert_eq!(touched(&mut store, Kind::Pod, "shop/six", None), Vec::<String>::new(), "behind no endpoint");
    assert_eq!(touched(&mut store, Kind::ReplicaSet, "shop/web-5d", Some(named("web-5d", "web"))), ["shop/web"]);
    assert_eq!(touched(&mut store, Kind::Namespace, "shop", Some(named("shop", ""))), ["shop/empty", "shop/web"]);
    let group = shown(&[store.group("shop/web")]).join("\n");
    assert!(group.contains("__meta_kubernetes_pod_deployment_name=\"web\""), "{group}");
    assert!(group.contains("__meta_kubernetes_namespace_label_l=\"shop\""), "{group}");
    assert!(!group.contains("__meta_kubernetes_service_name"), "{group}");
    assert_eq!(touched(&mut store, Kind::Pod, "shop/web-1", None), ["shop/web"]);
    assert_eq!(touched(&mut store, Kind::Endpoints, "shop/web", None), ["shop/web"]);
    assert!(store.group("shop/web").targets.is_empty());
    assert_eq!(touched(&mut store, Kind::Pod, "shop/gone", None), Vec::<String>::new(), "named no more");
}

/// An API server: lists what it has, streams what it is told, and remembers what it was asked.
#[derive(Clone)]
struct Api {
    lists: Arc<Mutex<BTreeMap<String, String>>>,
    streams: Arc<BTreeMap<String, tokio::sync::Mutex<mpsc::UnboundedReceiver<String>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Api {
    async fn serve(self, mut socket: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = socket.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        self.asked.lock().push(target.clone());
        let (kind, body) = match self.lists.lock().get(&path) {
            Some(body) => ("200 OK", body.clone()),
            None => ("404 Not Found", String::new()),
        };
        if !target.contains("watch=true") || kind != "200 OK" {
            let head = format!("HTTP/1.1 {kind}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = socket.write_all(format!("{head}{body}").as_bytes()).await;
            return;
        }
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        let mut lines = self.streams[&path].lock().await;
        if socket.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        while let Some(line) = lines.recv().await {
            if line == "end" || socket.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

fn pod(name: &str, ip: &str, version: u32) -> String {
    format!(
        "{{\"metadata\": {{\"name\": \"{name}\", \"namespace\": \"n\", \"resourceVersion\": \"{version}\"}}, \"spec\": \
         {{\"containers\": [{{\"name\": \"c\"}}]}}, \"status\": {{\"podIP\": \"{ip}\"}}}}"
    )
}

fn list(version: u32, items: &[String]) -> String {
    format!("{{\"metadata\": {{\"resourceVersion\": \"{version}\"}}, \"items\": [{}]}}", items.join(","))
}

fn line(kind: &str, object: &str) -> String {
    format!("{{\"type\": \"{kind}\", \"object\": {object}}}")
}

fn addresses(targets: &[String]) -> Vec<&str> {
    targets.iter().filter_map(|target| target.split('"').nth(1)).collect()
}

#[tokio::test]
async fn lists_and_streams_keep_targets_up_to_date() {
    const PODS: &str = "/api/v1/namespaces/n/pods";
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let server = format!("http://{}", listener.local_addr().expect("bound"));
    let (tell, stream) = mpsc::unbounded_channel();
    let api = Api {
        lists: Arc::new(Mutex::new(BTreeMap::from([(
            PODS.to_owned(),
            list(7, &[pod("a", "1", 3), pod("b", "2", 4)]),
        )]))),
        streams: Arc::new(BTreeMap::from([(PODS.to_owned(), tokio::sync::Mutex::new(stream))])),
        asked: Arc::default(),
    };
    let (accepting, tasks) = (api.clone(), runtime::Tasks::new(Clock::system()));
    tasks.clone().spawn_once("api", async move {
        while let Ok((socket, _)) = listener.accept().await {
            tasks.spawn_once("connection", accepting.clone().serve(socket));
        }
    });
    let bench = Bench::quick();
    let yaml = format!(
        "kubernetes_sd_configs: [{{role: pod, api_server: '{server}', namespaces: {{names: [n]}}, selectors: [{{role: \
         pod, label: 'x=y'}}]}}]"
    );
    bench.apply(&[("j", configs(&yaml, Path::new("")))]);
    bench.until(|targets| addresses(targets) == ["1", "2"]).await;
    let send = |line: String| tell.send(line).expect("a stream is open");
    send(line("MODIFIED", &pod("a", "11", 8)));
    send(line("DELETED", &pod("b", "2", 9)));
    send(line("BOOKMARK", "{\"metadata\": {\"resourceVersion\": \"20\"}}"));
    send("end".into());
    bench.until(|targets| addresses(targets) == ["11"]).await;
    api.lists.lock().insert(PODS.to_owned(), list(30, &[pod("c", "3", 25)]));
    send(line("ERROR", "{\"code\": 410, \"message\": \"too old\"}"));
    send("end".into());
    bench.until(|targets| addresses(targets) == ["3"]).await;
    send(line("ADDED", &pod("d", "4", 31)));
    bench.until(|targets| addresses(targets) == ["3", "4"]).await;
    let asked = api.asked.lock().clone();
    let versions: Vec<&str> = asked
        .iter()
        .filter(|target| target.contains("watch=true"))
        .filter_map(|target| target.split("resourceVersion=").nth(1)?.split('&').next())
        .collect();
    assert_eq!(versions, ["7", "20", "30"], "{asked:?}");
    assert!(asked.iter().all(|target| target.contains("labelSelector=x%3Dy") && target.starts_with(PODS)), "{asked:?}");
    assert!(asked.iter().any(|target| target.contains("allowWatchBookmarks=true")));
    assert_eq!(bench.metric("prometheus_sd_kubernetes_events_total", "{event=\"update\", role=\"pod\"}"), 1.0);
    assert_eq!(bench.metric("prometheus_sd_kubernetes_failures_total", "{}"), 0.0);
}
