//! Small machines made of files, for the tests beside the collectors.

use crate::collection::Collection;
use crate::collectors::StartError;
use crate::families::Families;
use cli::Outcome;
use runtime::Clock;
use std::io::Write;
use std::path::PathBuf;

pub(crate) struct Tree(tempfile::TempDir);

impl Tree {
    pub(crate) fn new() -> Tree {
        let folder = tempfile::tempdir().expect("folder");
        for name in ["proc", "sys", "root", "udev"] {
            std::fs::create_dir(folder.path().join(name)).expect("folder");
        }
        Tree(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn file(self, name: &str, text: &str) -> Tree {
        self.put(name, text);
        self
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        std::fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).expect("file");
    }

    pub(crate) fn parse(&self, flags: &[&str]) -> cli::Parsed {
        let mut args: Vec<String> = Vec::new();
        for (flag, folder) in
            [("path.procfs", "proc"), ("path.sysfs", "sys"), ("path.rootfs", "root"), ("path.udev.data", "udev")]
        {
            if !flags.iter().any(|given| given.starts_with(&format!("--{flag}="))) {
                args.push(format!("--{flag}={}", self.path(folder).display()));
            }
        }
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        match crate::command().parse(args) {
            Outcome::Run(parsed) => parsed,
            Outcome::Print(text) => panic!("printed {text}"),
            Outcome::Refuse { message, .. } => panic!("refused: {message}"),
        }
    }

    pub(crate) fn start(&self, flags: &[&str]) -> Result<Collection, StartError> {
        Collection::start(&self.parse(flags), Clock::system())
    }

    pub(crate) fn refusal(&self, flags: &[&str]) -> String {
        self.start(flags).expect_err("refused").to_string()
    }

    pub(crate) fn failure(&self, collector: &str) -> String {
        self.start(&[]).expect("start").failure(collector).expect("failure").to_string()
    }

    /// The answer of one collector, without the two figures every collector has.
    pub(crate) fn text(&self, collector: &str, flags: &[&str]) -> String {
        let collection = self.start(flags).expect("start");
        let mut out = Families::new();
        let chosen = collection.select(&[collector.to_owned()], &[]).expect("collector");
        collection.gather(&chosen, &mut out);
        let text = String::from_utf8(out.finish().0).expect("utf-8");
        text.split_inclusive('\n').filter(|line| !line.contains("node_scrape_collector_")).collect()
    }

    /// The sample lines of one collector.
    pub(crate) fn samples(&self, collector: &str, flags: &[&str]) -> String {
        self.text(collector, flags).split_inclusive('\n').filter(|line| !line.starts_with('#')).collect()
    }
}
