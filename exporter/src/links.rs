//! Network devices as netlink lists them (`RTM_GETLINK`), see `rtnetlink(7)` and the kernel's `if_link.h`.

use crate::host::Failure;
use crate::netlink::{
    GET_LINK, LINK_HEAD, LINK_NAME, Messages, Netlink, attributes, attributes_after, text, u16_at, u32_at, u64_at,
    write_hardware_address, write_text,
};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

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
const PROMISCUITY: u16 = 30;
const CARRIER: u16 = 33;
const CARRIER_CHANGES: u16 = 35;
const CARRIER_UP: u16 = 47;
const CARRIER_DOWN: u16 = 48;
const PROPERTIES: u16 = 52;
const OTHER_NAME: u16 = 53;
const ALL_MULTICAST: u16 = 61;
/// Flags that are said in other attributes, or not at all, by the file `flags` of sysfs.
const IFF_PROMISC: u32 = 0x100;
const IFF_ALLMULTI: u32 = 0x200;
const LOOPBACK: u16 = 772;
const IFF_STATES: u32 = 0x40 | 0x10000 | 0x20000;
/// What the kernel says since 6.0 of every device; with less, files are read.
const ALL_SAID: u64 = 1 << MTU
    | 1 << QUEUE_LENGTH
    | 1 << STATE
    | 1 << MODE
    | 1 << GROUP
    | 1 << PROMISCUITY
    | 1 << CARRIER
    | 1 << CARRIER_CHANGES
    | 1 << CARRIER_UP
    | 1 << CARRIER_DOWN
    | 1 << ALL_MULTICAST;

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
    pub(crate) lower: Option<u32>,
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
    pub(crate) promiscuity: u32,
    pub(crate) all_multicast: u32,
    /// A bit for each attribute that was said.
    pub(crate) said: u64,
    /// In the order of [`FIGURES`]; none where the driver counts nothing.
    pub(crate) figures: Option<[u64; FIGURES.len()]>,
}

impl Link {
    /// Whether nothing is missing of what the files of sysfs say.
    pub(crate) fn is_whole(&self) -> bool {
        self.said & ALL_SAID == ALL_SAID
    }

    /// Whether the device is in use; most of its files cannot be read otherwise.
    pub(crate) fn is_up(&self) -> bool {
        self.flags & 1 == 1
    }

    /// Whether its driver can know of a speed: the device that leads back to this machine has none.
    pub(crate) fn has_speed(&self) -> bool {
        self.is_up() && self.hardware != LOOPBACK
    }

    /// Whether it waits for an event.
    pub(crate) fn is_dormant(&self) -> bool {
        self.flags & 0x20000 != 0
    }

    /// The flags as the file of sysfs shows them, which are not the ones that netlink says.
    pub(crate) fn file_flags(&self) -> u32 {
        let mut flags = self.flags & !(IFF_STATES | IFF_PROMISC | IFF_ALLMULTI);
        if self.promiscuity > 0 {
            flags |= IFF_PROMISC;
        }
        if self.all_multicast > 0 {
            flags |= IFF_ALLMULTI;
        }
        flags
    }

    /// Forgets everything but the room for its texts.
    fn clear(&mut self) {
        let emptied = |text: &mut String| {
            text.clear();
            std::mem::take(text)
        };
        self.other_names.clear();
        *self = Link {
            name: emptied(&mut self.name),
            address: emptied(&mut self.address),
            broadcast: emptied(&mut self.broadcast),
            alias: emptied(&mut self.alias),
            other_names: std::mem::take(&mut self.other_names),
            ..Link::default()
        };
    }
}

/// The devices of one moment.
#[derive(Debug, Default)]
pub(crate) struct Table {
    links: Vec<Link>,
    count: usize,
}

impl Deref for Table {
    type Target = [Link];

    fn deref(&self) -> &[Link] {
        &self.links[..self.count]
    }
}

/// All devices of the network this process is in, asked for once a pass however many collectors want them.
#[derive(Debug, Default)]
pub(crate) struct Links(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    netlink: Option<Netlink>,
    messages: Messages,
    /// The last answer, and for which pass it was asked.
    table: Option<Arc<Table>>,
    round: Option<u64>,
}

impl Links {
    /// The devices, not older than the pass of that number.
    pub(crate) fn read(&self, round: u64) -> Result<Arc<Table>, Failure> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(table), true) = (&state.table, state.round == Some(round)) {
            return Ok(table.clone());
        }
        state.round = None;
        let mut netlink = state.netlink.take().map_or_else(Netlink::route, Ok)?;
        // A socket that failed is not asked again.
        netlink.dump_into(GET_LINK, &[0; LINK_HEAD], &mut state.messages)?;
        state.netlink = Some(netlink);
        // A collector that is late may still look at the last table.
        let mut table = state.table.take().unwrap_or_default();
        if Arc::get_mut(&mut table).is_none() {
            table = Arc::default();
        }
        if let Some(table) = Arc::get_mut(&mut table) {
            table.fill(&state.messages);
        }
        (state.table, state.round) = (Some(table.clone()), Some(round));
        Ok(table)
    }
}

impl Table {
    fn fill(&mut self, messages: &Messages) {
        self.count = 0;
        for message in messages.iter() {
            if self.count == self.links.len() {
                self.links.push(Link::default());
            }
            if let Some(link) = self.links.get_mut(self.count)
                && parse(message, link).is_some()
            {
                self.count += 1;
            }
        }
    }
}

fn parse(message: &[u8], link: &mut Link) -> Option<()> {
    link.clear();
    (link.hardware, link.index) = (u16_at(message, 2)?, u32_at(message, 4)?);
    (link.flags, link.state) = (u32_at(message, 8)?, STATES[0]);
    let (mut old, mut new) = (None, None);
    for (kind, value) in attributes_after(message, LINK_HEAD) {
        let number = u32_at(value, 0).unwrap_or(0);
        let small = value.first().copied().unwrap_or(0);
        link.said |= 1u64.checked_shl(u32::from(kind)).unwrap_or(0);
        match kind {
            LINK_NAME => write_text(value, &mut link.name),
            ADDRESS => write_hardware_address(value, &mut link.address),
            BROADCAST => write_hardware_address(value, &mut link.broadcast),
            MTU => link.mtu = number,
            LINK => link.lower = Some(number),
            QUEUE_LENGTH => link.queue_length = number,
            STATE => link.state = STATES.get(usize::from(small)).copied().unwrap_or(STATES[0]),
            MODE => link.mode = small,
            ALIAS => write_text(value, &mut link.alias),
            GROUP => link.group = number,
            PROMISCUITY => link.promiscuity = number,
            ALL_MULTICAST => link.all_multicast = number,
            CARRIER => link.carrier = small,
            CARRIER_CHANGES => link.carrier_changes = number,
            CARRIER_UP => link.carrier_up = number,
            CARRIER_DOWN => link.carrier_down = number,
            PROPERTIES => {
                let names = attributes(value).filter(|(kind, _)| *kind == OTHER_NAME);
                link.other_names.extend(names.map(|(_, name)| text(name)));
            }
            STATS => old = Some(figures(value, 4, |bytes, at| u32_at(bytes, at).map(u64::from))),
            STATS64 => new = Some(figures(value, 8, u64_at)),
            _ => {}
        }
    }
    link.figures = new.or(old);
    (!link.name.is_empty()).then_some(())
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
        let mut link = Link { alias: "of another device".to_owned(), said: u64::MAX, ..Link::default() };
        parse(&example(), &mut link).expect("a device");
        assert_eq!((link.name.as_str(), link.index, link.state, link.mtu), ("eth0", 2, "up", 1500));
        assert_eq!((link.address.as_str(), link.alias.as_str()), ("02:00:00:00:00:01", ""));
        assert_eq!(link.other_names, ["enp1s0"]);
        assert_eq!(link.figures.map(|figures| (figures[0], figures[23])), Some((1, 24)));
        assert!(!link.is_whole(), "an old kernel says less");
        for length in 0..example().len() {
            let _ = parse(&example()[..length], &mut link);
        }
    }

    #[test]
    fn flags_of_files() {
        // Up, running, promiscuous for somebody, lower up.
        let mut link = Link { flags: 0x1_0001 | 0x40 | IFF_PROMISC, ..Link::default() };
        assert_eq!((link.file_flags(), link.is_up(), link.is_dormant()), (1, true, false));
        (link.promiscuity, link.all_multicast) = (1, 2);
        assert_eq!(link.file_flags(), 1 | IFF_PROMISC | IFF_ALLMULTI);
    }

    #[test]
    fn a_short_list_of_figures_ends_in_zeros() {
        assert_eq!(figures(&[1, 0, 0, 0, 2, 0, 0, 0], 4, |bytes, at| u32_at(bytes, at).map(u64::from))[..3], [1, 2, 0]);
    }

    #[test]
    fn one_question_a_round() {
        let links = Links::default();
        let first = links.read(1).expect("links");
        assert!(first.iter().any(|link| link.name == "lo" && link.hardware == LOOPBACK));
        assert!(Arc::ptr_eq(&first, &links.read(1).expect("links")));
        let second = links.read(2).expect("links");
        assert!(!Arc::ptr_eq(&first, &second), "the first is still being looked at");
        let place = Arc::as_ptr(&second);
        drop(second);
        assert_eq!(Arc::as_ptr(&links.read(3).expect("links")), place);
        assert!(first.iter().any(|link| link.name == "lo"));
    }
}
