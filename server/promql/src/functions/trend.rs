//! Where the floats of a window are heading: regression and exponential smoothing.

use super::{
    Function,
    window::{Result, Window},
};
use crate::{
    QueryError,
    expr::Type::{Matrix, Scalar},
    kernel::add,
    notes::Note,
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::window("deriv", "The slope per second, by least squares.", |window| {
        // Near the samples, so that nothing is lost to large numbers.
        let origin = window.times.first().copied().unwrap_or_default();
        trend(window, |window| Ok(regression(window, origin).0))
    }),
    Function::window("predict_linear", "The value so many seconds from now, by least squares.", |window| {
        let (origin, ahead) = (window.at, window.args[0]);
        trend(window, |window| {
            let (slope, intercept) = regression(window, origin);
            Ok(slope * ahead + intercept)
        })
    })
    .taking(&[Matrix, Scalar]),
    Function::window(
        "double_exponential_smoothing",
        "The smoothed value, with factors for smoothing and trend.",
        |window| {
            for (factor, what) in [(window.args[0], "smoothing"), (window.args[1], "trend")] {
                if factor <= 0.0 || factor >= 1.0 {
                    let letter = if what == "smoothing" { "sf" } else { "tf" };
                    let text = format!("invalid {what} factor. Expected: 0 < {letter} < 1, got: {factor:.6}");
                    return Err(QueryError::Execution(text));
                }
            }
            let (smoothing, trend_factor) = (window.args[0], window.args[1]);
            trend(window, |window| Ok(smoothed(window.values, smoothing, trend_factor)))
        },
    )
    .taking(&[Matrix, Scalar, Scalar])
    .experimental(),
];

/// At least two floats make a trend; histograms beside them are reported.
fn trend(window: &mut Window<'_>, kernel: impl Fn(&Window<'_>) -> crate::table::Done<f64>) -> Result {
    if window.mixed() {
        window.note(Note::IgnoredHistogramsInRange);
    }
    if window.values.len() < 2 {
        return Ok(None);
    }
    kernel(window).map(|value| Some(value.into()))
}

/// Slope per second and value at `origin`. A constant is answered as it is.
fn regression(window: &Window<'_>, origin: i64) -> (f64, f64) {
    let values = window.values;
    let (mut n, mut x, mut y, mut xy, mut xx) = (0.0, (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0));
    let mut constant = true;
    for (time, value) in window.times.iter().zip(values) {
        constant &= n == 0.0 || *value == values[0];
        n += 1.0;
        let at = time.saturating_sub(origin) as f64 / 1000.0;
        x = add(at, x.0, x.1);
        y = add(*value, y.0, y.1);
        xy = add(at * value, xy.0, xy.1);
        xx = add(at * at, xx.0, xx.1);
    }
    if constant {
        return if values[0].is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, values[0]) };
    }
    let (x, y, xy, xx) = (x.0 + x.1, y.0 + y.1, xy.0 + xy.1, xx.0 + xx.1);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

fn smoothed(values: &[f64], smoothing: f64, trend_factor: f64) -> f64 {
    let (mut before, mut now) = (0.0, values[0]);
    let mut trend = values[1] - values[0];
    for (place, value) in values.iter().enumerate().skip(1) {
        if place > 1 {
            trend = trend_factor * (now - before) + (1.0 - trend_factor) * trend;
        }
        (before, now) = (now, smoothing * value + (1.0 - smoothing) * (now + trend));
    }
    now
}
