//! The three questions of `SIOCETHTOOL` that have no counterpart in netlink: who drives a device, what it counts, and
//! the link settings in their old form. Truth: the kernel's `include/uapi/linux/ethtool.h`.
//!
//! This is the one place of the exporter with unsafe code: the request is a pointer to memory that the kernel fills,
//! and no library wraps it. The buffers are ours, sized here, and never smaller than what the kernel writes.

use crate::netlink::{text, u32_at, u64_at};
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const GET_SETTINGS: u32 = 0x01;
const GET_DRIVER: u32 = 0x03;
const GET_STRINGS: u32 = 0x1b;
const GET_STATISTICS: u32 = 0x1d;
const STATISTICS_NAMES: u32 = 1;
const SETTINGS_BYTES: usize = 44;
const DRIVER_BYTES: usize = 196;
const NAME_BYTES: usize = 32;
/// More than any driver counts.
const STATISTICS_MAX: usize = 32_768;
/// Entries beyond what the driver said, because it may add some between two questions.
const SPARE: usize = 4096;

/// What drives a device.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Driver {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) firmware: String,
    pub(crate) bus: String,
    pub(crate) expansion_rom: String,
    statistics: usize,
}

/// The link modes of a device as bits, and whether it negotiates.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Settings {
    pub(crate) supported: u32,
    pub(crate) advertised: u32,
    pub(crate) negotiates: u8,
}

/// A socket for questions about devices.
#[derive(Debug)]
pub(crate) struct Ethtool(OwnedFd);

impl Ethtool {
    /// Opens the socket.
    pub(crate) fn open() -> io::Result<Ethtool> {
        Ok(Ethtool(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?))
    }

    /// The link settings.
    pub(crate) fn settings(&self, device: &str) -> io::Result<Settings> {
        let mut request = vec![0; SETTINGS_BYTES];
        self.ask(device, GET_SETTINGS, &mut request)?;
        Ok(parse_settings(&request))
    }

    /// The driver.
    pub(crate) fn driver(&self, device: &str) -> io::Result<Driver> {
        let mut request = vec![0; DRIVER_BYTES];
        self.ask(device, GET_DRIVER, &mut request)?;
        Ok(parse_driver(&request))
    }

    /// What the driver counts, by the driver's names.
    pub(crate) fn statistics(&self, device: &str, driver: &Driver) -> io::Result<Vec<(String, u64)>> {
        let count = driver.statistics;
        if count == 0 {
            return Ok(Vec::new());
        }
        if count > STATISTICS_MAX {
            return Err(io::Error::other(format!("the driver says it counts {count} things")));
        }
        let said = u32::try_from(count).unwrap_or(0).to_ne_bytes();
        let mut names = vec![0; 12 + (count + SPARE) * NAME_BYTES];
        names[4..8].copy_from_slice(&STATISTICS_NAMES.to_ne_bytes());
        names[8..12].copy_from_slice(&said);
        self.ask(device, GET_STRINGS, &mut names)?;
        let mut values = vec![0; 8 + (count + SPARE) * 8];
        values[4..8].copy_from_slice(&said);
        self.ask(device, GET_STATISTICS, &mut values)?;
        Ok(pair(&names[12..], &values[8..], count))
    }

    /// Sends one request; the buffer is at least as long as what the kernel writes for its command.
    #[allow(unsafe_code, reason = "the kernel writes through a pointer; the proof stands below")]
    fn ask(&self, device: &str, command: u32, request: &mut [u8]) -> io::Result<()> {
        let name = device.as_bytes();
        if name.len() >= libc::IFNAMSIZ || name.contains(&0) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{device:?} is no name of a device")));
        }
        request[..4].copy_from_slice(&command.to_ne_bytes());
        let mut ifr_name = [0; libc::IFNAMSIZ];
        for (slot, byte) in ifr_name.iter_mut().zip(name) {
            *slot = *byte as libc::c_char;
        }
        let ifru_data = request.as_mut_ptr().cast();
        let mut request = libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data } };
        // SAFETY: `request` is a whole `ifreq` with a terminated name that lives during the call. Its data pointer
        // leads to our exclusive buffer, which the caller made for this command: settings and driver have a fixed
        // size; names and values are as many as the driver said a moment ago, and the buffers have room for
        // `SPARE` more.
        let code = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
        if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn parse_settings(answer: &[u8]) -> Settings {
    let word = |at| u32_at(answer, at).unwrap_or(0);
    Settings { supported: word(4), advertised: word(8), negotiates: answer.get(18).copied().unwrap_or(0) }
}

fn parse_driver(answer: &[u8]) -> Driver {
    let field = |index: usize| text(answer.get(4 + 32 * index..36 + 32 * index).unwrap_or(&[]));
    Driver {
        name: field(0),
        version: field(1),
        firmware: field(2),
        bus: field(3),
        expansion_rom: field(4),
        statistics: u32_at(answer, 180).unwrap_or(0) as usize,
    }
}

fn pair(names: &[u8], values: &[u8], count: usize) -> Vec<(String, u64)> {
    let value = |index: usize| u64_at(values, index * 8).unwrap_or(0);
    names.chunks(NAME_BYTES).take(count).enumerate().map(|(index, name)| (text(name), value(index))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_by_offset() {
        let mut driver = vec![0; DRIVER_BYTES];
        driver[4..9].copy_from_slice(b"e1000");
        driver[100..112].copy_from_slice(b"0000:00:1f.6");
        driver[180..184].copy_from_slice(&7u32.to_ne_bytes());
        let read = parse_driver(&driver);
        assert_eq!((read.name.as_str(), read.bus.as_str(), read.statistics), ("e1000", "0000:00:1f.6", 7));
        let mut settings = vec![0; SETTINGS_BYTES];
        (settings[4], settings[8], settings[18]) = (0x2f, 0x20, 1);
        assert_eq!(parse_settings(&settings), Settings { supported: 0x2f, advertised: 0x20, negotiates: 1 });
        let mut names = vec![0; 96];
        names[..2].copy_from_slice(b"rx");
        names[32..34].copy_from_slice(b"tx");
        let values: Vec<u8> = [5u64, 6, 7].into_iter().flat_map(u64::to_ne_bytes).collect();
        assert_eq!(pair(&names, &values, 2), [("rx".to_owned(), 5), ("tx".to_owned(), 6)]);
    }

    #[test]
    fn this_machine_answers() {
        let ethtool = Ethtool::open().expect("socket");
        let driver = ethtool.driver("lo");
        if let Ok(driver) = &driver {
            assert!(ethtool.statistics("lo", driver).is_ok());
        }
        for name in ["", "no-such-device", "a-name-that-is-too-long-for-a-device", "a\0b"] {
            assert!(ethtool.driver(name).is_err(), "{name:?}");
        }
    }
}
