//! Processes and threads by state: `/proc/PID/stat`, `/proc/PID/task/*/stat`, see `proc_pid_stat(5)`.
//!
//! A process that ends while it is being read does not count. The threads of a process with only one are not listed,
//! its own line says the same.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, list};
use std::collections::BTreeMap;

pub(super) const COLLECTOR: Collector = Collector {
    name: "processes",
    enabled: false,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

/// ESRCH: the process ended between opening and reading.
const NO_PROCESS: i32 = 3;
/// The number of threads is the 20th field; the state, which is the third, is the first after the name.
const THREADS: usize = 20 - 3;

type States = BTreeMap<char, u64>;

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let (mut processes, mut threads) = (0u64, 0.0);
    let (mut states, mut thread_states) = (States::new(), States::new());
    for name in list(&host.proc(""))?.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
        let Some((state, count)) = stat(host, &format!("{name}/stat"))? else { continue };
        processes += 1;
        threads += count;
        *states.entry(state).or_default() += 1;
        tasks(host, name, state, count, &mut thread_states)?;
    }
    out.gauge("node_processes_threads", "Threads.", threads);
    let most = host.proc_number("sys/kernel/threads-max")?;
    out.gauge("node_processes_max_threads", "Most threads the system allows.", most);
    by_state("node_processes_state", "state", "Processes by state.", &states, out);
    by_state("node_processes_threads_state", "thread_state", "Threads by state.", &thread_states, out);
    let most = host.proc_number("sys/kernel/pid_max")?;
    out.gauge("node_processes_max_processes", "Highest number a process can have.", most);
    out.gauge("node_processes_pids", "Processes.", processes as f64);
    Ok(())
}

fn by_state(name: &str, label: &str, help: &str, states: &States, out: &mut Families) {
    for (state, count) in states {
        out.sample(Kind::Gauge, name, help, &[(label, state.encode_utf8(&mut [0; 4]))], *count as f64);
    }
}

fn tasks(host: &Host, process: &str, state: char, count: f64, states: &mut States) -> Result<(), Failure> {
    // The kernel's procfs has the folder of every process.
    if count <= 1.0 && host.is_kernel_proc() {
        *states.entry(state).or_default() += 1;
        return Ok(());
    }
    let folder = format!("{process}/task");
    if count <= 1.0 {
        if host.proc(&folder).is_dir() {
            *states.entry(state).or_default() += 1;
        }
        return Ok(());
    }
    let threads = match list(&host.proc(&folder)) {
        Err(failure) if gone(&failure) => return Ok(()),
        other => other?,
    };
    for thread in threads {
        let state = if thread == process {
            Some(state)
        } else {
            stat(host, &format!("{folder}/{thread}/stat"))?.map(|(state, _)| state)
        };
        if let Some(state) = state {
            *states.entry(state).or_default() += 1;
        }
    }
    Ok(())
}

fn gone(failure: &Failure) -> bool {
    failure.is_absent() || matches!(failure, Failure::Read { source, .. } if source.raw_os_error() == Some(NO_PROCESS))
}

/// State and number of threads; nothing for a process that is gone.
fn stat(host: &Host, path: &str) -> Result<Option<(char, f64)>, Failure> {
    let text = match host.read_proc(path) {
        Err(failure) if gone(&failure) => return Ok(None),
        other => other?,
    };
    // The name may hold anything, parentheses too.
    let mut fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let state = fields.next().and_then(|state| state.chars().next());
    let threads = fields.nth(THREADS - 1).and_then(|threads| threads.parse().ok());
    match (state, threads) {
        (Some(state), Some(threads)) => Ok(Some((state, threads))),
        _ => Err(Failure::form(path, "no state or no number of threads")),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    fn stat(number: u32, state: char, threads: u32) -> String {
        format!("{number} (a) b) {state} 2 0 0 0 -1 0 0 0 0 0 0 346 0 0 -2 0 {threads} 0 32 0\n")
    }

    fn tree() -> Tree {
        Tree::new()
            .file("proc/sys/kernel/threads-max", "9\n")
            .file("proc/sys/kernel/pid_max", "8\n")
            .file("proc/1/stat", &stat(1, 'S', 1))
            .file("proc/1/task/1/stat", &stat(1, 'S', 1))
            .file("proc/2/stat", &stat(2, 'R', 2))
            .file("proc/2/task/2/stat", &stat(2, 'R', 2))
            .file("proc/2/task/3/stat", &stat(3, 'D', 2))
            .file("proc/4/nothing", "")
    }

    #[test]
    fn states_of_processes_and_threads() {
        assert_eq!(
            tree().samples("processes", &["--collector.processes"]),
            "node_processes_max_processes 8\nnode_processes_max_threads 9\nnode_processes_pids 2\n\
             node_processes_state{state=\"R\"} 1\nnode_processes_state{state=\"S\"} 1\nnode_processes_threads 3\n\
             node_processes_threads_state{thread_state=\"D\"} 1\nnode_processes_threads_state{thread_state=\"R\"} 1\n\
             node_processes_threads_state{thread_state=\"S\"} 1\n"
        );
    }

    #[test]
    fn junk_is_a_failure() {
        let tree = tree().file("proc/5/stat", "5 (x) S 1\n");
        assert_eq!(tree.samples("processes", &["--collector.processes"]), "");
    }
}
