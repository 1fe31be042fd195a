//! The counted references in a payload, for a host that gives up reading it.

use super::{Decoder, Token};
use crate::error::DecodeError;
use crate::{ImportId, Limits};

/// Every reference to an object of the sender that a payload (or the rest of one, from a token
/// on) brings: what [`crate::Session::import`] would have counted, once each.
#[derive(Debug)]
pub struct References<'a> {
    decoder: Decoder<'a>,
    failed: bool,
}

impl<'a> References<'a> {
    /// Scans `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8], limits: &Limits) -> Self {
        Self {
            decoder: Decoder::new(bytes, limits),
            failed: false,
        }
    }
}

impl Iterator for References<'_> {
    type Item = Result<ImportId, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed && !self.decoder.is_empty() {
            match self.decoder.token() {
                Ok(Token::Mine { id, .. }) => return Some(Ok(id)),
                Ok(_) => {}
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}
