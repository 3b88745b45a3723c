//! A local time server's opinion, asked by SNTP: RFC 5905 section 14, and the checks that make it trustworthy.
//!
//! Left out: authentication, and servers of others; a public server must not be asked by every host at every scrape.

use super::{Collector, Gather, Settings, StartError};
use crate::families::Families;
use crate::host::{Failure, Host};
use cli::Flag;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Ipv6Ttl;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub(super) const COLLECTOR: Collector = Collector { name: "ntp", enabled: false, flags, deprecated: &[], build };

const SERVER: &str = "collector.ntp.server";
const PORT: &str = "collector.ntp.server-port";
const VERSION: &str = "collector.ntp.protocol-version";
const LOCAL: &str = "collector.ntp.server-is-local";
const TTL: &str = "collector.ntp.ip-ttl";
const DISTANCE: &str = "collector.ntp.max-distance";
const TOLERANCE: &str = "collector.ntp.local-offset-tolerance";
const TIMEOUT: Duration = Duration::from_secs(1);
const PACKET: usize = 48;
/// Seconds from 1900 to 1970.
const ERA: i128 = 2_208_988_800;
const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 86_400 * SECOND;
/// Stratum of a server without time.
const STRATUM_MAX: u8 = 16;
/// The longest pause between two polls; an older reference is no reference.
const FRESH: i128 = (1 << 17) * SECOND;
const DISPERSION_MAX: i128 = 16 * SECOND;

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(SERVER, "127.0.0.1", "Time server to ask"),
        Flag::int(PORT, 123, "Port of the time server"),
        Flag::int(VERSION, 4, "Version of the protocol, 2 to 4"),
        Flag::boolean(LOCAL, false, "Say that the server is not a public one"),
        Flag::int(TTL, 1, "How many routers a question may pass"),
        Flag::duration_go(DISTANCE, "3.46608s", "Largest distance to the source of the time that is sane"),
        Flag::duration_go(TOLERANCE, "1ms", "Difference between server and local clock that is sane"),
    ]
}

struct Ntp {
    server: String,
    port: u16,
    version: u8,
    ttl: i32,
    distance: i128,
    tolerance: i128,
    /// The midnight at which a leap second is due; servers drop the flag right after it.
    leap: Mutex<i128>,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    tracing::warn!("the ntp collector is deprecated and may be removed");
    let refuse = |flag, reason: &str| Err(StartError::Setting { flag, reason: reason.to_owned() });
    let parsed = settings.parsed;
    let server = parsed.str(SERVER).to_owned();
    if !parsed.bool(LOCAL) && !is_loopback(&server) {
        return refuse(SERVER, "only IP addresses of this host are allowed, or give --collector.ntp.server-is-local");
    }
    let version = match parsed.int(VERSION) {
        version @ 2..=4 => version as u8,
        _ => return refuse(VERSION, "must be 2, 3 or 4"),
    };
    let port = match u16::try_from(parsed.int(PORT)) {
        Ok(port) if port > 0 => port,
        _ => return refuse(PORT, "must be from 1 to 65535"),
    };
    if parsed.is_negative(TOLERANCE) {
        return refuse(TOLERANCE, "must not be below zero");
    }
    let nanoseconds = |flag| i128::try_from(parsed.duration(flag).as_nanos()).unwrap_or(i128::MAX);
    Ok(Box::new(Ntp {
        server,
        port,
        version,
        ttl: i32::try_from(parsed.int(TTL)).unwrap_or(1),
        distance: nanoseconds(DISTANCE),
        tolerance: nanoseconds(TOLERANCE),
        leap: Mutex::new(0),
    }))
}

fn is_loopback(server: &str) -> bool {
    server.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Nanoseconds since 1970 on both clocks, and what the server says about itself.
#[derive(Debug, Clone, PartialEq)]
struct Reply {
    leap: u8,
    mode: u8,
    stratum: u8,
    root_delay: i128,
    root_dispersion: i128,
    reference: i128,
    /// When the question left, by this host's clock.
    asked: i128,
    /// When it arrived there, and when the answer left, by the server's clock.
    received: i128,
    sent: i128,
    /// When the answer arrived, by this host's clock.
    arrived: i128,
}

impl Reply {
    fn round_trip(&self) -> i128 {
        (self.arrived - self.asked - (self.sent - self.received)).max(0)
    }

    fn offset(&self) -> i128 {
        ((self.received - self.asked) + (self.sent - self.arrived)) / 2
    }

    /// By how much an effect came before its cause: the least error of one of the clocks.
    fn violation(&self) -> i128 {
        (self.asked - self.received).max(self.sent - self.arrived).max(0)
    }

    fn distance(&self) -> i128 {
        (self.round_trip() + self.root_delay) / 2 + self.root_dispersion
    }

    /// The server has the time, and had it lately.
    fn is_valid(&self) -> bool {
        (1..STRATUM_MAX).contains(&self.stratum)
            && self.leap != 3
            && self.sent - self.reference <= FRESH
            && self.sent >= self.reference
            && self.root_delay / 2 + self.root_dispersion <= DISPERSION_MAX
    }
}

impl Gather for Ntp {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let reply = self.ask(host).map_err(|source| Failure::Call { call: "asking the time server", source })?;
        let sane = self.is_sane(&reply);
        show(&reply, sane, out);
        Ok(())
    }
}

impl Ntp {
    fn ask(&self, host: &Host) -> io::Result<Reply> {
        let mut addresses = (self.server.as_str(), self.port).to_socket_addrs()?;
        let address = addresses.next().ok_or_else(|| io::Error::other("the server's name has no address"))?;
        let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        if self.ttl > 0 {
            match address.is_ipv4() {
                true => socket.set_ttl(self.ttl.unsigned_abs())?,
                false => setsockopt(&socket, Ipv6Ttl, &self.ttl)?,
            }
        }
        socket.connect(address)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        // The clock of the machine itself is what is compared, so a simulated one would make no sense here.
        let asked = wall()?;
        let start = host.clock().now();
        socket.send(&question(self.version, asked))?;
        let mut packet = [0; 512];
        let length = socket.recv(&mut packet)?;
        let elapsed = i128::try_from((host.clock().now() - start).as_nanos()).unwrap_or(i128::MAX);
        parse(&packet[..length], asked, asked + elapsed).map_err(io::Error::other)
    }

    fn is_sane(&self, reply: &Reply) -> bool {
        let mut leap = self.leap.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(reply.leap, 1 | 2) {
            *leap = reply.sent - reply.sent.rem_euclid(DAY) + DAY;
        }
        let smeared = (reply.sent - *leap).abs() < DAY;
        let tolerance = if smeared { self.tolerance + SECOND } else { self.tolerance };
        reply.is_valid() && reply.distance() <= self.distance && reply.violation() <= tolerance
    }
}

fn wall() -> io::Result<i128> {
    let now = nix::time::ClockId::CLOCK_REALTIME.now()?;
    Ok(i128::from(now.tv_sec()) * SECOND + i128::from(now.tv_nsec()))
}

/// A client's packet: only version, mode and the time of sending count.
fn question(version: u8, now: i128) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    packet[0] = version << 3 | 3;
    packet[40..48].copy_from_slice(&stamp(now).to_be_bytes());
    packet
}

/// Nanoseconds since 1970 as seconds since 1900 with 32 bits of fraction.
fn stamp(nanoseconds: i128) -> u64 {
    let seconds = nanoseconds.div_euclid(SECOND) + ERA;
    let fraction = (nanoseconds.rem_euclid(SECOND) << 32) / SECOND;
    (seconds as u64) << 32 | fraction as u64
}

/// The other way; the era of the result is that of now, until 2036.
fn time(stamp: u64) -> i128 {
    (i128::from(stamp >> 32) - ERA) * SECOND + ((i128::from(stamp & 0xffff_ffff) * SECOND) >> 32)
}

fn parse(packet: &[u8], asked: i128, arrived: i128) -> Result<Reply, &'static str> {
    let long = |at: usize| packet.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    let short = |at: usize| packet.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    let (Some(&first), Some(&stratum)) = (packet.first(), packet.get(1)) else { return Err("the answer is empty") };
    let (Some(delay), Some(dispersion), Some(reference)) = (short(4), short(8), long(16)) else {
        return Err("the answer is too short");
    };
    let (Some(origin), Some(received), Some(sent)) = (long(24), long(32), long(40)) else {
        return Err("the answer is too short");
    };
    if first & 7 != 4 {
        return Err("the answer does not come from a server");
    }
    if sent == 0 {
        return Err("the answer says no time");
    }
    if origin != stamp(asked) {
        return Err("the answer belongs to another question");
    }
    if received > sent {
        return Err("the server's clock ran backwards");
    }
    let seconds = |value: u32| (i128::from(value) * SECOND) >> 16;
    Ok(Reply {
        leap: first >> 6,
        mode: first & 7,
        stratum,
        root_delay: seconds(delay),
        root_dispersion: seconds(dispersion),
        reference: time(reference),
        asked,
        received: time(received),
        sent: time(sent),
        arrived,
    })
}

fn show(reply: &Reply, sane: bool, out: &mut Families) {
    let seconds = |nanoseconds: i128| nanoseconds as f64 / 1e9;
    out.gauge("node_ntp_stratum", "How far the server is from a reference clock.", f64::from(reply.stratum));
    out.gauge("node_ntp_leap", "Leap second warning of the server.", f64::from(reply.leap));
    out.gauge("node_ntp_rtt_seconds", "Time to the server and back.", seconds(reply.round_trip()));
    out.gauge("node_ntp_offset_seconds", "Difference of the server's clock to this one.", seconds(reply.offset()));
    // Times before 1970 mean that the server never had any.
    let reference = if reply.reference >= SECOND { seconds(reply.reference) } else { 0.0 };
    out.gauge("node_ntp_reference_timestamp_seconds", "When the server's clock was set.", reference);
    out.gauge("node_ntp_root_delay_seconds", "The server's way to its reference.", seconds(reply.root_delay));
    let help = "The server's error to its reference.";
    out.gauge("node_ntp_root_dispersion_seconds", help, seconds(reply.root_dispersion));
    out.gauge("node_ntp_sanity", "1 when the server's time can be trusted.", f64::from(u8::from(sane)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    const NOW: i128 = 1_700_000_000 * SECOND + 250_000_000;

    /// An answer of a server whose clock is `ahead` of ours.
    fn answer(question: &[u8], ahead: i128) -> Vec<u8> {
        let mut packet = vec![0; PACKET];
        (packet[0], packet[1]) = (4 << 3 | 4, 2);
        packet[4..8].copy_from_slice(&0x0001_8000u32.to_be_bytes());
        packet[8..12].copy_from_slice(&0x0000_4000u32.to_be_bytes());
        packet[16..24].copy_from_slice(&stamp(NOW - 60 * SECOND).to_be_bytes());
        packet[24..32].copy_from_slice(&question[40..48]);
        packet[32..40].copy_from_slice(&stamp(NOW + ahead + 4_000_000).to_be_bytes());
        packet[40..48].copy_from_slice(&stamp(NOW + ahead + 6_000_000).to_be_bytes());
        packet
    }

    fn ntp() -> Ntp {
        let (server, leap) = ("127.0.0.1".to_owned(), Mutex::new(0));
        Ntp { server, port: 123, version: 4, ttl: 1, distance: 3_466_080_000, tolerance: 1_000_000, leap }
    }

    #[test]
    fn figures_of_an_answer() {
        let question = question(4, NOW);
        let reply = parse(&answer(&question, SECOND), NOW, NOW + 10_000_000).expect("an answer");
        assert_eq!((reply.stratum, reply.leap, reply.mode), (2, 0, 4));
        assert_eq!((reply.root_delay, reply.root_dispersion), (1_500_000_000, 250_000_000));
        let near = |value: i128, expected: i128| assert!((value - expected).abs() < 10, "{value} for {expected}");
        near(reply.round_trip(), 8_000_000);
        near(reply.offset(), SECOND);
        near(reply.violation(), SECOND - 4_000_000);
        near(reply.distance(), 754_000_000 + 250_000_000);
        let mut out = Families::new();
        show(&reply, true, &mut out);
        let text = String::from_utf8(out.finish().0).expect("text");
        assert!(text.contains("node_ntp_stratum 2\n") && text.contains("node_ntp_root_delay_seconds 1.5\n"), "{text}");
    }

    #[test]
    fn answers_that_are_refused() {
        let question = question(4, NOW);
        let refused = |change: fn(&mut Vec<u8>)| {
            let mut packet = answer(&question, 0);
            change(&mut packet);
            parse(&packet, NOW, NOW + 10_000_000).is_err()
        };
        assert!(!refused(|_| {}));
        assert!(refused(|packet| packet.truncate(47)));
        assert!(refused(|packet| packet[0] = 4 << 3 | 3));
        assert!(refused(|packet| packet[40..48].fill(0)));
        assert!(refused(|packet| packet[31] ^= 1));
        assert!(refused(|packet| packet[32] = 0xff));
    }

    #[test]
    fn what_is_sane() {
        let question = question(4, NOW);
        let good = parse(&answer(&question, 0), NOW, NOW + 10_000_000).expect("an answer");
        let check = |expected: bool, change: fn(&mut Reply)| {
            let mut reply = good.clone();
            change(&mut reply);
            assert_eq!(ntp().is_sane(&reply), expected, "{reply:?}");
        };
        check(true, |_| {});
        check(false, |reply| reply.stratum = 0);
        check(false, |reply| reply.stratum = 16);
        check(false, |reply| reply.leap = 3);
        check(false, |reply| reply.reference -= 2 * FRESH);
        check(false, |reply| reply.reference = reply.sent + SECOND);
        check(false, |reply| reply.root_dispersion = 4 * SECOND);
        check(false, |reply| (reply.received, reply.sent) = (reply.received + SECOND, reply.sent + SECOND));
        // Around a leap second a server may be off by one.
        check(true, |reply| {
            reply.leap = 1;
            (reply.received, reply.sent) = (reply.received + SECOND / 2, reply.sent + SECOND / 2);
        });
    }

    #[test]
    fn settings_that_cannot_work() {
        let refusal = |flag: &str| Tree::new().refusal(&["--collector.ntp", flag]);
        assert!(refusal("--collector.ntp.server=192.0.2.1").contains("server-is-local"));
        assert!(refusal("--collector.ntp.protocol-version=5").contains("2, 3 or 4"));
        assert!(refusal("--collector.ntp.server-port=0").contains("65535"));
        assert!(refusal("--collector.ntp.local-offset-tolerance=-5s").contains("must not be below zero"));
        let flags = ["--collector.ntp", "--collector.ntp.server=192.0.2.1", "--collector.ntp.server-is-local"];
        assert!(Tree::new().start(&flags).is_ok());
    }

    #[test]
    fn a_server_on_this_host() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let port = format!("--collector.ntp.server-port={}", server.local_addr().expect("address").port());
        let serve = std::thread::spawn(move || {
            let mut packet = [0; 512];
            let (length, client) = server.recv_from(&mut packet).expect("a question");
            let mut reply = answer(&packet[..length], 0);
            let now = time(u64::from_be_bytes(packet[40..48].try_into().expect("eight bytes")));
            reply[16..24].copy_from_slice(&stamp(now - SECOND).to_be_bytes());
            reply[32..40].copy_from_slice(&stamp(now + 1000).to_be_bytes());
            reply[40..48].copy_from_slice(&stamp(now + 1000).to_be_bytes());
            server.send_to(&reply, client).expect("answered");
        });
        let samples = Tree::new().samples("ntp", &["--collector.ntp", &port]);
        serve.join().expect("served");
        assert!(samples.contains("node_ntp_sanity 1\n") && samples.contains("node_ntp_leap 0\n"), "{samples}");
    }
}
