//! Services under `runsv(8)`: the 20 bytes of `supervise/status` in each folder of the service directory.
//!
//! Truth: runit's `sv(8)` and its status file: a TAI64 label of 8 bytes, nanoseconds, the process id, then flags. That a
//! service starts down is looked for as `supervise/down`, where upstream looks, and not beside `run`.

use super::{Collector, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use cli::Flag;
use std::io::Read;
use std::path::{Path, PathBuf};

pub(super) const COLLECTOR: Collector = Collector { name: "runit", enabled: false, flags, deprecated: &[], build };

const FOLDER: &str = "collector.runit.servicedir";
const STATUS_BYTES: usize = 20;
/// The TAI64 label of the Unix epoch, leap seconds up to 1970 included.
const TAI_EPOCH: i64 = (1 << 62) + 10;

fn flags() -> Vec<Flag> {
    vec![Flag::string(FOLDER, "/etc/service", "Folder with the services of runit")]
}

struct Runit {
    folder: PathBuf,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    tracing::warn!("the runit collector is deprecated and may be removed");
    Ok(Box::new(Runit { folder: settings.parsed.str(FOLDER).into() }))
}

#[derive(Debug, PartialEq)]
struct Status {
    state: u8,
    wanted: u8,
    since: i64,
}

impl Gather for Runit {
    fn gather(&self, _host: &Host, out: &mut Families) -> Result<(), Failure> {
        for name in crate::host::list(&self.folder)? {
            let folder = self.folder.join(&name);
            if !folder.is_dir() {
                continue;
            }
            match read(&folder) {
                Some(status) => show(&name, &status, !folder.join("supervise/down").exists(), out),
                None => tracing::debug!(service = name, "a service without a readable status is left out"),
            }
        }
        Ok(())
    }
}

fn read(folder: &Path) -> Option<Status> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(folder.join("supervise/status")).ok()?;
    file.take(STATUS_BYTES as u64 + 1).read_to_end(&mut bytes).ok()?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Option<Status> {
    let bytes: &[u8; STATUS_BYTES] = bytes.try_into().ok()?;
    let label = i64::from_be_bytes(bytes[..8].try_into().ok()?);
    let wanted = u8::from(bytes[17] == b'u');
    Some(Status { state: bytes[19], wanted, since: label.wrapping_sub(TAI_EPOCH) })
}

fn show(name: &str, status: &Status, normally_up: bool, out: &mut Families) {
    let labels = [("service", name), ("supervisor", "runit")];
    let mut set = |name: &str, help, value| out.sample(Kind::Gauge, name, help, &labels, value);
    set("node_service_state", "State of a service: 0 down, 1 up, 2 finishing.", f64::from(status.state));
    set("node_service_desired_state", "State a service should be in.", f64::from(status.wanted));
    let normal = f64::from(u8::from(normally_up));
    set("node_service_normal_state", "State a service starts in.", normal);
    let help = "When a service changed its state.";
    set("node_service_state_last_change_timestamp_seconds", help, status.since as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(since: i64, wanted: u8, state: u8) -> Vec<u8> {
        let mut bytes = (since + TAI_EPOCH).to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0, 0, 0, 0, 0x39, 5, 0, 0, 0, wanted, 0, state]);
        bytes
    }

    #[test]
    fn a_service_that_runs() {
        let expected = Status { state: 1, wanted: 1, since: 1_700_000_000 };
        assert_eq!(parse(&status(1_700_000_000, b'u', 1)), Some(expected));
        assert_eq!(parse(&status(5, b'd', 0)), Some(Status { state: 0, wanted: 0, since: 5 }));
        assert_eq!(parse(&[0; 19]), None);
        assert_eq!(parse(&[0; 21]), None);
    }

    #[test]
    fn folders_of_services() {
        let tree = crate::testing::Tree::new().file("services/web/supervise/down", "").file("services/broken/x", "");
        let tree = tree.file("services/web/supervise/status", "");
        let path = tree.path("services/web/supervise/status");
        use std::io::Write;
        let mut file = std::fs::File::create(path).expect("file");
        file.write_all(&status(7, b'd', 2)).expect("written");
        let folder = format!("--collector.runit.servicedir={}", tree.path("services").display());
        let samples = tree.samples("runit", &["--collector.runit", &folder]);
        assert!(samples.contains("node_service_state{service=\"web\",supervisor=\"runit\"} 2\n"), "{samples}");
        assert!(samples.contains("node_service_normal_state{service=\"web\",supervisor=\"runit\"} 0\n"), "{samples}");
        assert!(!samples.contains("broken"), "{samples}");
    }
}
