//! Ready-made stacks as single types, for programs that do not need to compose layers.
//!
//! | type | description |
//! |---|---|
//! | `OptimizedTransport` (feature `optimized`) | the recommended stack on either end, negotiated with the peer |
//! | `AdaptiveConnector` (feature `adaptive`) | WebTransport, then WebSocket, then SSE + POST, below that stack |
//! | `WebSocketContext` (feature `context`) | a simple client on top of `OptimizedTransport` |
//! | `Pool` (feature `pool`) | connections to one target, shared by many calls |

#[cfg(feature = "adaptive")]
#[cfg_attr(docsrs, doc(cfg(feature = "adaptive")))]
pub mod adaptive;
#[cfg(feature = "optimized")]
mod capabilities;
#[cfg(feature = "context")]
#[cfg_attr(docsrs, doc(cfg(feature = "context")))]
pub mod context;
#[cfg(feature = "optimized")]
mod hello;
#[cfg(feature = "optimized")]
#[cfg_attr(docsrs, doc(cfg(feature = "optimized")))]
pub mod optimized;
#[cfg(feature = "pool")]
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
#[cfg(feature = "optimized")]
#[cfg_attr(docsrs, doc(cfg(feature = "optimized")))]
pub use self::{
    capabilities::Capabilities,
    optimized::{OptimizedAcceptor, OptimizedBuilder, OptimizedHandle, OptimizedTransport},
};
