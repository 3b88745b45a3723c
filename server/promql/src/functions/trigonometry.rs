//! Trigonometric and hyperbolic functions, in radians.

use super::Function;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::map("sin", "The sine.", |value, _| Some(value.sin())),
    Function::map("cos", "The cosine.", |value, _| Some(value.cos())),
    Function::map("tan", "The tangent.", |value, _| Some(value.tan())),
    Function::map("asin", "The arc sine.", |value, _| Some(value.asin())),
    Function::map("acos", "The arc cosine.", |value, _| Some(value.acos())),
    Function::map("atan", "The arc tangent.", |value, _| Some(value.atan())),
    Function::map("sinh", "The hyperbolic sine.", |value, _| Some(value.sinh())),
    Function::map("cosh", "The hyperbolic cosine.", |value, _| Some(value.cosh())),
    Function::map("tanh", "The hyperbolic tangent.", |value, _| Some(value.tanh())),
    Function::map("asinh", "The inverse hyperbolic sine.", |value, _| Some(value.asinh())),
    Function::map("acosh", "The inverse hyperbolic cosine.", |value, _| Some(value.acosh())),
    Function::map("atanh", "The inverse hyperbolic tangent.", |value, _| Some(value.atanh())),
    Function::map("rad", "Degrees as radians.", |value, _| Some(value * std::f64::consts::PI / 180.0)),
    Function::map("deg", "Radians as degrees.", |value, _| Some(value * 180.0 / std::f64::consts::PI)),
];
