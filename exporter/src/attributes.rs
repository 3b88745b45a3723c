//! More ways to read small files of sysfs, and the rule for names made out of what a driver says.
//!
//! Truth: <https://docs.kernel.org/filesystems/sysfs.html>. Every attribute is read once, 128 bytes at most, as in
//! [`crate::host`]; the few files that hold a table are read whole through [`Host::sys_table`].

use crate::host::{Failure, Host, read_at, read_bounded};
use std::io::{self, ErrorKind};

impl Host {
    /// One attribute that must be there.
    pub(crate) fn sys_text(&self, path: &str) -> Result<String, Failure> {
        self.sys_value(path).map_err(|source| Failure::Read { path: self.sys(path), source })
    }

    /// One attribute that must be there and be a number.
    pub(crate) fn sys_figure(&self, path: &str) -> Result<f64, Failure> {
        self.sys_number(path).map_err(|source| Failure::Read { path: self.sys(path), source })
    }

    /// One attribute that may be missing, forbidden or not offered by the driver; anything else is a failure.
    pub(crate) fn sys_optional(&self, path: &str) -> Result<Option<String>, Failure> {
        match self.sys_value(path) {
            Ok(value) => Ok(Some(value)),
            Err(error) if not_offered(&error) => Ok(None),
            Err(source) => Err(Failure::Read { path: self.sys(path), source }),
        }
    }

    /// A whole file of sysfs that holds more than one value.
    pub(crate) fn sys_table(&self, path: &str) -> Result<String, Failure> {
        read_at(&self.sys(path))
    }

    /// Like [`Host::sys_table`] of a file that is there when a driver is.
    pub(crate) fn sys_driver_table(&self, path: &str) -> Result<String, Failure> {
        let full = self.sys(path);
        self.probe_sys(path, || read_bounded(&full)).map_err(|source| Failure::Read { path: full, source })
    }

    /// Sorted names of the folders in a folder of sysfs, links to folders included.
    pub(crate) fn sys_folders(&self, path: &str) -> Result<Vec<String>, Failure> {
        let mut names = self.sys_list(path)?;
        let folder = self.sys(path);
        names.retain(|name| folder.join(name).is_dir());
        Ok(names)
    }

    /// Like [`Host::sys_list`] of those names that are `prefix` and a digit; none when the folder is missing.
    pub(crate) fn sys_numbered(&self, path: &str, prefix: &str) -> Vec<String> {
        let mut names = self.sys_list(path).unwrap_or_default();
        names.retain(|name| {
            name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        });
        names
    }
}

/// Whether an attribute is simply not there for this process or this device.
pub(crate) fn not_offered(error: &io::Error) -> bool {
    /// EINVAL, ENODEV, ENODATA, EOPNOTSUPP.
    const NOT_THERE: [i32; 4] = [22, 19, 61, 95];
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
        || error.raw_os_error().is_some_and(|code| NOT_THERE.contains(&code))
}

/// A part of a family's name: every run of characters a name cannot have, with the underscores around it, is one
/// underscore.
pub(crate) fn sanitize(text: &str) -> String {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut out = String::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut position = 0;
    while let Some(&byte) = bytes.get(position) {
        let run = bytes[position..].iter().take_while(|byte| !byte.is_ascii_alphanumeric()).count();
        if run == 0 {
            out.push(char::from(byte));
            position += 1;
            continue;
        }
        if bytes[position..position + run].iter().all(|byte| allowed(*byte)) {
            out.push_str(&"_".repeat(run));
        } else {
            out.push('_');
        }
        position += run;
    }
    out
}

/// The text after a prefix and before anything that is no digit: `csrow12` after `csrow` is `12`.
pub(crate) fn digits_after<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(prefix)?;
    let length = rest.bytes().take_while(u8::is_ascii_digit).count();
    (length > 0).then(|| &rest[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_plain() {
        for (input, expected) in [
            ("package-0", "package_0"),
            ("fs.file-nr", "fs_file_nr"),
            ("a__b", "a__b"),
            ("a_.-_b", "a_b"),
            ("ü", "_"),
            ("", ""),
            ("x y!", "x_y_"),
        ] {
            assert_eq!(sanitize(input), expected, "{input}");
        }
    }

    #[test]
    fn numbers_at_the_end() {
        assert_eq!(digits_after("csrow12", "csrow"), Some("12"));
        assert_eq!(digits_after("ch0_ce_count", "ch"), Some("0"));
        assert_eq!(digits_after("channel", "ch"), None);
    }
}
