//! Refusals, and answers of a name server made for them.

use super::*;
use crate::testing::{Bench, configs, refusal};
use hickory_resolver::{
    config::{ConnectionConfig, NameServerConfig, ProtocolConfig},
    proto::{
        op::{Message, ResponseCode},
        rr::{Record, rdata},
    },
};
use runtime::{Clock, Tasks};
use std::{net::SocketAddr, str::FromStr};
use tokio::net::UdpSocket;

#[test]
fn what_cannot_be_asked_is_refused_in_upstreams_words() {
    for (yaml, want) in [
        ("{}", "DNS-SD config must contain at least one SRV record name"),
        ("{names: [a], type: A}", "a port is required in DNS-SD configs for all record types except SRV"),
        ("{names: [a], type: PTR}", "invalid DNS-SD records type PTR"),
        ("{names: [a], port: 70000}", "70000"),
        ("{name: a}", "unknown field"),
    ] {
        let refusal = refusal(&format!("dns_sd_configs: [{yaml}]"));
        assert!(refusal.contains(want), "{yaml}: {refusal}");
    }
    configs("dns_sd_configs: [{names: [a]}, {names: [b], type: aaaa, port: 1}]", Path::new(""));
}

fn name(text: &str) -> Name {
    Name::from_str(text).expect("a name")
}

/// What the server answers: records, a refusal, or nothing of that name.
fn answer(asked: &str, kind: RecordType) -> Result<Vec<RData>, ResponseCode> {
    let srv = |port, host| RData::SRV(rdata::SRV::new(0, 0, port, name(host)));
    Ok(match (asked, kind) {
        ("web.example.", RecordType::A) => vec![
            RData::CNAME(rdata::CNAME(name("alias.example."))),
            RData::A(rdata::A::new(10, 0, 0, 1)),
            RData::A(rdata::A::new(10, 0, 0, 2)),
        ],
        ("web.example.", RecordType::AAAA) => vec![RData::AAAA(rdata::AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))],
        ("web.example.", RecordType::MX) => vec![RData::MX(rdata::MX::new(1, name("mail.example.")))],
        ("web.example.", RecordType::NS) => vec![RData::NS(rdata::NS(name("ns.example.")))],
        ("_x._tcp.example.", RecordType::SRV) => vec![srv(9100, "a.example."), srv(9101, "b.example.")],
        ("broken.example.", _) => return Err(ResponseCode::ServFail),
        _ => return Err(ResponseCode::NXDomain),
    })
}

async fn server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("bound");
    Tasks::new(Clock::system()).spawn_once("name server", async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let asked = Message::from_vec(&buffer[..length]).expect("a question");
            let query = asked.queries[0].clone();
            let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
            match answer(&query.name().to_string(), query.query_type()) {
                Ok(records) => {
                    for data in records {
                        reply.add_answer(Record::from_rdata(query.name().clone(), 60, data));
                    }
                }
                Err(code) => reply.metadata.response_code = code,
            }
            reply.add_query(query);
            let _ = socket.send_to(&reply.to_vec().expect("encodes"), from).await;
        }
    });
    address
}

fn system(address: SocketAddr) -> (ResolverConfig, ResolverOpts) {
    let mut connection = ConnectionConfig::new(ProtocolConfig::Udp);
    connection.port = address.port();
    let server = NameServerConfig::new(address.ip(), true, vec![connection]);
    let mut options = ResolverOpts::default();
    options.attempts = 1;
    (ResolverConfig::from_parts(None, vec![name("example.")], vec![server]), options)
}

#[tokio::test]
async fn records_become_targets() {
    let (servers, options) = system(server().await);
    let asker = Asker::new(servers, options).expect("built");
    let bench = Bench::new(Clock::system());
    let metrics = Config::metrics(&bench.registry, &bench.clock);
    for (yaml, want) in [
        (
            "{names: [web.example], type: A, port: 80}",
            vec![
                "{__address__=\"10.0.0.1:80\", __meta_dns_name=\"web.example\"}",
                "{__address__=\"10.0.0.2:80\", __meta_dns_name=\"web.example\"}",
            ],
        ),
        ("{names: [web], type: AAAA, port: 80}", vec!["{__address__=\"[fd00::1]:80\", __meta_dns_name=\"web\"}"]),
        (
            "{names: [web.example.], type: MX, port: 25}",
            vec![
                "{__address__=\"mail.example:25\", __meta_dns_mx_record_target=\"mail.example.\", \
                 __meta_dns_name=\"web.example.\"}",
            ],
        ),
        (
            "{names: [web.example.], type: NS, port: 53}",
            vec![
                "{__address__=\"ns.example:53\", __meta_dns_name=\"web.example.\", \
                 __meta_dns_ns_record_target=\"ns.example.\"}",
            ],
        ),
        (
            "{names: [_x._tcp.example, nothing.example], port: 5}",
            vec![
                "{__address__=\"a.example:9100\", __meta_dns_name=\"_x._tcp.example\", \
                 __meta_dns_srv_record_port=\"9100\", __meta_dns_srv_record_target=\"a.example.\"}",
                "{__address__=\"b.example:9101\", __meta_dns_name=\"_x._tcp.example\", \
                 __meta_dns_srv_record_port=\"9101\", __meta_dns_srv_record_target=\"b.example.\"}",
            ],
        ),
    ] {
        let config: Config = serde_saphyr::from_str(yaml).expect(yaml);
        let groups = config.round(&asker, &metrics).await;
        assert_eq!(groups.len(), config.names.iter().flatten().count(), "{yaml}");
        let have: Vec<String> = groups.iter().flat_map(|group| &group.targets).map(ToString::to_string).collect();
        assert_eq!(have, want, "{yaml}");
    }
    let broken: Config =
        serde_saphyr::from_str("{names: [web.example, broken.example], type: A, port: 1}").expect("valid");
    let groups = broken.round(&asker, &metrics).await;
    let sources: Vec<&str> = groups.iter().map(|group| group.source.as_str()).collect();
    assert_eq!(sources, ["web.example"], "a name that failed keeps what it had");
    assert_eq!((metrics.failures.get(), metrics.lookups.get()), (1.0, 8.0));
}
