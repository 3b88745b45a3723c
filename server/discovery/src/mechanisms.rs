//! The mechanisms of this build: one file and one line each.

macro_rules! mechanisms {
    ($($name:ident,)*) => {
        $(pub(crate) mod $name;)*
        /// The mechanisms of this build.
        pub const BUILT: &[crate::Mechanism] = &[$($name::MECHANISM,)*];
    };
}

mechanisms! {
    static_config,
}
