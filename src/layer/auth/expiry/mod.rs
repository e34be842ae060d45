//! Sessions that do not outlive their token.

#[cfg(not(target_arch = "wasm32"))]
mod alarm;
#[cfg(not(target_arch = "wasm32"))]
mod layer;
mod renew;
#[cfg(not(target_arch = "wasm32"))]
mod renewal;
#[cfg(not(target_arch = "wasm32"))]
mod sink;
#[cfg(not(target_arch = "wasm32"))]
mod state;
#[cfg(not(target_arch = "wasm32"))]
mod stream;
#[cfg(not(target_arch = "wasm32"))]
mod transport;

pub use self::renew::{Renew, RenewLayer};
#[cfg(not(target_arch = "wasm32"))]
pub use self::{layer::ExpiryLayer, renewal::NoRenewal, transport::Expiring};

/// The server requests a new token. The body is empty.
const ASK: u8 = 1;

/// The client sends a token. The body is the token.
const TOKEN: u8 = 2;
