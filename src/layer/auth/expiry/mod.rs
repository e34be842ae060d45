//! Sessions that do not outlive their token.

mod layer;
mod lifetime;
mod transport;

pub use self::{
    layer::{ExpiryLayer, NoRenewal},
    transport::Expiring,
};
