//! JSON-RPC 2.0 as the wire of calls. See [`JsonRpc`].

mod batch;
#[cfg(not(target_arch = "wasm32"))]
mod content_length;
mod incoming_text;
mod message;
mod protocol;
mod state;
mod text;

#[cfg(not(target_arch = "wasm32"))]
pub use self::content_length::ContentLength;
pub use self::{
    message::{JsonRpcError, JsonRpcRequest, code},
    protocol::JsonRpc,
};
