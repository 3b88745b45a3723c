//! Files of failed scrapes, a JSON object a line as upstream writes them: `scrape_failure_log_file`.

use parking_lot::Mutex;
use runtime::{Disk, File, Open};
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

/// One scrape that failed.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) at_ms: i64,
    pub(crate) job: String,
    pub(crate) target: String,
    pub(crate) error: String,
}

impl Record {
    fn line(&self) -> String {
        let text = |text: &str| serde_json::Value::from(text);
        let time = model::Timestamp(self.at_ms).to_rfc3339();
        format!(
            "{{\"time\":{},\"level\":\"ERROR\",\"msg\":{},\"job_name\":{},\"target\":{}}}\n",
            text(&time),
            text(&self.error),
            text(&self.job),
            text(&self.target)
        )
    }
}

/// The files in use, opened when something is first written.
#[derive(Debug, Default)]
pub(crate) struct FailureLogs(Mutex<HashMap<PathBuf, Log>>);

#[derive(Debug)]
struct Log {
    file: File,
    end: u64,
}

impl FailureLogs {
    /// Closes all files: the next line opens its file again, which somebody may have moved away.
    pub(crate) fn close(&self) {
        self.0.lock().clear();
    }

    /// Appends a line. Blocks.
    pub(crate) fn write(&self, path: &Path, record: &Record) -> io::Result<()> {
        let mut files = self.0.lock();
        let log = match files.get_mut(path) {
            Some(log) => log,
            None => files.entry(path.to_owned()).or_insert(open(path)?),
        };
        let line = record.line();
        log.file.write_at(log.end, line.as_bytes())?;
        log.end += line.len() as u64;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Log> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no name of a file"))?;
    let disk = Disk::open(folder)?;
    let file = match disk.open_file(name, Open::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.open_file(name, Open::Create)?,
        file => file?,
    };
    let end = file.len()?;
    Ok(Log { file, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_and_a_moved_file_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("failed.log");
        let record =
            Record { at_ms: 1_700_000_000_123, job: "j".into(), target: "http://h/".into(), error: "a \"b\"".into() };
        let logs = FailureLogs::default();
        let lines = || std::fs::read_to_string(&path).map(|text| text.lines().count()).unwrap_or(0);
        logs.write(&path, &record).expect("written");
        logs.write(&path, &record).expect("written");
        assert_eq!(lines(), 2);
        let text = std::fs::read_to_string(&path).expect("there");
        let line: serde_json::Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
        assert_eq!(
            [&line["time"], &line["level"], &line["msg"], &line["job_name"], &line["target"]],
            ["2023-11-14T22:13:20.123Z", "ERROR", "a \"b\"", "j", "http://h/"]
        );
        std::fs::rename(&path, folder.path().join("old.log")).expect("moved");
        logs.close();
        logs.write(&path, &record).expect("written");
        assert_eq!(lines(), 1);
        FailureLogs::default().write(&path, &record).expect("written");
        assert_eq!(lines(), 2, "what is there stays");
        assert!(logs.write(Path::new("/"), &record).is_err());
    }
}
