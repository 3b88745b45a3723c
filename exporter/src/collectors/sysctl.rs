//! Chosen kernel settings: files below `/proc/sys`, see <https://docs.kernel.org/admin-guide/sysctl/index.html>.

use super::{Collector, Gather, Settings, StartError};
use crate::attributes::sanitize;
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use cli::Flag;

pub(super) const COLLECTOR: Collector = Collector { name: "sysctl", enabled: false, flags, deprecated: &[], build };

const INCLUDE: &str = "collector.sysctl.include";
const INFO: &str = "collector.sysctl.include-info";

fn flags() -> Vec<Flag> {
    vec![
        Flag::list(INCLUDE, &[], "A setting to show as numbers, NAME or NAME:KEY,KEY for several values in a line"),
        Flag::list(INFO, &[], "A setting to show as text"),
    ]
}

/// One setting to show.
struct Setting {
    name: String,
    keys: Vec<String>,
}

impl Setting {
    fn parse(text: &str) -> Setting {
        let (name, keys) = text.split_once(':').unwrap_or((text, ""));
        let keys = keys.split(',').filter(|key| !key.is_empty()).map(str::to_owned).collect();
        Setting { name: name.to_owned(), keys }
    }

    fn path(&self) -> String {
        format!("sys/{}", self.name.replace('.', "/"))
    }
}

struct Sysctl {
    numbers: Vec<Setting>,
    texts: Vec<Setting>,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let list = |flag| settings.parsed.list(flag).iter().map(|text| Setting::parse(text)).collect();
    Ok(Box::new(Sysctl { numbers: list(INCLUDE), texts: list(INFO) }))
}

impl Gather for Sysctl {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        for setting in &self.numbers {
            show_numbers(host, setting, out)?;
        }
        for setting in &self.texts {
            if !setting.keys.is_empty() {
                return Err(Failure::form(&setting.path(), format!("--{INFO} takes no keys")));
            }
            for (index, value) in words(&setting.path(), &host.read_proc(&setting.path())?)?.iter().enumerate() {
                let index = index.to_string();
                let labels = [("name", setting.name.as_str()), ("value", value), ("index", index.as_str())];
                out.sample(Kind::Gauge, "node_sysctl_info", "A kernel setting as text.", &labels, 1.0);
            }
        }
        Ok(())
    }
}

/// The words of a file, at least one.
fn words<'a>(path: &str, text: &'a str) -> Result<Vec<&'a str>, Failure> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() { Err(Failure::form(path, "the setting is empty")) } else { Ok(words) }
}

fn show_numbers(host: &Host, setting: &Setting, out: &mut Families) -> Result<(), Failure> {
    let path = setting.path();
    let mut values = Vec::new();
    for word in words(&path, &host.read_proc(&path)?)? {
        let value = word.parse::<i64>().map_err(|_| Failure::form(&path, format!("{word:?} is not a number")))?;
        values.push(value as f64);
    }
    let family = format!("node_sysctl_{}", sanitize(&setting.name));
    let help = format!("The kernel setting {}.", setting.name);
    if !setting.keys.is_empty() {
        // One value needs no key, and upstream refuses it.
        if setting.keys.len() != values.len() || values.len() == 1 {
            let what = format!("{} values for {} keys of --{INCLUDE}", values.len(), setting.keys.len());
            return Err(Failure::form(&path, what));
        }
        for (key, value) in setting.keys.iter().zip(values) {
            out.sample(Kind::Untyped, &format!("{family}_{}", sanitize(key)), &help, &[], value);
        }
    } else if let [value] = values.as_slice() {
        out.sample(Kind::Untyped, &family, &help, &[], *value);
    } else {
        for (index, value) in values.iter().enumerate() {
            out.sample(Kind::Untyped, &family, &help, &[("index", &index.to_string())], *value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn numbers_keys_and_text() {
        let tree = Tree::new().file("proc/sys/fs/file-nr", "1024\t0\t7\n").file("proc/sys/a", "x y\n");
        let samples = |flags: &[&str]| tree.samples("sysctl", &[&["--collector.sysctl"], flags].concat());
        assert_eq!(
            samples(&["--collector.sysctl.include=fs.file-nr:total,current,max"]),
            "node_sysctl_fs_file_nr_current 0\nnode_sysctl_fs_file_nr_max 7\nnode_sysctl_fs_file_nr_total 1024\n"
        );
        assert!(samples(&["--collector.sysctl.include=fs.file-nr"]).contains("fs_file_nr{index=\"2\"} 7\n"));
        assert!(samples(&["--collector.sysctl.include-info=a"]).contains("{index=\"1\",name=\"a\",value=\"y\"} 1\n"));
        assert_eq!(samples(&["--collector.sysctl.include=fs.file-nr:a,b"]), "");
        assert_eq!(samples(&["--collector.sysctl.include=a"]), "");
        assert_eq!(samples(&["--collector.sysctl.include-info=a:b,c"]), "");
        assert!(super::words("a", " \n").is_err());
    }
}
