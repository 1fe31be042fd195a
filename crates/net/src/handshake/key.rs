//! The shared key: a secret that both ends know, and what is computed with it.

use std::fmt;

use ring::hmac;

/// A secret that both ends of a connection know. It never travels and is never printed.
#[derive(Clone)]
pub struct Key(hmac::Key);

impl Key {
    /// A key of these bytes; `None` if there are none.
    #[must_use]
    pub fn new(secret: &[u8]) -> Option<Self> {
        (!secret.is_empty()).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// HMAC-SHA256 over the parts, which have a fixed length or come last.
    pub(super) fn sign(&self, parts: &[&[u8]]) -> [u8; PROOF] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(part);
        }
        let mut proof = [0; PROOF];
        proof.copy_from_slice(context.sign().as_ref());
        proof
    }

    /// Whether `proof` is [`sign`](Self::sign)'s; takes as long for every wrong one.
    pub(super) fn verify(&self, parts: &[&[u8]], proof: &[u8]) -> bool {
        hmac::verify(&self.0, &parts.concat(), proof).is_ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The length of a proof.
pub(super) const PROOF: usize = 32;
