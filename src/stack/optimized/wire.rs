//! The layers below the reconnect layer, on each connection: their state belongs to the connection, and they are used
//! as far as both ends have agreed on them.

use std::time::Duration;

use tower_layer::Layer;

use super::{fit::Fit, greeted::Greeted};
use crate::{
    Message,
    layer::{
        batch::{BatchLayer, BatchPolicy, Batched},
        compression::{Compressed, CompressionLayer},
        heartbeat::{Heartbeat, HeartbeatLayer},
    },
    stack::{Capabilities, hello::Hello, optional::Optional},
};

/// To a peer that knows the stack: batch, then compression, then the heartbeat next to the transport. To any other
/// peer: the heartbeat alone. A layer that is not agreed on sends nothing of its own and decodes nothing.
pub(super) type Wire<T> = Optional<Fit<Batched<Compressed<Heartbeat<T>>>>, Greeted<Heartbeat<T>>>;

/// The minimum that a peer is assumed to accept, whatever it announces: the messages that open and resume a session
/// must pass.
const LEAST: usize = 256;

/// The features that one end has on.
#[derive(Clone, Debug)]
pub(super) struct WireConfig {
    pub(super) batch: Option<BatchPolicy>,
    pub(super) compression: Option<CompressionLayer>,
    pub(super) heartbeat: Option<HeartbeatLayer>,
    pub(super) resume: bool,
    pub(super) trace_context: bool,
    /// The largest message that may come in, in bytes.
    pub(super) max_message: usize,
    /// The number of additional bytes that the transport below accepts. Zero if the transport was created elsewhere.
    pub(super) headroom: usize,
}

impl WireConfig {
    /// Returns the hello of this end.
    pub(super) fn hello(&self) -> Hello {
        let capabilities = Capabilities::KNOWN
            .with_batch(self.batch.is_some())
            .with_compression(self.compression.is_some())
            .with_compression_context(self.compression.as_ref().is_some_and(CompressionLayer::keeps_context))
            .with_resume(self.resume)
            .with_trace_context(self.trace_context);
        let most = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
        Hello { capabilities, max_message: most(self.max_message), headroom: most(self.headroom) }
    }

    /// Combines this end's hello with the peer's into an agreement.
    pub(super) fn agree(&self, theirs: Hello) -> Agreement {
        Agreement {
            capabilities: theirs.capabilities.and(self.hello().capabilities),
            theirs: Some(theirs),
            first: None,
        }
    }

    /// Adds the layers of one connection.
    pub(super) fn layer<T>(&self, transport: T, agreement: Agreement) -> Wire<T> {
        let Agreement { capabilities: agreed, theirs, first } = agreement;
        let heartbeat = self.heartbeat.clone().unwrap_or_else(never);
        let Some(hello) = theirs else {
            // A stranger's binary messages are data, whatever they end in.
            return Optional::Off { inner: Greeted::new(heartbeat.plain().layer(transport), first) };
        };
        let beating = heartbeat.answer_application_level().layer(transport);
        let compression = self.compression.as_ref().filter(|_| agreed.compression());
        let compressed = match compression {
            Some(layer) => layer.with_context(agreed.compression_context()).layer(beating),
            None => CompressionLayer::off().layer(beating),
        };
        let batch = match self.batch.filter(|_| agreed.batch()) {
            Some(policy) => {
                // A batch must pass both ends' limits.
                let policy = policy.within(self.max_message.min(hello.max_message as usize));
                BatchLayer::new(policy.with_alone_from(compression.map_or(usize::MAX, CompressionLayer::alone_from)))
            }
            None => BatchLayer::off(),
        };
        let most = (hello.max_message as usize).saturating_add(hello.headroom as usize).max(LEAST);
        Optional::On { inner: Fit::new(batch.layer(compressed), most, (agreed, hello.max_message)) }
    }
}

/// The result of the exchange of hellos.
pub(super) struct Agreement {
    /// The capabilities that both ends have on.
    pub(super) capabilities: Capabilities,
    /// The peer's hello. `None` if the peer does not know the subprotocol.
    theirs: Option<Hello>,
    /// The message that the peer sent in place of a hello.
    first: Option<Message>,
}

impl Agreement {
    /// Creates the agreement with a peer that does not know the stack. `first` is the message that it has already sent.
    pub(super) const fn plain(first: Option<Message>) -> Self {
        Self { capabilities: Capabilities::NONE, theirs: None, first }
    }

    /// Returns the largest message that the peer accepts, in bytes, as far as it has announced one.
    pub(super) fn max_message(&self) -> u32 {
        self.theirs.map_or(u32::MAX, |hello| hello.max_message)
    }
}

/// A heartbeat that never fires within the life of a connection.
fn never() -> HeartbeatLayer {
    const FAR: Duration = Duration::from_secs(86_400 * 365 * 10);
    HeartbeatLayer::new(FAR, FAR)
}
