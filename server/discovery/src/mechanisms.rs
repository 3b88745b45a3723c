//! The mechanisms of this build: one file and one line each.

use crate::{
    Context, Description, Group,
    configs::{Entry, entries},
    mechanism::Mechanism,
};
use metrics::Registry;
use runtime::Clock;
use serde::de::MapAccess;
use std::path::Path;

macro_rules! mechanisms {
    ($($name:ident,)*) => {
        $(mod $name;)*

        /// The mechanisms of this build.
        pub const BUILT: &[Description] = &[$(Description::of::<$name::Config>(),)*];

        /// One entry of any mechanism's list.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(non_camel_case_types, reason = "a variant is called as its file")]
        #[allow(clippy::large_enum_variant, reason = "there are as many as the configuration has entries")]
        pub(crate) enum Any {
            $($name($name::Config),)*
        }

        impl Any {
            /// Reads the list of a key of [`BUILT`].
            pub(crate) fn read<'de, A: MapAccess<'de>>(key: &str, map: &mut A) -> Result<Vec<Entry>, A::Error> {
                match key {
                    $(<$name::Config as Mechanism>::KEY => entries(key, map, Any::$name),)*
                    _ => Ok(Vec::new()),
                }
            }

            /// See [`Mechanism::check`].
            pub(crate) fn check(&mut self, folder: &Path) -> Result<(), String> {
                match self {
                    $(Self::$name(config) => config.check(folder),)*
                }
            }

            /// See [`Mechanism::fixed`].
            pub(crate) fn fixed(&self, place: usize) -> Option<Group> {
                match self {
                    $(Self::$name(config) => config.fixed(place),)*
                }
            }

            /// See [`Mechanism::KEY`].
            pub(crate) fn key(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => <$name::Config as Mechanism>::KEY,)*
                }
            }

            /// See [`Mechanism::run`].
            pub(crate) async fn run(self, context: Context, metrics: &Metrics) {
                match self {
                    $(Self::$name(config) => config.run(context, metrics.$name.clone()).await,)*
                }
            }
        }

        /// Instruments of all mechanisms.
        pub(crate) struct Metrics {
            $($name: <$name::Config as Mechanism>::Metrics,)*
        }

        impl Metrics {
            pub(crate) fn new(registry: &Registry, clock: &Clock) -> Self {
                Self { $($name: <$name::Config as Mechanism>::metrics(registry, clock),)* }
            }
        }
    };
}

mechanisms! {
    dns,
    file,
    http,
    kubernetes,
    static_config,
}
