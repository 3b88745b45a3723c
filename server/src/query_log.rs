//! The file of queries, a JSON object a line: `query_log_file`.

use parking_lot::Mutex;
use runtime::{Disk, File, Open};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Where queries are logged, if anywhere.
#[derive(Debug, Default)]
pub(crate) struct QueryLog(Mutex<Option<Log>>);

#[derive(Debug)]
struct Log {
    path: PathBuf,
    /// Opened when something is first written, and its end.
    file: Option<(File, u64)>,
}

impl QueryLog {
    /// Logs to a file, if there is one.
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        let log = Self::default();
        log.set(path);
        log
    }

    /// Logs to another file, or to none. The same file is opened again: somebody may have moved it away.
    pub(crate) fn set(&self, path: Option<PathBuf>) {
        *self.0.lock() = path.map(|path| Log { path, file: None });
    }

    /// Appends what `line` makes, with a line end; nothing when there is no file. Blocks. A line that cannot be written
    /// costs itself.
    pub(crate) fn write(&self, line: &dyn Fn() -> String) {
        if let Some(log) = &mut *self.0.lock()
            && let Err(error) = log.append(&(line() + "\n"))
        {
            tracing::error!(%error, file = %log.path.display(), "a query could not be logged");
            log.file = None;
        }
    }
}

impl Log {
    fn append(&mut self, line: &str) -> io::Result<()> {
        let (file, end) = match &mut self.file {
            Some(open) => open,
            None => self.file.insert(open(&self.path)?),
        };
        file.write_at(*end, line.as_bytes())?;
        *end += line.len() as u64;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no name of a file"))?;
    let disk = Disk::open(folder)?;
    let file = match disk.open_file(name, Open::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.open_file(name, Open::Create)?,
        file => file?,
    };
    let end = file.len()?;
    Ok((file, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_while_there_is_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("q.log");
        let lines = || std::fs::read_to_string(&path).map(|text| text.lines().count()).unwrap_or(0);
        let log = QueryLog::default();
        log.write(&|| panic!("nobody asks for the line"));
        log.set(Some(path.clone()));
        log.write(&|| "{}".to_owned());
        log.write(&|| "{}".to_owned());
        assert_eq!(lines(), 2);
        log.set(Some(path.clone()));
        log.write(&|| "{}".to_owned());
        assert_eq!(lines(), 3, "what is there stays");
        log.set(None);
        log.write(&|| "{}".to_owned());
        assert_eq!(lines(), 3);
    }
}
