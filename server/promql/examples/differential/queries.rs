//! Generated queries: valid by grammar, often wrong in what they match.

use crate::{data::START, random::Random};

const SELECTORS: [&str; 15] = [
    "cpu_total",
    "cpu_total{mode=\"idle\"}",
    "cpu_total{job=\"api\"}",
    "temp",
    "temp{job=~\"api|web\"}",
    "temp{instance!=\"a:1\"}",
    "up_meta",
    "lat_bucket",
    "lat_count",
    "{__name__=~\"temp|up_meta\"}",
    "nothing",
    "cpu_total{mode=~\"i.*\"}",
    "temp{job!~\"d.+\"}",
    "lat_bucket{job=\"api\"}",
    "cpu_total{job=\"api\",instance=\"a:1\"}",
];
const DURATIONS: [&str; 9] = ["15s", "30s", "1m", "2m", "5m", "10m", "17s", "1m30s", "1h"];
const LABELS: [&str; 6] = ["job", "instance", "mode", "le", "version", "nope"];
const RANGE_FUNCTIONS: [&str; 18] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "deriv",
    "changes",
    "resets",
    "avg_over_time",
    "sum_over_time",
    "min_over_time",
    "max_over_time",
    "count_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "last_over_time",
    "present_over_time",
    "absent_over_time",
];
const FUNCTIONS: [&str; 28] = [
    "abs",
    "ceil",
    "floor",
    "exp",
    "ln",
    "log2",
    "log10",
    "sqrt",
    "sgn",
    "sin",
    "cos",
    "tan",
    "atan",
    "tanh",
    "rad",
    "deg",
    "minute",
    "hour",
    "day_of_week",
    "day_of_month",
    "days_in_month",
    "month",
    "year",
    "timestamp",
    "absent",
    "sort",
    "sort_desc",
    "day_of_year",
];
const AGGREGATORS: [&str; 12] =
    ["sum", "avg", "min", "max", "count", "stddev", "stdvar", "group", "topk", "bottomk", "quantile", "count_values"];

/// Functions whose last digits are the library's.
pub(crate) const TRANSCENDENTAL: [&str; 11] =
    ["exp(", "ln(", "log2(", "log10(", "sin(", "cos(", "tan(", "atan(", "tanh(", " ^ ", "atan2"];

pub(crate) struct Generator<'a>(pub(crate) &'a mut Random);

impl Generator<'_> {
    pub(crate) fn query(&mut self) -> String {
        if self.0.chance(3) {
            return self.scalar(3);
        }
        let depth = 1 + self.0.below(3);
        self.vector(depth)
    }

    fn seconds(&mut self) -> i64 {
        START / 1000 + self.0.below(3600) as i64
    }

    fn modifier(&mut self) -> String {
        match self.0.below(100) {
            0..10 => format!(" offset {}", self.0.pick(&["1m", "-1m", "7s", "5m"])),
            10..15 => format!(" @ {}", self.seconds()),
            15..18 => format!(" @ {}", self.0.pick(&["start()", "end()"])),
            18..20 => format!(" @ {} offset 2m", self.seconds()),
            _ => String::new(),
        }
    }

    fn range(&mut self, depth: usize) -> String {
        let range = self.0.pick(&DURATIONS);
        if depth == 0 || self.0.chance(80) {
            return format!("{}[{range}]{}", self.0.pick(&SELECTORS), self.modifier());
        }
        let body = self.vector(depth - 1);
        format!("({body})[{range}:{}]{}", self.0.pick(&["", "15s", "1m", "7s"]), self.modifier())
    }

    fn labels(&mut self) -> String {
        let count = self.0.below(4);
        let mut names: Vec<&str> = (0..count).map(|_| self.0.pick(&LABELS)).collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    }

    fn scalar(&mut self, depth: usize) -> String {
        match self.0.below(100) {
            75..85 if depth > 0 => "time()".to_owned(),
            60..75 if depth > 0 => format!("scalar({})", self.vector(depth - 1)),
            85.. if depth > 0 => {
                let (left, op) = (self.scalar(depth - 1), self.0.pick(&["+", "*", "-", "/", "%", "^"]));
                format!("({left} {op} {})", self.scalar(depth - 1))
            }
            _ => self.0.pick(&["0", "1", "2", "-1", "0.5", "3", "1e3", "NaN", "Inf", "-Inf", "0.1"]).to_owned(),
        }
    }

    fn matching(&mut self, set: bool) -> String {
        if self.0.chance(50) {
            return String::new();
        }
        let mut out = format!("{}({}) ", self.0.pick(&["on", "ignoring"]), self.labels());
        if !set && self.0.chance(40) {
            let (group, label) =
                (self.0.pick(&["group_left", "group_right"]), self.0.pick(&["", "mode", "version", "job"]));
            // A label both matched on and copied is refused.
            if label.is_empty() || !out.starts_with("on") || !out.contains(label) {
                out.push_str(&format!("{group}({label}) "));
            }
        }
        out
    }

    fn aggregation(&mut self, depth: usize) -> String {
        let op = self.0.pick(&AGGREGATORS);
        let grouping = match self.0.below(3) {
            0 => String::new(),
            1 => format!(" by ({})", self.labels()),
            _ => format!(" without ({})", self.labels()),
        };
        let param = match op {
            "topk" | "bottomk" => format!("{}, ", self.0.pick(&["1", "2", "3", "0", "-1", "2.7"])),
            "quantile" => format!("{}, ", self.scalar(depth - 1)),
            "count_values" => "\"v\", ".to_owned(),
            _ => String::new(),
        };
        format!("{op}{grouping} ({param}{})", self.vector(depth - 1))
    }

    fn binary(&mut self, depth: usize) -> String {
        const ARITHMETIC: [&str; 7] = ["+", "-", "*", "/", "%", "^", "atan2"];
        const COMPARISONS: [&str; 6] = ["==", "!=", ">", "<", ">=", "<="];
        let bool = if self.0.chance(45) { " bool" } else { "" };
        let (op, bool) =
            if self.0.chance(50) { (self.0.pick(&ARITHMETIC), "") } else { (self.0.pick(&COMPARISONS), bool) };
        let left = self.vector(depth - 1);
        match self.0.below(3) {
            0 => format!("({left} {op}{bool} {})", self.scalar(depth - 1)),
            1 if self.0.chance(40) => format!("({} {op}{bool} {left})", self.scalar(depth - 1)),
            _ => {
                let set = self.0.chance(35);
                let (op, bool) = if set { (self.0.pick(&["and", "or", "unless"]), "") } else { (op, bool) };
                let matching = self.matching(set);
                let right = if self.0.chance(30) { left.clone() } else { self.vector(depth - 1) };
                format!("({left} {op}{bool} {matching}{right})")
            }
        }
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return format!("{}{}", self.0.pick(&SELECTORS), self.modifier());
        }
        let inner = depth - 1;
        match self.0.below(100) {
            0..12 => format!("{}{}", self.0.pick(&SELECTORS), self.modifier()),
            12..32 => format!("{}({})", self.0.pick(&RANGE_FUNCTIONS), self.range(depth)),
            32..36 => format!("quantile_over_time({}, {})", self.scalar(inner), self.range(depth)),
            36..38 => format!("predict_linear({}, {})", self.range(depth), self.scalar(0)),
            38..46 => format!("{}({})", self.0.pick(&FUNCTIONS), self.vector(inner)),
            46..49 => {
                let name = self.0.pick(&["clamp_min", "clamp_max", "round"]);
                format!("{name}({}, {})", self.vector(inner), self.scalar(inner))
            }
            49 => format!("clamp({}, {}, {})", self.vector(inner), self.scalar(0), self.scalar(0)),
            50..66 => self.aggregation(depth),
            66..70 => {
                let body = match self.0.below(4) {
                    0 => format!("rate(lat_bucket[{}])", self.0.pick(&DURATIONS)),
                    1 => "lat_bucket".to_owned(),
                    2 => "sum by (le) (rate(lat_bucket[5m]))".to_owned(),
                    _ => self.vector(inner),
                };
                let q = self.0.pick(&["0.5", "0.9", "0.99", "0", "1", "-1", "2", "NaN"]);
                format!("histogram_quantile({q}, {body})")
            }
            70..73 => format!(
                "label_replace({}, \"{}\", \"{}\", \"{}\", \"{}\")",
                self.vector(inner),
                self.0.pick(&["job", "new", "__name__"]),
                self.0.pick(&["$1", "x-$1", "", "${1}y"]),
                self.0.pick(&LABELS),
                self.0.pick(&["(.*)", "a(.).*", ".*", "(w|a).*"])
            ),
            73..75 => {
                format!(
                    "label_join({}, \"{}\", \"-\", \"job\", \"instance\")",
                    self.vector(inner),
                    self.0.pick(&["job", "new"])
                )
            }
            75..77 => format!("vector({})", self.scalar(inner)),
            77..79 => format!("-{}", self.vector(inner)),
            _ => self.binary(depth),
        }
    }
}
