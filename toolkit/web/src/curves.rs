//! The groups of key exchange by name.

use rustls::{NamedGroup, crypto::SupportedKxGroup};

/// The group, if it is offered.
pub(crate) fn group(name: NamedGroup) -> Option<&'static dyn SupportedKxGroup> {
    let offered = rustls::crypto::ring::ALL_KX_GROUPS;
    offered.iter().copied().find(|group| group.name() == name)
}
