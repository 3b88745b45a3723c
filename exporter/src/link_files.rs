//! What `/sys/class/net` says of network devices, taken from netlink where both speak of the same network.
//!
//! One netlink question answers what would be some twenty files a device. It may stand for the files only where sysfs is
//! the one of this process and shows the network this process is in: in a container the two can differ. That is so when
//! both name the same devices and every device has the same number and address in both; it is looked at again whenever a
//! device comes, goes or changes its name or address, and every [`AGAIN`]. What only files say and what stays the same
//! is read on that occasion; speed and duplex mode are read each time, since only the driver knows them.

use crate::buffers::Short;
use crate::host::{Failure, Host, to_number};
use crate::links::{Link, Table};
use runtime::Monotonic;
use std::sync::Arc;
use std::time::Duration;

/// Where sysfs lists the devices.
pub(crate) const FOLDER: &str = "class/net";
/// The one name there that is no device.
const NO_DEVICE: &str = "bonding_masters";
/// How long what stays the same is believed to do so.
const AGAIN: Duration = Duration::from_secs(60);

/// What files alone say of one device.
#[derive(Debug)]
pub(crate) struct Known {
    name: String,
    index: u32,
    address: String,
    pub(crate) address_assign_type: Option<f64>,
    pub(crate) name_assign_type: Option<f64>,
    pub(crate) device_id: Option<f64>,
    /// Paths below sysfs.
    speed: String,
    duplex: String,
}

/// What is known of the devices.
#[derive(Debug, Default)]
pub(crate) struct LinkFiles {
    known: Vec<Known>,
    since: Option<Monotonic>,
    same: bool,
}

impl LinkFiles {
    /// The devices, in the same order as [`LinkFiles::known`]; none where the files must be read.
    pub(crate) fn devices(&mut self, host: &Host) -> Result<Option<Arc<Table>>, Failure> {
        if !host.is_usual_sys() {
            return Ok(None);
        }
        let links = host.links().read(host.round())?;
        let now = host.clock().now();
        let young = self.since.is_some_and(|since| now - since < AGAIN);
        if !young || !self.is_about(&links) {
            for known in &self.known {
                host.forget_below(&format!("{FOLDER}/{}", known.name));
            }
            self.known = links.iter().map(|link| Known::read(host, link)).collect();
            (self.since, self.same) = (Some(now), is_same_network(host, &links));
        }
        Ok(self.same.then_some(links))
    }

    /// In the order of the last [`LinkFiles::devices`].
    pub(crate) fn known(&self) -> &[Known] {
        &self.known
    }

    fn is_about(&self, links: &[Link]) -> bool {
        let same = |(known, link): (&Known, &Link)| {
            known.index == link.index && known.name == link.name && known.address == link.address
        };
        self.known.len() == links.len() && self.known.iter().zip(links).all(same)
    }
}

impl Known {
    fn read(host: &Host, link: &Link) -> Known {
        let path = |file: &str| format!("{FOLDER}/{}/{file}", link.name);
        let number = |file: &str| host.sys_number(&path(file)).ok();
        Known {
            address_assign_type: number("addr_assign_type"),
            name_assign_type: number("name_assign_type"),
            device_id: number("dev_id"),
            speed: path("speed"),
            duplex: path("duplex"),
            name: link.name.clone(),
            index: link.index,
            address: link.address.clone(),
        }
    }

    /// The speed in Mbit/s; none where the driver has none.
    pub(crate) fn speed(&self, host: &Host) -> Option<f64> {
        to_number(&host.device_short(&self.speed).ok()?).ok()
    }

    /// The word for the duplex mode; none where the driver has none.
    pub(crate) fn duplex(&self, host: &Host) -> Option<Short> {
        host.device_short(&self.duplex).ok()
    }
}

fn is_same_network(host: &Host, links: &[Link]) -> bool {
    let Ok(mut shown) = host.sys_list(FOLDER) else { return false };
    shown.retain(|name| name != NO_DEVICE);
    let mut names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    names.sort_unstable();
    let equal = |link: &Link| {
        let value = |file: &str| host.sys_value(&format!("{FOLDER}/{}/{file}", link.name)).unwrap_or_default();
        link.is_whole() && value("ifindex") == link.index.to_string() && value("address") == link.address
    };
    shown.iter().eq(names.iter()) && links.iter().all(equal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::Clock;

    #[test]
    fn the_files_are_read_below_another_prefix() {
        let host = Host::new("/proc", "/tmp", "/", "/nowhere", Clock::system());
        assert!(LinkFiles::default().devices(&host).expect("no question").is_none());
    }

    #[test]
    fn what_is_known_is_about_one_set_of_devices() {
        let host = Host::new("/proc", "/sys", "/", "/nowhere", Clock::system());
        let link = |name: &str, index| Link { name: name.to_owned(), index, ..Link::default() };
        let devices = [link("lo", 1), link("eth0", 2)];
        let known = devices.iter().map(|device| Known::read(&host, device)).collect();
        let files = LinkFiles { known, since: None, same: true };
        assert!(files.is_about(&devices));
        assert!(!files.is_about(&devices[..1]), "one went");
        assert!(!files.is_about(&[link("lo", 1), link("eth1", 2)]), "one was renamed");
        assert!(!files.is_about(&[link("lo", 1), link("eth0", 3)]), "another one of the same name");
        assert!(!is_same_network(&host, &devices), "the kernel said too little of them");
    }
}
