//! JSON-RPC 2.0 as the wire of calls. See [`JsonRpc`].

mod message;
mod protocol;

pub use self::{
    message::{JsonRpcError, JsonRpcRequest, code},
    protocol::JsonRpc,
};
