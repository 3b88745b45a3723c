//! Outputs as promtool 3.5 gave them.

use super::*;

fn said(words: &[&str]) -> (String, String, u8) {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let Said { out, err, code } = run(&words);
    (out, err, code)
}

fn out(text: &str) -> (String, String, u8) {
    (text.to_owned(), String::new(), 0)
}

fn err(text: &str, code: u8) -> (String, String, u8) {
    (String::new(), text.to_owned(), code)
}

#[test]
fn command_lines_are_kingpins() {
    assert_eq!(said(&["check"]), err("promtool: error: must select a subcommand of 'check', try --help\n", 1));
    assert_eq!(said(&["nope"]), err("promtool: error: expected command but got \"nope\", try --help\n", 1));
    assert_eq!(
        said(&["check", "config", "nope.yml"]),
        err("promtool: error: path 'nope.yml' does not exist, try --help\n", 1)
    );
    let long = said(&["query", "instant", "--nope", "x", "y"]);
    assert_eq!(long, err("promtool: error: unknown long flag '--nope', try --help\n", 1));
    let few = said(&["query", "instant", "x"]);
    assert_eq!(few, err("promtool: error: required argument 'expr' not provided, try --help\n", 1));
    assert!(said(&["--version"]).0.starts_with("promtool, version "));
    assert!(said(&[]).0.contains("\nquery instant [<flags>] <server> <expr>\n    Run instant query.\n"));
    assert!(
        said(&["query", "range", "--help"]).0.starts_with("usage: promtool query range [<flags>] <server> <expr>\n")
    );
}

#[test]
fn expressions_are_formatted_and_changed() {
    let experimental = "This command is experimental and requires the --experimental flag to be set.\n";
    assert_eq!(said(&["promql", "format", "sum(a)by(b)"]), err(experimental, 1));
    let ask = |words: &[&str]| said(&[&["--experimental", "promql"], words].concat());
    assert_eq!(ask(&["format", "sum(a)by(b)"]), out("sum by (b) (a)\n"));
    assert_eq!(ask(&["format", "x("]), err("1:3: parse error: unclosed left parenthesis\n", 1));
    let set = ["label-matchers", "set"];
    assert_eq!(ask(&[&set[..], &["sum(a)+b{c=\"d\"}", "c", "e"]].concat()), out("sum(a{c=\"e\"}) + b{c=\"e\"}\n"));
    assert_eq!(ask(&[&set[..], &["-t", "=~", "a", "c", "e"]].concat()), out("a{c=~\"e\"}\n"));
    let wrong = "promtool: error: enum value must be one of =,!=,=~,!~, got 'x', try --help\n";
    assert_eq!(ask(&[&set[..], &["-t", "x", "a", "c", "e"]].concat()), err(wrong, 1));
    assert_eq!(ask(&["label-matchers", "delete", "sum(a{c=\"d\"})", "c"]), out("sum(a)\n"));
    assert_eq!(said(&["check", "promql", "up"]), out(""));
}

#[test]
fn metrics_are_judged() {
    let text = "# TYPE foo counter\nfoo 1\n# HELP bar_total x\n# TYPE bar_total gauge\nbar_total 2\n\
                # HELP BarCamel x\n# TYPE BarCamel gauge\nBarCamel 2\n# HELP x_milliseconds y\n\
                # TYPE x_milliseconds gauge\nx_milliseconds{le=\"3\",quantile=\"1\"} 3\n# HELP h_gauge y\n\
                # TYPE h_gauge histogram\nh_gauge_bucket{le=\"+Inf\"} 1\nh_gauge_sum 1\nh_gauge_count 1\n\
                # HELP m_minutes_min z\n# TYPE m_minutes_min gauge\nm_minutes_min 1\n# HELP a:b z\n# TYPE a:b gauge\n\
                a:b 1\nuntyped_count 1\n";
    let want = "BarCamel metric names should be written in 'snake_case' not 'camelCase'\n\
                a:b metric names should not contain ':'\n\
                bar_total non-counter metrics should not have \"_total\" suffix\n\
                foo counter metrics should have \"_total\" suffix\nfoo no help text\n\
                m_minutes_min use base unit \"seconds\" instead of \"minutes\"\nuntyped_count no help text\n\
                x_milliseconds non-histogram metrics should not have \"le\" label\n\
                x_milliseconds non-summary metrics should not have \"quantile\" label\n\
                x_milliseconds use base unit \"seconds\" instead of \"milliseconds\"\n";
    let said = check::judged(text.as_bytes());
    let found: Vec<&str> = said.err.lines().collect();
    let want: Vec<&str> = want.lines().collect();
    assert_eq!((found, said.code), (want, LINT));
    assert_eq!(check::judged(b"# HELP ok_total x\n# TYPE ok_total counter\nok_total 1\n"), Said::default());
    let broken = check::judged(b"x{\n");
    assert!(broken.err.starts_with("error while linting: ") && broken.code == 1, "{broken:?}");
}

#[test]
fn answers_are_printed_for_people() {
    let shown = |kind: &str, json: &str| text::result(kind, &serde_json::from_str(json).expect("JSON"));
    assert_eq!(shown("scalar", "[1795618294,\"1\"]").as_deref(), Some("scalar: 1 @[1795618294]\n"));
    let vector = "[{\"metric\":{\"__name__\":\"m\",\"b\":\"2\",\"a\":\"x\\\"\"},\"value\":[1.5,\"1e+21\"]},\
                  {\"metric\":{},\"value\":[1,\"NaN\"]}]";
    let want = "m{a=\"x\\\"\", b=\"2\"} => 1000000000000000000000 @[1.5]\n{} => NaN @[1]\n";
    assert_eq!(shown("vector", vector).as_deref(), Some(want));
    let matrix = "[{\"metric\":{\"__name__\":\"mem\"},\"values\":[[1,\"36\"],[2,\"38\"]]}]";
    assert_eq!(shown("matrix", matrix).as_deref(), Some("mem =>\n36 @[1]\n38 @[2]\n"));
    let native = "[{\"metric\":{\"__name__\":\"native\"},\"histogram\":[1,{\"count\":\"83\",\"sum\":\"246\",\"buckets\":\
                  [[3,\"-0.001\",\"0.001\",\"1\"],[0,\"0.5\",\"1\",\"41\"],[0,\"1\",\"2\",\"41\"]]}]}]";
    let want = "native => Count: 83.000000, Sum: 246.000000, Buckets: [[-0.001,0.001]:1 (0.5,1]:41 (1,2]:41] @[1]\n";
    assert_eq!(shown("vector", native).as_deref(), Some(want));
    assert_eq!(shown("string", "[1,\"a\"]"), None);
}
