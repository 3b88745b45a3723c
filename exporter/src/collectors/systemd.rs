//! Units of systemd over D-Bus, see `org.freedesktop.systemd1(5)`.
//!
//! One connection lasts as long as it works; the units' properties are asked for several at a time. A unit that
//! vanishes between the list and the question is left out.

use super::{Collector, Gather, Settings, StartError, compile};
use crate::dbus::{Address, Bus, Service, body};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use cli::Flag;
use futures_util::stream::{StreamExt, iter};
use re2::Regex;
use zbus::OwnedObjectPath;

pub(super) const COLLECTOR: Collector = Collector {
    name: "systemd",
    enabled: false,
    flags,
    deprecated: &[("collector.systemd.unit-whitelist", INCLUDE), ("collector.systemd.unit-blacklist", EXCLUDE)],
    build,
};

const INCLUDE: &str = "collector.systemd.unit-include";
const EXCLUDE: &str = "collector.systemd.unit-exclude";
const PRIVATE: &str = "collector.systemd.private";
const TASKS: &str = "collector.systemd.enable-task-metrics";
const RESTARTS: &str = "collector.systemd.enable-restarts-metrics";
const START_TIME: &str = "collector.systemd.enable-start-time-metrics";

/// Where systemd itself listens, for root alone.
const PRIVATE_SOCKET: &str = "/run/systemd/private";
const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// Questions that are out at the same time.
const PARALLEL: usize = 16;
/// The first version with timers' last time and the system's state.
const VERSION_WITH_STATE: f64 = 212.0;
const STATES: [&str; 5] = ["active", "activating", "deactivating", "inactive", "failed"];

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(INCLUDE, ".+", "Pattern of the units to show"),
        Flag::string(EXCLUDE, ".+\\.(automount|device|mount|scope|slice)", "Pattern of the units to leave out"),
        Flag::boolean(PRIVATE, false, "Talk to systemd directly, without the message bus").hidden(),
        Flag::boolean(TASKS, false, "Show how many tasks services have and may have"),
        Flag::boolean(RESTARTS, false, "Show how often services were restarted"),
        Flag::boolean(START_TIME, false, "Show when units were started"),
    ]
}

struct Systemd {
    bus: Bus,
    include: Option<Regex>,
    exclude: Option<Regex>,
    tasks: bool,
    restarts: bool,
    start_time: bool,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let whole = |flag| compile(flag, &format!("^(?:{})$", settings.text(flag)?.0));
    let on = |flag| settings.parsed.bool(flag);
    let mut addresses = vec![Address::Peer(PRIVATE_SOCKET.to_owned())];
    if !on(PRIVATE) {
        addresses.insert(0, Address::System);
    }
    Ok(Box::new(Systemd {
        bus: Bus::new(addresses, settings.host.clock().clone()),
        include: whole(INCLUDE)?,
        exclude: whole(EXCLUDE)?,
        tasks: on(TASKS),
        restarts: on(RESTARTS),
        start_time: on(START_TIME),
    }))
}

/// One row of `ListUnits`: name, description, load state, active state, sub state, followed unit, path, job id, job
/// type, job path.
type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// A unit that is shown, with what was asked about it.
#[derive(Debug, Default, PartialEq)]
struct Unit {
    name: String,
    path: String,
    state: String,
    kind: String,
    restarts: Option<u32>,
    started: Option<u64>,
    tasks: Option<u64>,
    tasks_max: Option<u64>,
    last_trigger: Option<u64>,
    accepted: Option<u32>,
    connections: Option<u32>,
    refused: Option<u32>,
}

/// Everything of one round.
#[derive(Debug, Default)]
struct Manager {
    version: String,
    virtualization: String,
    running: Option<bool>,
    counts: [u64; STATES.len()],
    units: Vec<Unit>,
}

impl Gather for Systemd {
    fn gather(&self, _host: &Host, out: &mut Families) -> Result<(), Failure> {
        let manager = self.bus.with(NAME, |service| self.ask(service))?;
        show(&manager, out);
        Ok(())
    }
}

impl Systemd {
    async fn ask(&self, service: Service) -> Result<Manager, Failure> {
        let version: String = service.property(PATH, MANAGER, "Version").await?;
        let virtualization = service.property::<String>(PATH, MANAGER, "Virtualization").await;
        let mut manager = Manager { version, ..Manager::default() };
        manager.virtualization = match virtualization {
            Ok(text) if text.is_empty() => "none".to_owned(),
            Ok(text) => text,
            Err(_) => "unknown".to_owned(),
        };
        let with_state = number(&manager.version).is_some_and(|version| version >= VERSION_WITH_STATE);
        if with_state {
            let state: String = service.property(PATH, MANAGER, "SystemState").await?;
            manager.running = Some(state == "running");
        }
        let rows: Vec<Row> = body(&service.call(PATH, MANAGER, "ListUnits", &()).await?)?;
        manager.counts = STATES.map(|state| rows.iter().filter(|row| row.3 == state).count() as u64);
        let chosen = rows.into_iter().filter(|row| self.shows(&row.0, &row.2));
        let units = chosen.map(|row| self.unit(&service, row, with_state));
        manager.units = iter(units).buffered(PARALLEL).collect().await;
        Ok(manager)
    }

    fn shows(&self, name: &str, load: &str) -> bool {
        let matches = |pattern: &Option<Regex>| pattern.as_ref().is_some_and(|pattern| pattern.is_match(name));
        load == "loaded" && matches(&self.include) && !matches(&self.exclude)
    }

    async fn unit(&self, service: &Service, row: Row, with_state: bool) -> Unit {
        let mut unit = Unit { name: row.0, state: row.3, path: row.6.to_string(), ..Unit::default() };
        let kind = unit.name.rsplit_once('.').map_or("", |(_, kind)| kind).to_owned();
        let path = unit.path.clone();
        let ask = Ask { service, path: &path };
        match kind.as_str() {
            "service" => {
                unit.kind = ask.own::<String>("Service", "Type").await.unwrap_or_default();
                if self.restarts {
                    unit.restarts = ask.own("Service", "NRestarts").await;
                }
                if self.tasks {
                    unit.tasks = ask.own("Service", "TasksCurrent").await.filter(|tasks| *tasks != u64::MAX);
                    unit.tasks_max = ask.own("Service", "TasksMax").await.filter(|tasks| *tasks != u64::MAX);
                }
            }
            "mount" => unit.kind = ask.own::<String>("Mount", "Type").await.unwrap_or_default(),
            "timer" if with_state => unit.last_trigger = ask.own("Timer", "LastTriggerUSec").await,
            "socket" => {
                unit.accepted = ask.own("Socket", "NAccepted").await;
                unit.connections = ask.own("Socket", "NConnections").await;
                unit.refused = ask.own("Socket", "NRefused").await;
            }
            _ => {}
        }
        if self.start_time {
            unit.started = match unit.state.as_str() {
                "active" => ask.own("Unit", "ActiveEnterTimestamp").await,
                _ => Some(0),
            };
        }
        unit
    }
}

/// Questions about one unit.
struct Ask<'a> {
    service: &'a Service,
    path: &'a str,
}

impl Ask<'_> {
    async fn own<T>(&self, interface: &str, property: &str) -> Option<T>
    where
        T: TryFrom<zbus::OwnedVariant>,
        T::Error: std::fmt::Display,
    {
        match self.service.property(self.path, &format!("{NAME}.{interface}"), property).await {
            Ok(value) => Some(value),
            Err(failure) => {
                tracing::debug!(unit = self.path, property, err = %failure, "a unit's property is left out");
                None
            }
        }
    }
}

/// The first run of three or more digits, maybe with decimals: `252.39-1~deb12u1` is 252.39.
fn number(version: &str) -> Option<f64> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut rest = version;
    loop {
        rest = &rest[rest.find(|c: char| c.is_ascii_digit())?..];
        let whole = digits(rest);
        if whole < 3 {
            rest = &rest[whole..];
            continue;
        }
        let decimals = rest[whole..].strip_prefix('.').map_or(0, digits);
        let end = if decimals > 0 { whole + 1 + decimals } else { whole };
        return rest[..end].parse().ok();
    }
}

fn show(manager: &Manager, out: &mut Families) {
    let gauge = Kind::Gauge;
    let labels = [("version", manager.version.as_str())];
    let version = number(&manager.version).unwrap_or(0.0);
    out.sample(gauge, "node_systemd_version", "Version of systemd.", &labels, version);
    let labels = [("virtualization_type", manager.virtualization.as_str())];
    out.sample(gauge, "node_systemd_virtualization_info", "What systemd runs in.", &labels, 1.0);
    if let Some(running) = manager.running {
        let help = "1 when everything that should run does.";
        out.gauge("node_systemd_system_running", help, f64::from(u8::from(running)));
    }
    for (state, count) in STATES.iter().zip(manager.counts) {
        out.sample(gauge, "node_systemd_units", "Units by state.", &[("state", state)], count as f64);
    }
    for unit in &manager.units {
        show_unit(unit, out);
    }
}

fn show_unit(unit: &Unit, out: &mut Families) {
    let name = unit.name.as_str();
    for state in STATES {
        let labels = [("name", name), ("state", state), ("type", unit.kind.as_str())];
        let value = f64::from(u8::from(unit.state == state));
        out.sample(Kind::Gauge, "node_systemd_unit_state", "1 for the state a unit is in.", &labels, value);
    }
    let mut set = |kind, family: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            out.sample(kind, &format!("node_systemd_{family}"), help, &[("name", name)], value);
        }
    };
    let seconds = |micro: Option<u64>| micro.map(|micro| micro as f64 / 1e6);
    let (counter, gauge) = (Kind::Counter, Kind::Gauge);
    set(counter, "service_restart_total", "How often a service was restarted.", unit.restarts.map(f64::from));
    set(gauge, "unit_start_time_seconds", "When a unit became active; 0 if it is not.", seconds(unit.started));
    set(gauge, "unit_tasks_current", "Tasks of a service.", unit.tasks.map(|tasks| tasks as f64));
    set(gauge, "unit_tasks_max", "Tasks a service may have.", unit.tasks_max.map(|tasks| tasks as f64));
    set(gauge, "timer_last_trigger_seconds", "When a timer last went off.", seconds(unit.last_trigger));
    let help = "Connections a socket has accepted.";
    set(counter, "socket_accepted_connections_total", help, unit.accepted.map(f64::from));
    set(gauge, "socket_current_connections", "Connections of a socket now.", unit.connections.map(f64::from));
    set(gauge, "socket_refused_connections_total", "Connections a socket refused.", unit.refused.map(f64::from));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dbus::tests::serve;
    use runtime::Clock;
    use zbus::message::Message;
    use zbus::{Connection, OwnedVariant, Variant};

    #[test]
    fn versions() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(number(text), expected, "{text}");
        check("252.39-1~deb12u1", Some(252.39));
        check("v256", Some(256.0));
        check("systemd 12 (245)", Some(245.0));
        check("257.", Some(257.0));
        check("12", None);
        check("", None);
    }

    fn row(name: &str, load: &str, active: &str) -> Row {
        let path = OwnedObjectPath::try_from(format!("/unit/{}", name.replace(['.', '-'], "_"))).expect("a path");
        let text = |text: &str| text.to_owned();
        let job = OwnedObjectPath::try_from("/").expect("a path");
        (text(name), text(""), text(load), text(active), text("x"), text(""), path, 0, text(""), job)
    }

    async fn respond(server: &Connection, message: &Message, path: &str, method: &str, property: &str) {
        let header = message.header();
        if method == "ListUnits" {
            let rows = vec![
                row("a.service", "loaded", "active"),
                row("b.service", "not-found", "inactive"),
                row("t.timer", "loaded", "active"),
                row("s.socket", "loaded", "failed"),
                row("x.slice", "loaded", "active"),
            ];
            server.reply(&header, &rows).await.expect("answered");
            return;
        }
        let value: Variant<'_> = match (path, property) {
            (_, "Version") => "252.4-1".into(),
            (_, "Virtualization") => "".into(),
            (_, "SystemState") => "degraded".into(),
            ("/unit/a_service", "Type") => "notify".into(),
            ("/unit/a_service", "NRestarts") => 3u32.into(),
            ("/unit/a_service", "TasksCurrent") => 9u64.into(),
            ("/unit/a_service", "TasksMax") => u64::MAX.into(),
            ("/unit/a_service", "ActiveEnterTimestamp") => 1_700_000_000_000_000u64.into(),
            ("/unit/t_timer", "LastTriggerUSec") => 1_500_000u64.into(),
            ("/unit/s_socket", "NAccepted") => 7u32.into(),
            ("/unit/s_socket", "NConnections") => 1u32.into(),
            _ => {
                let refused = server.reply_error(&header, "org.example.Unknown", &"no such property").await;
                refused.expect("answered");
                return;
            }
        };
        let value = OwnedVariant::try_from(value).expect("a value");
        server.reply(&header, &value).await.expect("answered");
    }

    #[test]
    fn a_round_of_questions() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("socket");
        let server = serve(&path, respond);
        let whole = |pattern: &str| Regex::new(&format!("^(?:{pattern})$")).ok();
        let systemd = Systemd {
            bus: Bus::new(vec![Address::Peer(path.display().to_string())], Clock::system()),
            include: whole(".+"),
            exclude: whole(".+\\.(automount|device|mount|scope|slice)"),
            tasks: true,
            restarts: true,
            start_time: true,
        };
        let mut out = Families::new();
        for _ in 0..2 {
            out = Families::new();
            show(&systemd.bus.with(NAME, |service| systemd.ask(service)).expect("answers"), &mut out);
        }
        drop(systemd);
        server.join().expect("one connection served both rounds");
        let text = String::from_utf8(out.finish().0).expect("text");
        for line in [
            "node_systemd_version{version=\"252.4-1\"} 252.4\n",
            "node_systemd_virtualization_info{virtualization_type=\"none\"} 1\n",
            "node_systemd_system_running 0\n",
            "node_systemd_units{state=\"active\"} 3\n",
            "node_systemd_units{state=\"activating\"} 0\n",
            "node_systemd_unit_state{name=\"a.service\",state=\"active\",type=\"notify\"} 1\n",
            "node_systemd_unit_state{name=\"s.socket\",state=\"failed\",type=\"\"} 1\n",
            "node_systemd_service_restart_total{name=\"a.service\"} 3\n",
            "node_systemd_unit_tasks_current{name=\"a.service\"} 9\n",
            "node_systemd_unit_start_time_seconds{name=\"a.service\"} 1.7e+09\n",
            "node_systemd_unit_start_time_seconds{name=\"s.socket\"} 0\n",
            "node_systemd_timer_last_trigger_seconds{name=\"t.timer\"} 1.5\n",
            "node_systemd_socket_accepted_connections_total{name=\"s.socket\"} 7\n",
            "node_systemd_socket_current_connections{name=\"s.socket\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        for absent in ["b.service", "x.slice", "tasks_max{", "refused"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
    }
}
