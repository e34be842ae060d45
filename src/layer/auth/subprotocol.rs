//! A token as a subprotocol: `bearer.` and the token in base64url. Browsers can set no header of a handshake but that one.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::Secret;

const PREFIX: &str = "bearer.";

pub(crate) fn encode(token: &Secret) -> String {
    format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(token.expose()))
}

/// `None` if it is another subprotocol; `Some(Err)` if it begins like a token and is none.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn decode(subprotocol: &str) -> Option<Result<Secret, ()>> {
    let encoded = subprotocol.strip_prefix(PREFIX)?;
    let token = BASE64_URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    Some(token.map(Secret::from).ok_or(()))
}
