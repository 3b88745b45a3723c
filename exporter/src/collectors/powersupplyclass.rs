//! Batteries and mains: `/sys/class/power_supply`, see <https://docs.kernel.org/power/power_supply_class.html>.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use cli::Flag;

pub(super) const COLLECTOR: Collector =
    Collector { name: "powersupplyclass", enabled: true, flags, deprecated: &[], build };

const FOLDER: &str = "class/power_supply";
const IGNORED: &str = "collector.powersupply.ignored-supplies";
const ONE: f64 = 1.0;
const MICRO: f64 = 1e6;
const TENTH: f64 = 10.0;

/// File, name after `node_power_supply_`, divisor.
const FIGURES: &[(&str, &str, f64)] = &[
    ("authentic", "authentic", ONE),
    ("calibrate", "calibrate", ONE),
    ("capacity", "capacity", ONE),
    ("capacity_alert_max", "capacity_alert_max", ONE),
    ("capacity_alert_min", "capacity_alert_min", ONE),
    ("cycle_count", "cyclecount", ONE),
    ("online", "online", ONE),
    ("present", "present", ONE),
    ("time_to_empty_now", "time_to_empty_seconds", ONE),
    ("time_to_full_now", "time_to_full_seconds", ONE),
    ("current_boot", "current_boot", MICRO),
    ("current_max", "current_max", MICRO),
    ("current_now", "current_ampere", MICRO),
    ("energy_empty", "energy_empty", MICRO),
    ("energy_empty_design", "energy_empty_design", MICRO),
    ("energy_full", "energy_full", MICRO),
    ("energy_full_design", "energy_full_design", MICRO),
    ("energy_now", "energy_watthour", MICRO),
    ("voltage_boot", "voltage_boot", MICRO),
    ("voltage_max", "voltage_max", MICRO),
    ("voltage_max_design", "voltage_max_design", MICRO),
    ("voltage_min", "voltage_min", MICRO),
    ("voltage_min_design", "voltage_min_design", MICRO),
    ("voltage_now", "voltage_volt", MICRO),
    ("voltage_ocv", "voltage_ocv", MICRO),
    ("charge_control_limit", "charge_control_limit", MICRO),
    ("charge_control_limit_max", "charge_control_limit_max", MICRO),
    ("charge_counter", "charge_counter", MICRO),
    ("charge_empty", "charge_empty", MICRO),
    ("charge_empty_design", "charge_empty_design", MICRO),
    ("charge_full", "charge_full", MICRO),
    ("charge_full_design", "charge_full_design", MICRO),
    ("charge_now", "charge_ampere", MICRO),
    ("charge_term_current", "charge_term_current", MICRO),
    ("constant_charge_current", "constant_charge_current", MICRO),
    ("constant_charge_current_max", "constant_charge_current_max", MICRO),
    ("constant_charge_voltage", "constant_charge_voltage", MICRO),
    ("constant_charge_voltage_max", "constant_charge_voltage_max", MICRO),
    ("precharge_current", "precharge_current", MICRO),
    ("input_current_limit", "input_current_limit", MICRO),
    ("power_now", "power_watt", MICRO),
    ("temp", "temp_celsius", TENTH),
    ("temp_alert_max", "temp_alert_max_celsius", TENTH),
    ("temp_alert_min", "temp_alert_min_celsius", TENTH),
    ("temp_ambient", "temp_ambient_celsius", TENTH),
    ("temp_ambient_max", "temp_ambient_max_celsius", TENTH),
    ("temp_ambient_min", "temp_ambient_min_celsius", TENTH),
    ("temp_max", "temp_max_celsius", TENTH),
    ("temp_min", "temp_min_celsius", TENTH),
];

/// Files that are labels under the same name; those that say nothing are left out.
const TEXTS: [&str; 11] = [
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
    "scope",
];

fn flags() -> Vec<Flag> {
    vec![Flag::string(IGNORED, "^$", "Pattern of the power supplies to leave out")]
}

struct PowerSupplies {
    filter: Filter,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let filter = Filter { include: None, exclude: settings.pattern(IGNORED)? };
    Ok(Box::new(PowerSupplies { filter }))
}

impl Gather for PowerSupplies {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        for supply in host.sys_list(FOLDER).map_err(Failure::absent_is_no_data)? {
            if !self.filter.ignores(&supply) {
                show(host, &supply, out)?;
            }
        }
        Ok(())
    }
}

fn show(host: &Host, supply: &str, out: &mut Families) -> Result<(), Failure> {
    let folder = format!("{FOLDER}/{supply}");
    for (file, name, divisor) in FIGURES {
        let path = format!("{folder}/{file}");
        let Some(text) = host.sys_optional(&path)? else { continue };
        let value: i64 = text.parse().map_err(|_| Failure::form(&path, format!("{text:?} is not a number")))?;
        let help = format!("The attribute {file} of a power supply.");
        let name = format!("node_power_supply_{name}");
        out.sample(Kind::Gauge, &name, &help, &[("power_supply", supply)], value as f64 / divisor);
    }
    let mut texts = Vec::new();
    for file in TEXTS {
        if let Some(text) = host.sys_optional(&format!("{folder}/{file}"))?.filter(|text| !text.is_empty()) {
            texts.push((file, text));
        }
    }
    let mut labels = vec![("power_supply", supply)];
    labels.extend(texts.iter().map(|(file, text)| (*file, text.as_str())));
    out.sample(Kind::Gauge, "node_power_supply_info", "What a power supply is.", &labels, 1.0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    fn tree() -> Tree {
        Tree::new()
            .file("sys/class/power_supply/BAT0/current_now", "-1500000\n")
            .file("sys/class/power_supply/BAT0/temp", "305\n")
            .file("sys/class/power_supply/BAT0/type", "Battery\n")
            .file("sys/class/power_supply/BAT0/health", "\n")
    }

    #[test]
    fn units_and_labels() {
        assert_eq!(
            tree().samples("powersupplyclass", &[]),
            "node_power_supply_current_ampere{power_supply=\"BAT0\"} -1.5\n\
             node_power_supply_info{power_supply=\"BAT0\",type=\"Battery\"} 1\n\
             node_power_supply_temp_celsius{power_supply=\"BAT0\"} 30.5\n"
        );
    }

    #[test]
    fn filter_and_failures() {
        assert_eq!(tree().samples("powersupplyclass", &["--collector.powersupply.ignored-supplies=BAT"]), "");
        assert!(Tree::new().failure("powersupplyclass").contains("no data"));
        let broken = tree().file("sys/class/power_supply/BAT0/temp", "warm\n");
        assert!(broken.failure("powersupplyclass").contains("warm"));
    }
}
