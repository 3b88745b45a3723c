//! The distribution: `os-release`, see <https://www.freedesktop.org/software/systemd/man/os-release.html>.

use super::{Collector, Gather, Settings, StartError, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, Stamp, read_at, stamp};
use std::sync::{Mutex, PoisonError};

pub(super) const COLLECTOR: Collector =
    Collector { name: "os", enabled: true, flags: no_flags, deprecated: &[], build };

const PATHS: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

const LABELS: [&str; 12] = [
    "build_id",
    "id",
    "id_like",
    "image_id",
    "image_version",
    "name",
    "pretty_name",
    "variant",
    "variant_id",
    "version",
    "version_codename",
    "version_id",
];

/// What the file said when it was last changed.
#[derive(Default)]
struct Os(Mutex<(Option<Stamp>, Fields)>);

/// Keys and values in the order of the file.
type Fields = Vec<(String, String)>;

fn build(_: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    Ok(Box::new(Os::default()))
}

impl Gather for Os {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = PATHS.iter().find_map(|path| stamp(&host.root(path)));
        if found.is_none() || found != known.0 {
            let text = PATHS.iter().find_map(|path| read_at(&host.root(path)).ok());
            let text = text.ok_or_else(|| Failure::NoData("there is no os-release file".to_owned()))?;
            *known = (found, text.lines().filter_map(assignment).collect());
        }
        show(&known.1, out);
        Ok(())
    }
}

fn show(fields: &[(String, String)], out: &mut Families) {
    let field = |key: &str| {
        fields.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(key)).map_or("", |(_, value)| value.as_str())
    };
    let labels = LABELS.map(|label| (label, field(label)));
    out.sample(Kind::Gauge, "node_os_info", "The distribution.", &labels, 1.0);
    if let Some(version) = leading_version(field("version_id")) {
        let labels = [("id", field("id")), ("id_like", field("id_like")), ("name", field("name"))];
        out.sample(Kind::Gauge, "node_os_version", "Major and minor version as a number.", &labels, version);
    }
    if let Some(end) = unix_day(field("support_end")) {
        out.gauge("node_os_support_end_timestamp_seconds", "When support ends, in Unix time.", end);
    }
}

fn assignment(line: &str) -> Option<(String, String)> {
    let (key, value) = line.trim().split_once('=')?;
    if key.starts_with('#') {
        return None;
    }
    let quoted = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
    Some((key.to_owned(), value.replace("\\\"", "\"").replace("\\$", "$").replace("\\`", "`").replace("\\\\", "\\")))
}

/// `22.04.1` is 22.04.
fn leading_version(text: &str) -> Option<f64> {
    let major: usize = text.bytes().take_while(u8::is_ascii_digit).count();
    let minor = text[major..].strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    let end = if minor > 0 { major + 1 + minor } else { major };
    text[..end].parse().ok()
}

/// Midnight UTC of a day such as `2026-05-31`.
fn unix_day(text: &str) -> Option<f64> {
    let mut parts = text.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(1..=9999).contains(&year) {
        return None;
    }
    Some((model::day_of_date(year, month, day) * 86_400) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    #[test]
    fn names_versions_and_the_end() {
        let tree = Tree::new().file(
            "root/etc/os-release",
            "NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"20.04.2\"\n# c\nSUPPORT_END=2026-05-31\n",
        );
        let samples = tree.samples("os", &[]);
        let version = "node_os_version{id=\"ubuntu\",id_like=\"debian\",name=\"Ubuntu\"} 20.04\n";
        assert!(samples.contains(version), "{samples}");
        assert!(samples.contains("node_os_support_end_timestamp_seconds 1.7801856e+09\n"), "{samples}");
        assert!(samples.contains("build_id=\"\",id=\"ubuntu\""), "{samples}");
    }

    #[test]
    fn odd_versions() {
        assert_eq!(leading_version("rolling"), None);
        assert_eq!(leading_version("12"), Some(12.0));
        assert_eq!(leading_version("7."), Some(7.0));
        assert_eq!(unix_day("1970-01-02"), Some(86_400.0));
        assert_eq!(unix_day("soon"), None);
    }
}
