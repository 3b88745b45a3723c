//! The name of this machine.

/// The name of this machine, or "" when the system has none that is UTF-8.
pub fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}
