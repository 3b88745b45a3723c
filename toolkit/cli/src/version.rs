//! What this build is, and how `--version` says it.

/// Where a build came from. A packager sets the environment variables `NARTHEX_REVISION`, `NARTHEX_BRANCH`,
/// `NARTHEX_BUILD_USER` and `NARTHEX_BUILD_DATE` while compiling; without them a build is the same byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// Version of the program.
    pub version: &'static str,
    /// Commit, or `unknown`.
    pub revision: &'static str,
    /// Branch, or `unknown`.
    pub branch: &'static str,
    /// Who built it, or `unknown`.
    pub build_user: &'static str,
    /// When, or `unknown`.
    pub build_date: &'static str,
    /// Which compiler, such as `rustc 1.95.0`.
    pub compiler: &'static str,
}

const fn or_unknown(set: Option<&'static str>) -> &'static str {
    match set {
        Some(text) => text,
        None => "unknown",
    }
}

impl BuildInfo {
    /// This build.
    pub const fn current() -> BuildInfo {
        BuildInfo {
            version: env!("CARGO_PKG_VERSION"),
            revision: or_unknown(option_env!("NARTHEX_REVISION")),
            branch: or_unknown(option_env!("NARTHEX_BRANCH")),
            build_user: or_unknown(option_env!("NARTHEX_BUILD_USER")),
            build_date: or_unknown(option_env!("NARTHEX_BUILD_DATE")),
            compiler: env!("NARTHEX_COMPILER"),
        }
    }

    /// Operating system, as dashboards know it: `linux`.
    pub const fn os() -> &'static str {
        std::env::consts::OS
    }

    /// Processor, as dashboards know it: `amd64`, not `x86_64`.
    pub fn arch() -> &'static str {
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64",
            other => other,
        }
    }
}

/// What `--version` prints.
pub fn version_text(program: &str) -> String {
    let BuildInfo { version, revision, branch, build_user, build_date, compiler } = BuildInfo::current();
    let (os, arch) = (BuildInfo::os(), BuildInfo::arch());
    format!(
        "{program}, version {version} (branch: {branch}, revision: {revision})\n  \
           build user:       {build_user}\n  \
           build date:       {build_date}\n  \
           go version:       {compiler}\n  \
           platform:         {os}/{arch}\n  \
           tags:             unknown\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_the_lines_that_scripts_cut_up() {
        let text = version_text("node_exporter");
        let lines: Vec<&str> = text.lines().collect();
        let first = format!("node_exporter, version {} (branch: ", env!("CARGO_PKG_VERSION"));
        assert!(lines[0].starts_with(&first) && lines[0].ends_with(')'), "{text}");
        assert!(lines[3].starts_with("  go version:       rustc 1."), "{text}");
        assert!(lines[4].starts_with("  platform:         linux/"), "{text}");
        assert_eq!(lines.len(), 6);
    }
}
