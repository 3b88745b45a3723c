//! Temperatures and cooling devices: `/sys/class/thermal`, see <https://docs.kernel.org/driver-api/thermal/sysfs-api.html>.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector = Collector {
    name: "thermal_zone",
    enabled: true,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

const FOLDER: &str = "class/thermal";

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let names = match host.sys_list(FOLDER) {
        // A machine without sensors is not a failure.
        Err(failure) if failure.is_absent() => return Ok(()),
        other => other?,
    };
    for name in names {
        // A sensor that does not answer is left out, the others are still shown.
        let Ok(kind) = host.sys_value(&format!("{FOLDER}/{name}/type")) else { continue };
        let number = |file: &str| host.sys_number(&format!("{FOLDER}/{name}/{file}"));
        if let Some(zone) = name.strip_prefix("thermal_zone") {
            if let Ok(milli) = number("temp") {
                let labels = [("zone", zone), ("type", kind.as_str())];
                out.sample(Kind::Gauge, "node_thermal_zone_temp", "Temperature in Celsius.", &labels, milli / 1000.0);
            }
        } else if let Some(device) = name.strip_prefix("cooling_device") {
            let labels = [("name", device), ("type", kind.as_str())];
            if let (Ok(now), Ok(most)) = (number("cur_state"), number("max_state")) {
                out.sample(Kind::Gauge, "node_cooling_device_cur_state", "Present cooling step.", &labels, now);
                out.sample(Kind::Gauge, "node_cooling_device_max_state", "Highest cooling step.", &labels, most);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn zones_and_coolers() {
        let samples = Tree::new()
            .file("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
            .file("sys/class/thermal/thermal_zone0/temp", "12376\n")
            .file("sys/class/thermal/thermal_zone1/type", "broken\n")
            .file("sys/class/thermal/cooling_device0/type", "Processor\n")
            .file("sys/class/thermal/cooling_device0/cur_state", "0\n")
            .file("sys/class/thermal/cooling_device0/max_state", "3\n")
            .samples("thermal_zone", &[]);
        assert_eq!(
            samples,
            "node_cooling_device_cur_state{name=\"0\",type=\"Processor\"} 0\n\
             node_cooling_device_max_state{name=\"0\",type=\"Processor\"} 3\n\
             node_thermal_zone_temp{type=\"cpu-thermal\",zone=\"0\"} 12.376\n"
        );
    }
}
