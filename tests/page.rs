//! The exporter's landing page in Chromium: what its script draws from the exporter's own metrics, light and dark.
//!
//! A program of its own that `cargo test` does not run, because Chromium is large; `.ci/run` installs it and names the
//! program: `cargo test --test page`.

#[allow(dead_code, reason = "the other end to end tests use more of it")]
mod stack;

use stack::Program;
use std::{io::Read, net::SocketAddr, path::Path, process::Command};

/// Time of the page, which passes as soon as nothing is under way: two readings and what they take.
const BUDGET: &str = "--virtual-time-budget=11000";

fn exporter(folder: &Path) -> (Program, SocketAddr) {
    // Nobody tells the time at that port, so that one collector fails.
    let flags = ["--collector.ntp", "--collector.ntp.server-port=1"];
    let args = [&["exporter", "--web.listen-address=127.0.0.1:0"], &flags[..]].concat();
    let mut program = Program::start(&args, folder);
    let address = program.address("address=");
    (program, address)
}

fn chromium(folder: &Path, flags: &[&str], address: SocketAddr) -> String {
    let profile = format!("--user-data-dir={}", folder.join("profile").display());
    // The sandbox of Chromium does not start as root, which is who runs in a container.
    let fixed = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", BUDGET, &profile];
    let out = Command::new("chromium").args(fixed).args(flags).arg(format!("http://{address}/")).output();
    let out = out.expect("chromium runs; apt-get install chromium");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The text below an opening of a tag, without markup.
fn text(html: &str, from: &str) -> String {
    let mut inside = false;
    let start = html.find(from).unwrap_or_else(|| panic!("no {from} in {html}"));
    let letters = html[start..].chars().map(|letter| match letter {
        '<' => {
            inside = true;
            ' '
        }
        '>' => {
            inside = false;
            ' '
        }
        _ if inside => ' ',
        letter => letter,
    });
    letters.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_page_draws_this_host() {
    let folder = tempfile::tempdir().expect("a folder");
    let (program, address) = exporter(folder.path());
    let page = chromium(folder.path(), &["--dump-dom"], address);
    let state = text(&page, "<p id=\"state\"");
    assert!(state.starts_with("Updated ") && state.contains("every 5 s"), "{state}");
    let live = text(&page, "<div id=\"live\"");
    for part in [
        "Host name ",
        "Load and processors load 1, 5, 15 min ",
        // Shares need two readings.
        "Time by mode mode share ",
        "Memory What it is used for what size in use ",
        "Disks File systems mount point type used ",
        "Devices device reads writes busy ",
        "Network Devices device received sent errors, drops/s ",
        "Failing collectors collector why ntp asking the time server failed",
        "Slowest collectors collector took ",
        "Collectors that find nothing on this host: ",
    ] {
        assert!(live.contains(part), "{part:?} in {live}");
    }
    for unfinished in ["NaN", "undefined", "Infinity"] {
        assert!(!live.contains(unfinished), "{unfinished} in {live}");
    }
    assert!(page.contains("<polyline") && page.contains("class=\"bar\""), "{page}");
    assert_eq!(program.stop("-TERM"), Some(0));
}

#[test]
fn the_page_is_dark_where_that_is_wished() {
    let folder = tempfile::tempdir().expect("a folder");
    let (program, address) = exporter(folder.path());
    let shine = |scheme: u8| {
        let file = folder.path().join(format!("{scheme}.png"));
        let (shot, scheme) =
            (format!("--screenshot={}", file.display()), format!("--blink-settings=preferredColorScheme={scheme}"));
        chromium(folder.path(), &["--window-size=800,600", &shot, &scheme], address);
        brightness(&std::fs::read(file).expect("a picture"))
    };
    let (dark, light) = (shine(0), shine(1));
    assert!(dark < 80.0 && light > 200.0, "{dark} {light}");
    assert_eq!(program.stop("-TERM"), Some(0));
}

/// The mean of all samples of a PNG with eight bits each (<https://www.w3.org/TR/png-3/>), which is between 0 and 255.
fn brightness(png: &[u8]) -> f64 {
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("four bytes")) as usize;
    let (mut at, mut packed) = (8, Vec::new());
    while at + 8 <= png.len() {
        let length = number(at);
        if &png[at + 4..at + 8] == b"IDAT" {
            packed.extend_from_slice(&png[at + 8..at + 8 + length]);
        }
        at += length + 12;
    }
    // Width and height are the first of the header; then depth and kind of colour.
    let (width, channels) = (number(16), if png[25] == 6 { 4 } else { 3 });
    assert!(png[24] == 8 && [2, 6].contains(&png[25]), "red, green, blue, eight bits each");
    let mut lines = Vec::new();
    flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut lines).expect("deflated");
    let (mut sum, mut count, mut above) = (0u64, 0u64, vec![0u8; width * channels]);
    for line in lines.chunks_exact(width * channels + 1) {
        let mut row = line[1..].to_vec();
        for place in 0..row.len() {
            let left = if place >= channels { row[place - channels] } else { 0 };
            let corner = if place >= channels { above[place - channels] } else { 0 };
            row[place] = row[place].wrapping_add(predicted(line[0], left, above[place], corner));
        }
        let colours = row.chunks_exact(channels).flat_map(|pixel| &pixel[..3]);
        (sum, count) = colours.fold((sum, count), |(sum, count), value| (sum + u64::from(*value), count + 1));
        above = row;
    }
    sum as f64 / count as f64
}

/// What a filter foretells of a byte.
fn predicted(filter: u8, left: u8, above: u8, corner: u8) -> u8 {
    match filter {
        0 => 0,
        1 => left,
        2 => above,
        3 => u8::midpoint(left, above),
        _ => {
            let guess = i16::from(left) + i16::from(above) - i16::from(corner);
            let distance = |value: u8| (guess - i16::from(value)).abs();
            *[left, above, corner].iter().min_by_key(|value| distance(**value)).expect("three values")
        }
    }
}
