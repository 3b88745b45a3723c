//! Functions of one number: rounding, roots, logarithms, limits.

use super::Function;
use crate::{
    expr::Type::{Scalar, Vector},
    kernel::{max, min},
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::map("abs", "The absolute value.", |value, _| Some(value.abs())),
    Function::map("ceil", "The next integer upwards.", |value, _| Some(value.ceil())),
    Function::map("floor", "The next integer downwards.", |value, _| Some(value.floor())),
    Function::map("exp", "e to the power of the value.", |value, _| Some(value.exp())),
    Function::map("ln", "The natural logarithm.", |value, _| Some(value.ln())),
    Function::map("log2", "The logarithm to base 2.", |value, _| Some(value.log2())),
    Function::map("log10", "The logarithm to base 10.", |value, _| Some(value.log10())),
    Function::map("sqrt", "The square root.", |value, _| Some(value.sqrt())),
    Function::map("sgn", "1, -1 or 0: the sign of the value.", |value, _| {
        Some(if value < 0.0 {
            -1.0
        } else if value > 0.0 {
            1.0
        } else {
            value
        })
    }),
    Function::map(
        "round",
        "The nearest multiple of the second argument, 1 unless given; ties go up.",
        |value, args| {
            let inverse = 1.0 / args.first().copied().unwrap_or(1.0);
            Some((value * inverse + 0.5).floor() / inverse)
        },
    )
    .taking(&[Vector, Scalar])
    .between(1, 2),
    Function::map("clamp", "The value held between a least and a greatest one.", |value, args| {
        clamp(value, args[0], args[1])
    })
    .taking(&[Vector, Scalar, Scalar]),
    Function::map("clamp_min", "The value, or the given one if that is greater.", |value, args| {
        clamp(value, args[0], f64::INFINITY)
    })
    .taking(&[Vector, Scalar]),
    Function::map("clamp_max", "The value, or the given one if that is less.", |value, args| {
        clamp(value, f64::NEG_INFINITY, args[0])
    })
    .taking(&[Vector, Scalar]),
];

fn clamp(value: f64, least: f64, greatest: f64) -> Option<f64> {
    if greatest < least { None } else { Some(max(least, min(greatest, value))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_keep_nan() {
        assert_eq!(clamp(5.0, 0.0, 3.0), Some(3.0));
        assert_eq!(clamp(5.0, 3.0, 0.0), None);
        assert!(clamp(5.0, f64::NAN, 9.0).is_some_and(f64::is_nan));
        assert_eq!(clamp(f64::NEG_INFINITY, 0.5, f64::NAN), Some(0.5));
    }
}
