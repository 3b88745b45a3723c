//! Questions to the kernel over netlink sockets, and the attribute lists it answers with.
//!
//! Truth: <https://docs.kernel.org/userspace-api/netlink/intro.html>. Messages are read by offset, because new kernels
//! append to structures; what is shorter than expected reads as absent. Left out: notifications and any change.

use crate::host::Failure;
use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
};
use nix::sys::time::TimeVal;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};

/// One read of a dump; the kernel fills at most 32 KiB.
const READ_BYTES: usize = 64 << 10;
/// More than a host with a full routing table answers with.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// The kernel answers at once; a socket without an answer for so long has lost it.
const TIMEOUT_SECONDS: i64 = 5;
/// How often a dump that changed under the reader is asked for again.
const TRIES: usize = 4;

const HEADER: usize = 16;
const FLAG_REQUEST: u16 = 1;
const FLAG_ACK: u16 = 4;
const FLAG_DUMP: u16 = 0x300;
const FLAG_INTERRUPTED: u16 = 0x10;
const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;

/// Asks for links; the answer is an `ifinfomsg` each.
pub(crate) const GET_LINK: u16 = 18;
/// Asks for addresses.
pub(crate) const GET_ADDRESS: u16 = 22;
/// Asks for routes.
pub(crate) const GET_ROUTE: u16 = 26;
/// Asks for neighbours.
pub(crate) const GET_NEIGHBOUR: u16 = 30;
/// Asks for queueing disciplines.
pub(crate) const GET_QDISC: u16 = 38;
/// Bytes of an `ifinfomsg`, after which the attributes of a link begin.
pub(crate) const LINK_HEAD: usize = 16;
/// The attribute of a link that holds its name.
pub(crate) const LINK_NAME: u16 = 3;

/// A socket for one family of questions.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

/// The messages of one answer, without their headers.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    parts: Vec<Range<usize>>,
}

impl Messages {
    /// The messages in the order in which they came.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().map(|part| &self.bytes[part.clone()])
    }
}

/// Whether an answer is complete.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    More,
    Done,
}

fn failed(call: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| Failure::Call { call, source: io::Error::from_raw_os_error(errno as i32) }
}

impl Netlink {
    /// A socket for links, addresses, routes, neighbours and queues.
    pub(crate) fn route() -> Result<Netlink, Failure> {
        Netlink::open(SockProtocol::NetlinkRoute)
    }

    /// A socket for any family.
    pub(crate) fn open(protocol: SockProtocol) -> Result<Netlink, Failure> {
        let call = "opening a netlink socket";
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).map_err(failed(call))?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(TIMEOUT_SECONDS, 0)).map_err(failed(call))?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed(call))?;
        Ok(Netlink { socket, sequence: 0, request: Vec::new(), buffer: vec![0; READ_BYTES] })
    }

    /// Everything of one kind. A list that changes while it is read is asked for again, and taken as it is at last.
    pub(crate) fn dump(&mut self, kind: u16, body: &[u8]) -> Result<Messages, Failure> {
        let mut messages = Messages::default();
        self.dump_into(kind, body, &mut messages)?;
        Ok(messages)
    }

    /// Like [`Netlink::dump`], in place of what `messages` hold.
    pub(crate) fn dump_into(&mut self, kind: u16, body: &[u8], messages: &mut Messages) -> Result<(), Failure> {
        for _ in 0..TRIES {
            if !self.exchange(kind, FLAG_DUMP, body, messages)? {
                break;
            }
        }
        Ok(())
    }

    /// The answer to a question about one thing.
    pub(crate) fn ask(&mut self, kind: u16, body: &[u8]) -> Result<Messages, Failure> {
        let mut messages = Messages::default();
        self.exchange(kind, FLAG_ACK, body, &mut messages)?;
        Ok(messages)
    }

    /// Sends one question and reads its answer; true when the list changed meanwhile.
    fn exchange(&mut self, kind: u16, flags: u16, body: &[u8], into: &mut Messages) -> Result<bool, Failure> {
        into.bytes.clear();
        into.parts.clear();
        self.sequence = self.sequence.wrapping_add(1);
        let request = &mut self.request;
        request.clear();
        request.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
        request.extend_from_slice(&kind.to_ne_bytes());
        request.extend_from_slice(&(flags | FLAG_REQUEST).to_ne_bytes());
        request.extend_from_slice(&self.sequence.to_ne_bytes());
        request.extend_from_slice(&[0; 4]);
        request.extend_from_slice(body);
        send(self.socket.as_raw_fd(), request, MsgFlags::empty()).map_err(failed("netlink send"))?;
        let mut interrupted = false;
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => continue,
                other => other.map_err(failed("netlink receive"))?,
            };
            if length > self.buffer.len() || into.bytes.len() + length > ANSWER_BYTES_MAX {
                let source = io::Error::other("the answer is longer than the buffer for it");
                return Err(Failure::Call { call: "netlink receive", source });
            }
            let datagram = self.buffer.get(..length).unwrap_or(&[]);
            if split(datagram, self.sequence, into, &mut interrupted)? == Progress::Done {
                return Ok(interrupted);
            }
        }
    }
}

/// Takes one datagram apart. Messages of other questions are skipped.
fn split(datagram: &[u8], sequence: u32, into: &mut Messages, interrupted: &mut bool) -> Result<Progress, Failure> {
    let mut rest = datagram;
    while let Some(length) = u32_at(rest, 0) {
        let length = length as usize;
        let Some(message) = rest.get(..length).filter(|message| message.len() >= HEADER) else { break };
        rest = rest.get(align(length)..).unwrap_or(&[]);
        if u32_at(message, 8) != Some(sequence) {
            continue;
        }
        let (kind, flags) = (u16_at(message, 4).unwrap_or(0), u16_at(message, 6).unwrap_or(0));
        *interrupted |= flags & FLAG_INTERRUPTED != 0;
        match kind {
            KIND_DONE => return Ok(Progress::Done),
            KIND_ERROR => {
                let code = u32_at(message, HEADER).unwrap_or(0) as i32;
                if code == 0 {
                    return Ok(Progress::Done);
                }
                let source = io::Error::from_raw_os_error(-code);
                return Err(Failure::Call { call: "netlink request", source });
            }
            _ => {
                let start = into.bytes.len();
                into.bytes.extend_from_slice(&message[HEADER..]);
                into.parts.push(start..into.bytes.len());
            }
        }
    }
    Ok(Progress::More)
}

fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// The attributes of a message: kind and bytes. Ends at the first that does not fit.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        // The two highest bits say "nested" and "network byte order".
        let kind = u16_at(rest, 2)? & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(align(length)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// The attributes after a head of fixed size.
pub(crate) fn attributes_after(message: &[u8], head: usize) -> impl Iterator<Item = (u16, &[u8])> {
    attributes(message.get(head..).unwrap_or(&[]))
}

/// Appends one attribute to a question.
pub(crate) fn push_attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(align(out.len()), 0);
}

/// A number of 16 bits in the machine's order.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

/// A number of 32 bits in the machine's order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A number of 64 bits in the machine's order.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

/// Text up to its NUL.
pub(crate) fn text(bytes: &[u8]) -> String {
    let mut text = String::new();
    write_text(bytes, &mut text);
    text
}

/// Appends text up to its NUL.
pub(crate) fn write_text(bytes: &[u8], out: &mut String) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    out.push_str(&String::from_utf8_lossy(&bytes[..end]));
}

/// An address of either family.
pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|octets| Ipv4Addr::from(octets).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// Octets as `aa:bb:cc`.
pub(crate) fn hardware_address(bytes: &[u8]) -> String {
    let mut text = String::new();
    write_hardware_address(bytes, &mut text);
    text
}

/// Appends octets as `aa:bb:cc`.
pub(crate) fn write_hardware_address(bytes: &[u8], out: &mut String) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    for (position, octet) in bytes.iter().enumerate() {
        if position > 0 {
            out.push(':');
        }
        out.extend([DIGITS[usize::from(octet >> 4)], DIGITS[usize::from(octet & 15)]]);
    }
}

/// The names of the links by index.
pub(crate) fn link_names(netlink: &mut Netlink) -> Result<BTreeMap<u32, String>, Failure> {
    let links = netlink.dump(GET_LINK, &[0; LINK_HEAD])?;
    let name = |message| {
        let (_, name) = attributes_after(message, LINK_HEAD).find(|(kind, _)| *kind == LINK_NAME)?;
        Some((u32_at(message, 4)?, text(name)))
    };
    Ok(links.iter().filter_map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(&flags.to_ne_bytes());
        out.extend_from_slice(&sequence.to_ne_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(body);
        out.resize(align(out.len()), 0);
        out
    }

    #[test]
    fn datagrams_are_taken_apart() {
        let mut datagram = message(16, 2, 7, b"abcde");
        datagram.extend(message(16, 2, 6, b"of another question"));
        datagram.extend(message(16, 2 | FLAG_INTERRUPTED, 7, b"fgh!"));
        let (mut messages, mut interrupted) = (Messages::default(), false);
        assert!(matches!(split(&datagram, 7, &mut messages, &mut interrupted), Ok(Progress::More)));
        assert_eq!(messages.iter().collect::<Vec<_>>(), [&b"abcde"[..], b"fgh!"]);
        assert!(interrupted);
        let done = message(KIND_DONE, 2, 7, &[0; 4]);
        assert!(matches!(split(&done, 7, &mut messages, &mut interrupted), Ok(Progress::Done)));
        let refused = message(KIND_ERROR, 0, 7, &(-95i32).to_ne_bytes());
        let failure = split(&refused, 7, &mut messages, &mut interrupted).expect_err("refused");
        assert!(failure.to_string().contains("not supported"), "{failure}");
        for length in 0..datagram.len() {
            let _ = split(&datagram[..length], 7, &mut Messages::default(), &mut interrupted);
        }
    }

    #[test]
    fn attributes_end_where_they_do_not_fit() {
        let mut list = Vec::new();
        push_attribute(&mut list, 3, b"eth0\0");
        push_attribute(&mut list, 0x8000 | 4, &1500u32.to_ne_bytes());
        let read: Vec<_> = attributes(&list).collect();
        assert_eq!(read, [(3, &b"eth0\0"[..]), (4, &1500u32.to_ne_bytes()[..])]);
        assert_eq!(text(read[0].1), "eth0");
        assert_eq!(attributes(&list[..list.len() - 1]).count(), 1);
        assert_eq!(attributes(&[2, 0, 1, 0]).count(), 0, "shorter than its own head");
        assert_eq!(hardware_address(&[0, 0x1f, 0xab]), "00:1f:ab");
    }

    #[test]
    fn this_machine_has_links() {
        let names = link_names(&mut Netlink::route().expect("socket")).expect("links");
        assert!(names.values().any(|name| name == "lo"), "{names:?}");
    }
}
