//! Ready-made stacks as single types, for programs that do not need to compose layers.
//!
//! | type | description |
//! |---|---|
//! | `OptimizedTransport` (feature `optimized`) | the recommended stack on either end, negotiated with the peer |
//! | `AdaptiveConnector` (feature `adaptive`) | WebTransport, then WebSocket, then SSE + POST, below that stack |
//! | `WebSocketContext` (feature `context`) | a simple client on top of `OptimizedTransport` |
//! | `Pool` (feature `pool`) | connections to one target, shared by many calls |
//!
//! In a page (`wasm32`) there are the client's end of `OptimizedTransport`, `AdaptiveConnector`, and
//! `WebSocketContext`.

#[cfg(feature = "adaptive")]
#[cfg_attr(docsrs, doc(cfg(feature = "adaptive")))]
pub mod adaptive;
#[cfg(feature = "context")]
#[cfg_attr(docsrs, doc(cfg(feature = "context")))]
pub mod context;
#[cfg(feature = "optimized")]
mod hello;
#[cfg(feature = "optimized")]
#[cfg_attr(docsrs, doc(cfg(feature = "optimized")))]
pub mod optimized;
#[cfg(all(feature = "pool", not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(feature = "pool")))]
pub mod pool;
#[cfg(feature = "optimized")]
mod unusable;

#[cfg(feature = "adaptive")]
#[cfg_attr(docsrs, doc(cfg(feature = "adaptive")))]
pub use self::adaptive::{AdaptiveConnector, AdaptiveTransport, Endpoints, TransportKind};
#[cfg(feature = "context")]
#[cfg_attr(docsrs, doc(cfg(feature = "context")))]
pub use self::context::WebSocketContext;
#[cfg(all(feature = "optimized", not(target_arch = "wasm32")))]
pub use self::optimized::OptimizedAcceptor;
#[cfg(feature = "optimized")]
#[cfg_attr(docsrs, doc(cfg(feature = "optimized")))]
pub use self::{
    hello::Capabilities,
    optimized::{OptimizedBuilder, OptimizedHandle, OptimizedTransport},
};
