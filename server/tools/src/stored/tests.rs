//! The commands on folders of both kinds; `cargo xtask peers blocks` compares them with upstream's tool.

use super::*;
use std::path::Path;

const TEXT: &str = "\
# TYPE http_requests counter
http_requests_total{code=\"200\",path=\"a\\\"b\"} 1 1700000000.000
http_requests_total{code=\"200\",path=\"a\\\"b\"} 2.5 1700000015.000
http_requests_total{code=\"400\",path=\"x\"} NaN 1700000000.000
temp{job=\"j\"} -3 1700000000.500
temp{job=\"j\"} +Inf 1700007300
# EOF
";

const DUMP: &str = r#"{__name__="http_requests_total", code="200", path="a\"b"} 1 1700000000000
{__name__="http_requests_total", code="200", path="a\"b"} 2.5 1700000015000
{__name__="http_requests_total", code="400", path="x"} NaN 1700000000000
{__name__="temp", job="j"} -3 1700000000500
{__name__="temp", job="j"} +Inf 1700007300000
"#;

fn tool(args: &[&str]) -> anyhow::Result<String> {
    let mut out = Vec::new();
    run(args.iter().map(|arg| (*arg).to_owned()).collect(), &mut out)?;
    Ok(String::from_utf8(out)?)
}

fn path(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).to_string_lossy().into_owned()
}

#[test]
fn text_becomes_blocks_and_blocks_a_store_and_a_store_blocks() {
    let folder = tempfile::tempdir().expect("a folder");
    let (text, theirs) = (path(&folder, "text"), path(&folder, "theirs"));
    runtime::Disk::open(folder.path()).expect("opened").publish("text", TEXT.as_bytes()).expect("written");
    let table = tool(&["create-blocks-from", "openmetrics", &text, &theirs]).expect("created");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("BLOCK ULID                  MIN TIME       MAX TIME       DURATION     NUM SAMPLES"));
    assert!(lines[1].contains("  1700000000000  1700000015001  15.001s      4            3            3            "));
    assert_eq!(lines.len(), 3);
    assert_eq!(tool(&["list", &theirs]).expect("listed"), table);
    assert_eq!(tool(&["dump", &theirs]).expect("dumped"), DUMP);

    let ours = path(&folder, "ours");
    let imported = tool(&["import", &theirs, &ours]).expect("taken in");
    assert_eq!(imported, "5 samples in 4 series of 2 blocks\n");
    assert_eq!(tool(&["dump", &ours]).expect("dumped"), DUMP);
    let part = tool(&["dump", "--match", "temp", "--max-time=1700000000500", &ours]).expect("dumped");
    assert_eq!(part, "{__name__=\"temp\", job=\"j\"} -3 1700000000500\n");
    assert_eq!(tool(&["list", &ours]).expect("listed").lines().count(), 3);
    assert_eq!(tool(&["verify", &ours]).expect("read"), "5 samples of 3 series can be read\n");

    let again = path(&folder, "again");
    tool(&["export", &ours, &again]).expect("written");
    assert_eq!(tool(&["dump", &again]).expect("dumped"), DUMP);
    let text = tool(&["dump-openmetrics", &again]).expect("dumped");
    assert!(text.starts_with("http_requests_total{code=\"200\",path=\"a\\\"b\"} 1 1700000000.000\n"), "{text}");
    assert!(text.ends_with("temp{job=\"j\"} +Inf 1700007300.000\n# EOF\n"), "{text}");
    let about = tool(&["analyze", &again]).expect("analyzed");
    assert!(about.contains("Total Series: 1\nLabel names: 2\nPostings (unique label pairs): 2\n"), "{about}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let (none, text) = (path(&folder, "none"), path(&folder, "text"));
    for args in [&["dump", &none][..], &["list", &none], &["export", &none, &none], &["nonsense"], &["import"]] {
        assert!(tool(args).is_err(), "{args:?}");
    }
    assert!(!Path::new(&none).exists(), "nothing was made");
    let disk = runtime::Disk::open(folder.path()).expect("opened");
    disk.publish("text", b"a 1\n# EOF\n").expect("written");
    let error = tool(&["create-blocks-from", "openmetrics", &text, &none]).expect_err("no timestamp");
    assert!(format!("{error:#}").contains("expected timestamp for series"), "{error:#}");
    disk.create_dir("theirs/chunks_head").expect("made");
    let theirs = path(&folder, "theirs");
    let error = tool(&["import", &theirs, &theirs]).expect_err("not over upstream's folder");
    assert!(format!("{error:#}").contains("is a folder of upstream"), "{error:#}");
}
