//! Network devices as netlink lists them (`RTM_GETLINK`), see `rtnetlink(7)` and the kernel's `if_link.h`.

use crate::host::Failure;
use crate::netlink::{
    GET_LINK, LINK_HEAD, LINK_NAME, Netlink, attributes, attributes_after, hardware_address, text, u16_at, u32_at,
    u64_at,
};

const ADDRESS: u16 = 1;
const BROADCAST: u16 = 2;
const MTU: u16 = 4;
const LINK: u16 = 5;
const STATS: u16 = 7;
const QUEUE_LENGTH: u16 = 13;
const STATE: u16 = 16;
const MODE: u16 = 17;
const ALIAS: u16 = 20;
const STATS64: u16 = 23;
const GROUP: u16 = 27;
const CARRIER: u16 = 33;
const CARRIER_CHANGES: u16 = 35;
const CARRIER_UP: u16 = 47;
const CARRIER_DOWN: u16 = 48;
const PROPERTIES: u16 = 52;
const OTHER_NAME: u16 = 53;

/// The figures of a device, in the order of the kernel's structure. Newer kernels append to it.
pub(crate) const FIGURES: [&str; 24] = [
    "receive_packets",
    "transmit_packets",
    "receive_bytes",
    "transmit_bytes",
    "receive_errors",
    "transmit_errors",
    "receive_dropped",
    "transmit_dropped",
    "multicast",
    "collisions",
    "receive_length_errors",
    "receive_over_errors",
    "receive_crc_errors",
    "receive_frame_errors",
    "receive_fifo_errors",
    "receive_missed_errors",
    "transmit_aborted_errors",
    "transmit_carrier_errors",
    "transmit_fifo_errors",
    "transmit_heartbeat_errors",
    "transmit_window_errors",
    "receive_compressed",
    "transmit_compressed",
    "receive_nohandler",
];

/// The kernel's words for `operstate`.
const STATES: [&str; 7] = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"];

/// One device. What the kernel did not say is zero or empty.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) index: u32,
    pub(crate) hardware: u16,
    pub(crate) flags: u32,
    pub(crate) address: String,
    pub(crate) broadcast: String,
    pub(crate) mtu: u32,
    /// The device below, for those that sit on another one.
    pub(crate) lower: u32,
    pub(crate) queue_length: u32,
    pub(crate) state: &'static str,
    pub(crate) mode: u8,
    pub(crate) alias: String,
    pub(crate) other_names: Vec<String>,
    pub(crate) group: u32,
    pub(crate) carrier: u8,
    pub(crate) carrier_changes: u32,
    pub(crate) carrier_up: u32,
    pub(crate) carrier_down: u32,
    /// In the order of [`FIGURES`]; none where the driver counts nothing.
    pub(crate) figures: Option<[u64; FIGURES.len()]>,
}

impl Link {
    /// One of [`FIGURES`].
    pub(crate) fn figure(&self, name: &str) -> u64 {
        let position = FIGURES.iter().position(|figure| *figure == name);
        position.and_then(|position| self.figures?.get(position).copied()).unwrap_or(0)
    }
}

/// All devices of the network this process is in.
pub(crate) fn read() -> Result<Vec<Link>, Failure> {
    let answer = Netlink::route()?.dump(GET_LINK, &[0; LINK_HEAD])?;
    Ok(answer.iter().filter_map(parse).collect())
}

fn parse(message: &[u8]) -> Option<Link> {
    let mut link = Link {
        hardware: u16_at(message, 2)?,
        index: u32_at(message, 4)?,
        flags: u32_at(message, 8)?,
        state: STATES[0],
        ..Link::default()
    };
    let (mut old, mut new) = (None, None);
    for (kind, value) in attributes_after(message, LINK_HEAD) {
        let number = u32_at(value, 0).unwrap_or(0);
        let small = value.first().copied().unwrap_or(0);
        match kind {
            LINK_NAME => link.name = text(value),
            ADDRESS => link.address = hardware_address(value),
            BROADCAST => link.broadcast = hardware_address(value),
            MTU => link.mtu = number,
            LINK => link.lower = number,
            QUEUE_LENGTH => link.queue_length = number,
            STATE => link.state = STATES.get(usize::from(small)).copied().unwrap_or(STATES[0]),
            MODE => link.mode = small,
            ALIAS => link.alias = text(value),
            GROUP => link.group = number,
            CARRIER => link.carrier = small,
            CARRIER_CHANGES => link.carrier_changes = number,
            CARRIER_UP => link.carrier_up = number,
            CARRIER_DOWN => link.carrier_down = number,
            PROPERTIES => {
                let names = attributes(value).filter(|(kind, _)| *kind == OTHER_NAME);
                link.other_names = names.map(|(_, name)| text(name)).collect();
            }
            STATS => old = Some(figures(value, 4, |bytes, at| u32_at(bytes, at).map(u64::from))),
            STATS64 => new = Some(figures(value, 8, u64_at)),
            _ => {}
        }
    }
    link.figures = new.or(old);
    (!link.name.is_empty()).then_some(link)
}

fn figures(bytes: &[u8], width: usize, read: fn(&[u8], usize) -> Option<u64>) -> [u64; FIGURES.len()] {
    std::array::from_fn(|position| read(bytes, position * width).unwrap_or(0))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::netlink::push_attribute;

    /// A device for tests; the figures count up from one.
    pub(crate) fn example() -> Vec<u8> {
        let mut message = vec![0; LINK_HEAD];
        message[2..4].copy_from_slice(&1u16.to_ne_bytes());
        message[4..8].copy_from_slice(&2u32.to_ne_bytes());
        message[8..12].copy_from_slice(&0x1003u32.to_ne_bytes());
        push_attribute(&mut message, LINK_NAME, b"eth0\0");
        push_attribute(&mut message, ADDRESS, &[2, 0, 0, 0, 0, 1]);
        push_attribute(&mut message, MTU, &1500u32.to_ne_bytes());
        push_attribute(&mut message, STATE, &[6]);
        push_attribute(&mut message, STATS, &[9; 96]);
        let long: Vec<u8> = (1..=25u64).flat_map(u64::to_ne_bytes).collect();
        push_attribute(&mut message, STATS64, &long);
        let mut names = Vec::new();
        push_attribute(&mut names, OTHER_NAME, b"enp1s0\0");
        push_attribute(&mut message, PROPERTIES, &names);
        message
    }

    #[test]
    fn one_device() {
        let link = parse(&example()).expect("a device");
        assert_eq!((link.name.as_str(), link.index, link.state, link.mtu), ("eth0", 2, "up", 1500));
        assert_eq!(link.address, "02:00:00:00:00:01");
        assert_eq!(link.other_names, ["enp1s0"]);
        assert_eq!((link.figure("receive_packets"), link.figure("receive_nohandler")), (1, 24));
        for length in 0..example().len() {
            let _ = parse(&example()[..length]);
        }
    }

    #[test]
    fn a_short_list_of_figures_ends_in_zeros() {
        assert_eq!(figures(&[1, 0, 0, 0, 2, 0, 0, 0], 4, |bytes, at| u32_at(bytes, at).map(u64::from))[..3], [1, 2, 0]);
    }

    #[test]
    fn the_loopback_device_is_there() {
        assert!(read().expect("links").iter().any(|link| link.name == "lo" && link.hardware == 772));
    }
}
