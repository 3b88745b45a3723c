//! Sensors of the mainboard and of devices: `/sys/class/hwmon`, see
//! <https://docs.kernel.org/hwmon/sysfs-interface.html>.
//!
//! A chip is named after the device it sits on, because the number in `hwmon3` depends on the order in which drivers
//! were loaded. When two chips would get one name, each gets the text of its `name` file added, and when that does not
//! tell them apart either, its number. Sensors and units are told by the files' names alone.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use cli::Flag;
use std::collections::BTreeMap;
use std::path::Path;

pub(super) const COLLECTOR: Collector = Collector { name: "hwmon", enabled: true, flags, deprecated: &[], build };

const FOLDER: &str = "class/hwmon";
const CHIP_INCLUDE: &str = "collector.hwmon.chip-include";
const CHIP_EXCLUDE: &str = "collector.hwmon.chip-exclude";
const SENSOR_INCLUDE: &str = "collector.hwmon.sensor-include";
const SENSOR_EXCLUDE: &str = "collector.hwmon.sensor-exclude";
const MILLI: f64 = 0.001;
const MILLION: f64 = 1e6;

const TYPES: [&str; 14] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(CHIP_INCLUDE, "", "Pattern of the chips to show").without_default(),
        Flag::string(CHIP_EXCLUDE, "", "Pattern of the chips to leave out").without_default(),
        Flag::string(SENSOR_INCLUDE, "", "Pattern of the sensors to show, matched against chip;sensor")
            .without_default(),
        Flag::string(SENSOR_EXCLUDE, "", "Pattern of the sensors to leave out, matched against chip;sensor")
            .without_default(),
    ]
}

struct Hwmon {
    chips: Filter,
    sensors: Filter,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let chips = Filter { include: settings.pattern(CHIP_INCLUDE)?, exclude: settings.pattern(CHIP_EXCLUDE)? };
    let sensors = Filter { include: settings.pattern(SENSOR_INCLUDE)?, exclude: settings.pattern(SENSOR_EXCLUDE)? };
    Ok(Box::new(Hwmon { chips, sensors }))
}

/// What the files of one sensor say, by property; a file without a property is under the empty name.
type Properties = BTreeMap<String, String>;

impl Gather for Hwmon {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let folders = host.sys_folders(FOLDER).map_err(Failure::absent_is_no_data)?;
        let mut failed = Ok(());
        for (folder, chip) in chip_names(host, &folders) {
            if !self.chips.ignores(&chip)
                && let Err(failure) = self.chip(host, &format!("{FOLDER}/{folder}"), &chip, out)
            {
                failed = Err(failure);
            }
        }
        failed
    }
}

impl Hwmon {
    fn chip(&self, host: &Host, folder: &str, chip: &str, out: &mut Families) -> Result<(), Failure> {
        let mut sensors = BTreeMap::new();
        read_sensors(host, folder, &mut sensors)?;
        let device = format!("{folder}/device");
        if host.sys(&device).is_dir() {
            read_sensors(host, &device, &mut sensors)?;
        }
        if let Some(name) = chip_name(host, folder) {
            let labels = [("chip", chip), ("chip_name", name.as_str())];
            out.sample(Kind::Gauge, "node_hwmon_chip_names", "What a chip calls itself.", &labels, 1.0);
        }
        for (sensor, properties) in &sensors {
            if !self.sensors.ignores(&format!("{chip};{sensor}")) {
                show_sensor(chip, sensor, properties, out);
            }
        }
        Ok(())
    }
}

/// Folder and label of every chip.
fn chip_names(host: &Host, folders: &[String]) -> Vec<(String, String)> {
    let mut names: Vec<String> = folders.iter().map(|folder| base_name(host, folder)).collect();
    for step in [chip_name as fn(&Host, &str) -> Option<String>, number] {
        let mut uses: BTreeMap<String, u32> = BTreeMap::new();
        for name in &names {
            *uses.entry(name.clone()).or_default() += 1;
        }
        for (name, folder) in names.iter_mut().zip(folders) {
            if uses.get(name).is_some_and(|uses| *uses > 1)
                && let Some(addition) = step(host, &format!("{FOLDER}/{folder}"))
            {
                *name = format!("{name}_{addition}");
            }
        }
    }
    folders.iter().cloned().zip(names).collect()
}

/// Type and name of the device below a chip, or else what the chip calls itself, or else its folder.
fn base_name(host: &Host, folder: &str) -> String {
    let folder = format!("{FOLDER}/{folder}");
    let last = |path: &Path| clean(&path.file_name().unwrap_or_default().to_string_lossy());
    if let Ok(device) = std::fs::canonicalize(host.sys(&format!("{folder}/device"))) {
        let kind = device.parent().map(last).unwrap_or_default();
        let name = last(&device);
        if !name.is_empty() {
            return if kind.is_empty() { name } else { format!("{kind}_{name}") };
        }
    }
    chip_name(host, &folder).or_else(|| number(host, &folder)).unwrap_or_default()
}

fn chip_name(host: &Host, folder: &str) -> Option<String> {
    let name = clean(&host.sys_value(&format!("{folder}/name")).ok()?);
    (!name.is_empty()).then_some(name)
}

fn number(host: &Host, folder: &str) -> Option<String> {
    let real = std::fs::canonicalize(host.sys(folder)).ok()?;
    Some(clean(&real.file_name()?.to_string_lossy()))
}

/// Lower case; anything a name may not have is an underscore, but not at the ends.
fn clean(text: &str) -> String {
    let lower = text.to_lowercase();
    let allowed = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || ":_".contains(letter);
    let plain: String = lower.chars().map(|letter| if allowed(letter) { letter } else { '_' }).collect();
    plain.trim_matches('_').to_owned()
}

fn read_sensors(host: &Host, folder: &str, sensors: &mut BTreeMap<String, Properties>) -> Result<(), Failure> {
    for name in host.sys_list(folder)? {
        let Some((kind, number, property)) = split(&name) else { continue };
        if TYPES.contains(&kind)
            && let Ok(value) = host.sys_value(&format!("{folder}/{name}"))
        {
            sensors.entry(format!("{kind}{number}")).or_default().insert(property.to_owned(), value);
        }
    }
    Ok(())
}

/// `fan1_input` is `fan`, 1, `input`.
fn split(name: &str) -> Option<(&str, u32, &str)> {
    let kind_length = name.find(|letter: char| letter.is_ascii_digit()).unwrap_or(name.len());
    let (kind, rest) = name.split_at(kind_length);
    let rest_start = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let (number, rest) = rest.split_at(rest_start);
    let number = if number.is_empty() { 0 } else { number.parse().ok()? };
    let property = if rest.is_empty() { "" } else { rest.strip_prefix('_').filter(|property| !property.is_empty())? };
    (!kind.is_empty()).then_some((kind, number, property))
}

fn show_sensor(chip: &str, sensor: &str, properties: &Properties, out: &mut Families) {
    let labels = [("chip", chip), ("sensor", sensor)];
    let kind = sensor.trim_end_matches(|letter: char| letter.is_ascii_digit());
    if let Some(label) = properties.get("label") {
        let labels = [labels[0], labels[1], ("label", label.as_str())];
        out.sample(Kind::Gauge, "node_hwmon_sensor_label", "What a sensor is called.", &labels, 1.0);
    }
    let bare = properties.get("").map_or("", String::as_str);
    match kind {
        "beep_enable" => {
            let on = f64::from(u8::from(bare == "1"));
            out.sample(Kind::Gauge, "node_hwmon_beep_enabled", "1 when a chip may beep.", &labels, on);
        }
        "vrm" => {
            if let Ok(version) = bare.parse() {
                let help = "Version of the voltage regulator.";
                out.sample(Kind::Gauge, "node_hwmon_voltage_regulator_version", help, &labels, version);
            }
        }
        "update_interval" => {
            if let Ok(milli) = bare.parse::<f64>() {
                let help = "How often a chip looks at its sensors.";
                out.sample(Kind::Gauge, "node_hwmon_update_interval_seconds", help, &labels, milli * MILLI);
            }
        }
        _ => {
            for (property, value) in properties.iter().filter(|(property, _)| *property != "label") {
                if let Ok(value) = value.parse() {
                    show_property(&labels, kind, property, value, properties, out);
                }
            }
        }
    }
}

fn show_property(
    labels: &[(&str, &str); 2],
    kind: &str,
    property: &str,
    value: f64,
    all: &Properties,
    out: &mut Families,
) {
    let mut name = format!("node_hwmon_{kind}");
    match property {
        "input" if all.contains_key("") => name.push_str("_input"),
        "" | "input" => {}
        other => name = format!("{name}_{}", clean(other)),
    }
    let help = format!("The property {property} of {kind} sensors.");
    if kind == "freq" && matches!(property, "input") {
        if let Some(label) = all.get("label") {
            let label = clean(label);
            let labels = [labels[0], ("sensor", label.as_str())];
            out.sample(Kind::Gauge, &format!("{name}_freq_mhz"), &help, &labels, value / MILLION);
        }
        return;
    }
    let (suffix, value) = unit(kind, property, value);
    let counted = if kind == "energy" && suffix == "_joule_total" { Kind::Counter } else { Kind::Gauge };
    out.sample(counted, &format!("{name}{suffix}"), &help, labels, value);
}

/// The end of the family's name and the value in its unit.
fn unit(kind: &str, property: &str, value: f64) -> (&'static str, f64) {
    match (kind, property) {
        (_, "fault" | "alarm") => ("", value),
        (_, "beep") => ("_enabled", value),
        ("in" | "cpu", _) => ("_volts", value * MILLI),
        ("temp", property) if property != "type" => ("_celsius", value * MILLI),
        ("curr", _) => ("_amps", value * MILLI),
        ("energy", _) => ("_joule_total", value / MILLION),
        ("power", "accuracy") | ("humidity", _) => ("", value / MILLION),
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => ("_seconds", value * MILLI),
        ("power", _) => ("_watt", value / MILLION),
        ("fan", "input" | "min" | "max" | "target") => ("_rpm", value),
        _ => ("", value),
    }
}

#[cfg(test)]
mod tests {
    use super::{clean, split};
    use crate::testing::Tree;

    #[test]
    fn names_of_files() {
        for (name, expected) in [
            ("fan1_input", Some(("fan", 1, "input"))),
            ("pwm1", Some(("pwm", 1, ""))),
            ("beep_enable", Some(("beep_enable", 0, ""))),
            ("pwm1_auto_point1_pwm", Some(("pwm", 1, "auto_point1_pwm"))),
            ("temp1x", None),
            ("1", None),
            ("temp99999999999", None),
        ] {
            assert_eq!(split(name), expected, "{name}");
        }
        assert_eq!(clean("Left side_"), "left_side");
    }

    #[test]
    fn units_by_type() {
        let folder = "sys/class/hwmon/hwmon0";
        let mut tree = Tree::new();
        for (file, text) in [
            ("name", "chip\n"),
            ("pwm1", "100\n"),
            ("pwm1_input", "7\n"),
            ("energy1_input", "5000000\n"),
            ("power1_average_interval", "1000\n"),
            ("power1_accuracy", "50000\n"),
            ("temp1_type", "4\n"),
            ("temp1_input", "broken\n"),
            ("freq1_input", "1000000\n"),
            ("beep_enable", "1\n"),
            ("update_interval", "1500\n"),
        ] {
            tree = tree.file(&format!("{folder}/{file}"), text);
        }
        assert_eq!(
            tree.samples("hwmon", &["--collector.hwmon.sensor-exclude=chip;vrm"]),
            "node_hwmon_beep_enabled{chip=\"chip\",sensor=\"beep_enable0\"} 1\n\
             node_hwmon_chip_names{chip=\"chip\",chip_name=\"chip\"} 1\n\
             node_hwmon_energy_joule_total{chip=\"chip\",sensor=\"energy1\"} 5\n\
             node_hwmon_power_accuracy{chip=\"chip\",sensor=\"power1\"} 0.05\n\
             node_hwmon_power_average_interval_seconds{chip=\"chip\",sensor=\"power1\"} 1\n\
             node_hwmon_pwm{chip=\"chip\",sensor=\"pwm1\"} 100\n\
             node_hwmon_pwm_input{chip=\"chip\",sensor=\"pwm1\"} 7\n\
             node_hwmon_temp_type{chip=\"chip\",sensor=\"temp1\"} 4\n\
             node_hwmon_update_interval_seconds{chip=\"chip\",sensor=\"update_interval0\"} 1.5\n"
        );
    }

    #[test]
    fn two_chips_of_one_name() {
        let tree = Tree::new()
            .file("sys/class/hwmon/hwmon0/name", "nvme\n")
            .file("sys/class/hwmon/hwmon0/temp1_input", "1000\n")
            .file("sys/class/hwmon/hwmon1/name", "nvme\n")
            .file("sys/class/hwmon/hwmon1/temp1_input", "2000\n");
        let samples = tree.samples("hwmon", &[]);
        assert!(samples.contains("temp_celsius{chip=\"nvme_nvme_hwmon0\",sensor=\"temp1\"} 1\n"), "{samples}");
        assert!(samples.contains("temp_celsius{chip=\"nvme_nvme_hwmon1\",sensor=\"temp1\"} 2\n"), "{samples}");
        assert!(Tree::new().failure("hwmon").contains("no data"));
    }
}
