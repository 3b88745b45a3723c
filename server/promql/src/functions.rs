//! The functions of the language: one file a family, one line to register it.
//!
//! A function is a const with its signature, its documentation and its kernel; type checks and completion data derive
//! from it. Truth: `server-promql.md` section 6 and upstream's scripts.

use crate::{
    eval::Run,
    expr::{Expr, Node, Type},
    histogram::Histogram,
    table::{Done, Table},
};

pub(crate) mod column;
pub(crate) mod window;

macro_rules! families {
    ($($name:ident,)*) => {
        $(pub(crate) mod $name;)*
        const FAMILIES: &[&[Function]] = &[$($name::FUNCTIONS,)*];
    };
}
families! {
    calendar,
    change,
    histograms,
    info,
    labels,
    math,
    over_time,
    rate,
    scalars,
    trend,
    trigonometry,
    vectors,
}

/// How a function computes.
#[derive(Clone, Copy)]
pub(crate) enum Kernel {
    /// Each float of the first argument, with the scalars that follow; none drops the element. Takes the name away.
    Map(fn(f64, &[f64]) -> Option<f64>),
    /// Each histogram of the only argument. Takes the name away.
    OfHistogram(fn(&Histogram) -> f64),
    /// Each window of the range argument, with the scalars around it.
    Window(window::Kernel),
    /// Everything by itself.
    Call(fn(&mut Run<'_>, &CallSite<'_>) -> Done<Table>),
}

/// A call and its arguments.
pub(crate) struct CallSite<'a> {
    pub(crate) function: &'static Function,
    pub(crate) args: &'a [Expr],
    /// Where the call begins in the text.
    pub(crate) at: usize,
    /// Whether the call gives the same at every step.
    pub(crate) invariant: bool,
}

impl CallSite<'_> {
    /// Where an argument begins for annotations. As upstream: parentheses are left out, except around what alone of
    /// the call is step-invariant; a subquery is placed at the beginning of the text.
    pub(crate) fn place(&self, arg: usize) -> usize {
        let arg = &self.args[arg];
        match arg.bare() {
            Expr { node: Node::Subquery { .. }, .. } => 0,
            _ if arg.invariant && !self.invariant => arg.span.start,
            bare => bare.span.start,
        }
    }
}

/// A function of the language.
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Types of its arguments; the last one repeats.
    pub args: &'static [Type],
    /// Arguments at least.
    pub required: usize,
    /// Arguments at most.
    pub max: usize,
    /// What it gives.
    pub gives: Type,
    /// Whether it must be enabled.
    pub experimental: bool,
    /// What it does, in a sentence.
    pub doc: &'static str,
    pub(crate) kernel: Kernel,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Function {
    const fn new(name: &'static str, args: &'static [Type], gives: Type, doc: &'static str, kernel: Kernel) -> Self {
        Self { name, args, required: args.len(), max: args.len(), gives, experimental: false, doc, kernel }
    }

    const fn map(name: &'static str, doc: &'static str, kernel: fn(f64, &[f64]) -> Option<f64>) -> Self {
        Self::new(name, &[Type::Vector], Type::Vector, doc, Kernel::Map(kernel))
    }

    const fn window(
        name: &'static str,
        doc: &'static str,
        kernel: fn(&mut window::Window<'_>) -> window::Result,
    ) -> Self {
        let kernel = Kernel::Window(window::Kernel { run: kernel, keeps_name: false, shortcut: None });
        Self::new(name, &[Type::Matrix], Type::Vector, doc, kernel)
    }

    const fn taking(self, args: &'static [Type]) -> Self {
        Self { args, required: args.len(), max: args.len(), ..self }
    }

    const fn between(self, required: usize, max: usize) -> Self {
        Self { required, max, ..self }
    }

    /// A range function with a shortcut for plain floats.
    const fn short(self, shortcut: column::Shortcut) -> Self {
        let kernel = match self.kernel {
            Kernel::Window(kernel) => Kernel::Window(window::Kernel { shortcut: Some(shortcut), ..kernel }),
            other => other,
        };
        Self { kernel, ..self }
    }

    const fn experimental(self) -> Self {
        Self { experimental: true, ..self }
    }
}

impl Function {
    /// How many of the last arguments may be left out; -1 when the last one may come again and again.
    pub fn variadic(&self) -> i64 {
        if self.max > self.args.len() { -1 } else { (self.max - self.required) as i64 }
    }
}

/// All functions.
pub fn all() -> impl Iterator<Item = &'static Function> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// The function of a name; names are case-sensitive.
pub fn find(name: &str) -> Option<&'static Function> {
    all().find(|function| function.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_there_once() {
        let mut names: Vec<_> = all().map(|function| function.name).collect();
        assert_eq!(names.len(), 90);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 90);
        assert_eq!(all().filter(|function| function.experimental).count(), 17);
        assert!(all().all(|function| !function.doc.is_empty() && function.required <= function.max));
    }
}
