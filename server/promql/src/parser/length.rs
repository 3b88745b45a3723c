//! Durations: numbers of seconds, and the expressions over the query's step and range.

use super::{Parser, Step};
use crate::{
    expr::{Arithmetic, Length, Op},
    token::Kind,
};

/// Longest duration in milliseconds: 2^63 ns.
const MS_MAX: f64 = 9_223_372_036_854.0;

impl Parser<'_> {
    /// A length between brackets; positive when it is known already.
    pub(super) fn bracketed(&mut self) -> Step<Length> {
        let at = self.at();
        let expr = self.arithmetic(0)?;
        let length = self.length(at, expr)?;
        if matches!(length, Length::Fixed(..=0)) {
            return self.fail(at, "duration must be greater than 0");
        }
        Ok(length)
    }

    /// What follows `offset`: one operand with a sign.
    pub(super) fn offset(&mut self) -> Step<Length> {
        let at = self.at();
        let minus = self.take("-");
        if !minus {
            self.take("+");
        }
        let expr = self.operand("offset")?;
        let expr = if minus { Arithmetic::Negate(Box::new(expr)) } else { expr };
        self.length(at, expr)
    }

    /// Computes what depends on nothing.
    fn length(&self, at: usize, expr: Arithmetic) -> Step<Length> {
        if !matches!(&expr, Arithmetic::Number(_)) && !self.features.duration_expressions {
            let plain = matches!(&expr, Arithmetic::Negate(inner) if matches!(**inner, Arithmetic::Number(_)));
            if !plain {
                return self.fail(at, "experimental duration expression is not enabled");
            }
        }
        if expr.is_open() {
            return Ok(Length::Computed(Box::new(expr), at));
        }
        let seconds = expr.seconds(0.0, 0.0).or_else(|why| self.fail(at, why))?;
        milliseconds(seconds).map(Length::Fixed).or_else(|why| self.fail(at, why))
    }

    fn arithmetic(&mut self, power: u8) -> Step<Arithmetic> {
        self.deeper()?;
        let mut left = if self.take("-") {
            Arithmetic::Negate(Box::new(self.arithmetic(5)?))
        } else if self.take("+") {
            self.arithmetic(5)?
        } else {
            self.operand("duration")?
        };
        while let Some((binding, op)) = self.operator().filter(|(binding, op)| {
            *binding > power && matches!(op, Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Mod | Op::Pow)
        }) {
            let at = self.at();
            self.next += 1;
            self.chain += 1;
            if self.chain > super::CHAIN_MAX {
                return self.fail(at, format!("more than {} operators; split the expression", super::CHAIN_MAX));
            }
            let right = self.arithmetic(if op == Op::Pow { binding - 1 } else { binding })?;
            left = Arithmetic::Binary(op, Box::new(left), Box::new(right), at);
        }
        self.depth -= 1;
        Ok(left)
    }

    fn operand(&mut self, context: &str) -> Step<Arithmetic> {
        match self.peek().clone() {
            Kind::Number(seconds) => {
                self.next += 1;
                Ok(Arithmetic::Number(seconds))
            }
            Kind::Mark("(") => {
                self.next += 1;
                let inner = self.arithmetic(0)?;
                self.want(")", "paren expression")?;
                Ok(inner)
            }
            Kind::Word(word) => {
                let word = word.to_ascii_lowercase();
                if !matches!(word.as_str(), "step" | "range" | "min_of" | "max_of") {
                    return Err(self.unexpected(context, "number, duration, step(), or range()"));
                }
                self.next += 1;
                self.want("(", context)?;
                let expr = match word.as_str() {
                    "step" => Arithmetic::Step,
                    "range" => Arithmetic::Range,
                    _ => {
                        let left = Box::new(self.arithmetic(0)?);
                        self.want(",", context)?;
                        let right = Box::new(self.arithmetic(0)?);
                        if word == "min_of" { Arithmetic::Min(left, right) } else { Arithmetic::Max(left, right) }
                    }
                };
                self.want(")", context)?;
                Ok(expr)
            }
            _ => Err(self.unexpected(context, "number, duration, step(), or range()")),
        }
    }
}

impl Arithmetic {
    /// Whether the query's step or range is part of it.
    fn is_open(&self) -> bool {
        match self {
            Self::Step | Self::Range => true,
            Self::Number(_) => false,
            Self::Negate(inner) => inner.is_open(),
            Self::Min(a, b) | Self::Max(a, b) | Self::Binary(_, a, b, _) => a.is_open() || b.is_open(),
        }
    }

    /// The value, given the query's step and range in seconds.
    pub(crate) fn seconds(&self, step: f64, range: f64) -> Result<f64, String> {
        let value = |expr: &Self| expr.seconds(step, range);
        Ok(match self {
            Self::Number(seconds) => *seconds,
            Self::Step => step,
            Self::Range => range,
            Self::Negate(inner) => -value(inner)?,
            Self::Min(a, b) => value(a)?.min(value(b)?),
            Self::Max(a, b) => value(a)?.max(value(b)?),
            Self::Binary(op, a, b, _) => {
                let (a, b) = (value(a)?, value(b)?);
                match op {
                    Op::Add => a + b,
                    Op::Sub => a - b,
                    Op::Mul => a * b,
                    Op::Div | Op::Mod if b == 0.0 => {
                        let what = if *op == Op::Div { "division" } else { "modulo" };
                        return Err(format!("{what} by zero"));
                    }
                    Op::Div => a / b,
                    Op::Mod => a % b,
                    _ => a.powf(b),
                }
            }
        })
    }
}

/// Seconds as whole milliseconds.
pub(crate) fn milliseconds(seconds: f64) -> Result<i64, String> {
    let ms = (seconds * 1000.0).round();
    if ms.is_nan() || ms.abs() > MS_MAX { Err("duration out of range".to_owned()) } else { Ok(ms as i64) }
}
