//! Sessions that do not outlive their token.

#[cfg(not(target_arch = "wasm32"))]
mod alarm;
#[cfg(not(target_arch = "wasm32"))]
mod layer;
#[cfg(not(target_arch = "wasm32"))]
mod renewal;
mod renew;
#[cfg(not(target_arch = "wasm32"))]
mod state;
#[cfg(not(target_arch = "wasm32"))]
mod transport;

#[cfg(not(target_arch = "wasm32"))]
pub use self::{layer::ExpiryLayer, renewal::NoRenewal, transport::Expiring};
pub use self::renew::{Renew, RenewLayer};

/// The server asks for a new token. No body.
const ASK: u8 = 1;

/// The client gives one. The body is the token.
const TOKEN: u8 = 2;
