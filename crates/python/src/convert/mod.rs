//! Values between Python and the wire.
pub(crate) mod capability;
pub(crate) mod declared;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod graph;
pub(crate) mod named;
pub(crate) mod types;
pub(crate) mod values;
