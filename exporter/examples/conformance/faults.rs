//! Broken kernels: the fixtures with files spoiled at random, in many rounds whose seeds are fixed.
//!
//! Nothing is known of what the right answer would be; a round passes when no collector panics and the answer is still
//! a text that can be parsed, without a line cut short.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use testkit::Rng;

use crate::Count;

const ROUNDS: u64 = 48;
/// One of this many files is spoiled in a round.
const ONE_OF: usize = 6;

/// Spoils files below `folder`, which is left as it was, and runs all collectors after each round.
pub(crate) fn rounds(folder: &Path, flags: &[String]) -> anyhow::Result<Count> {
    let mut files = Vec::new();
    list(folder, &mut files)?;
    let mut originals = Vec::with_capacity(files.len());
    for file in &files {
        originals.push(std::fs::read(file)?);
    }
    let panics = Arc::new(AtomicUsize::new(0));
    let (seen, usual) = (panics.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        seen.fetch_add(1, Ordering::Relaxed);
        println!("faults: {info}");
    }));
    let mut count = Count::default();
    for seed in 0..ROUNDS {
        let mut random = Rng::new(seed);
        let mut spoiled = Vec::new();
        for (file, original) in files.iter().zip(&originals) {
            if random.below(ONE_OF) == 0 {
                File::create(file)?.write_all(&spoil(original, &mut random))?;
                spoiled.push((file, original));
            }
        }
        let before = panics.load(Ordering::Relaxed);
        let text = crate::run(flags)?;
        let whole = text.ends_with('\n') && exposition::families::parse_text(text.as_bytes()).is_ok();
        if !whole {
            println!("faults: the answer of round {seed} cannot be parsed");
        }
        let good = whole && panics.load(Ordering::Relaxed) == before;
        count.passed += usize::from(good);
        count.failed += usize::from(!good);
        for (file, original) in spoiled {
            File::create(file)?.write_all(original)?;
        }
    }
    std::panic::set_hook(usual);
    println!("faults: {} rounds of {} files passed, {} failed", count.passed, files.len(), count.failed);
    Ok(count)
}

/// Plain files below a folder, without following links.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn spoil(original: &[u8], random: &mut Rng) -> Vec<u8> {
    let place = |random: &mut Rng| random.below(original.len() + 1);
    match random.below(8) {
        0 => Vec::new(),
        1 => b"\xff\xfe\x00 junk \x80\n\xc3\x28: -1 \x1b[0m\n".to_vec(),
        2 => original[..place(random)].to_vec(),
        3 => original[place(random)..].to_vec(),
        4 => original.iter().map(|byte| if byte.is_ascii_digit() { b'-' } else { *byte }).collect(),
        // Every number becomes too big for any type.
        5 => {
            original.iter().flat_map(|byte| if byte.is_ascii_digit() { vec![b'9'; 12] } else { vec![*byte] }).collect()
        }
        6 => original.iter().map(|byte| if byte.is_ascii_whitespace() { b' ' } else { *byte }).collect(),
        _ => {
            let mut bytes = original.to_vec();
            for _ in 0..=bytes.len() / 16 {
                if let Some(byte) = bytes.get_mut(place(random)) {
                    *byte = random.below(256) as u8;
                }
            }
            bytes
        }
    }
}
