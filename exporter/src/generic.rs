//! Generic netlink: families that the kernel numbers when they are registered, such as `nl80211` and `ethtool`.
//!
//! Truth: <https://docs.kernel.org/userspace-api/netlink/specs.html>.

use crate::host::Failure;
use crate::netlink::{Messages, Netlink, attributes_after, push_attribute, u16_at};
use nix::sys::socket::SockProtocol;
use std::io;

const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// Bytes of a `genlmsghdr`.
pub(crate) const HEAD: usize = 4;

/// A family of questions.
#[derive(Debug)]
pub(crate) struct Generic {
    netlink: Netlink,
    family: u16,
}

impl Generic {
    /// Finds a family; a kernel without it is `no data`.
    pub(crate) fn open(name: &str) -> Result<Generic, Failure> {
        let mut netlink = Netlink::open(SockProtocol::NetlinkGeneric)?;
        let mut request = head(GET_FAMILY);
        push_attribute(&mut request, FAMILY_NAME, &[name.as_bytes(), &[0]].concat());
        let answer = match netlink.ask(CONTROL, &request) {
            Err(Failure::Call { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::NoData(format!("the kernel has no {name}")));
            }
            other => other?,
        };
        let id = |message| attributes_after(message, HEAD).find(|(kind, _)| *kind == FAMILY_ID);
        let family = answer.iter().find_map(id).and_then(|(_, value)| u16_at(value, 0));
        let family = family.ok_or_else(|| Failure::NoData(format!("the kernel does not number {name}")))?;
        Ok(Generic { netlink, family })
    }

    /// Everything a command lists; `attributes` narrow it down.
    pub(crate) fn dump(&mut self, command: u8, attributes: &[u8]) -> Result<Messages, Failure> {
        self.netlink.dump(self.family, &[&head(command), attributes].concat())
    }
}

fn head(command: u8) -> Vec<u8> {
    vec![command, 1, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_found_by_name() {
        assert!(Generic::open("nlctrl").is_ok());
        let failure = Generic::open("narthex").expect_err("no such family");
        assert!(failure.to_string().contains("no data"), "{failure}");
    }
}
