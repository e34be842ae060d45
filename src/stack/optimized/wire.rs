//! What stands below, on each connection: the layers whose state belongs to it, as far as both ends have agreed on them.

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

/// To a peer that knows us, batches, then compression, then the heartbeat next to the transport; to another the heartbeat alone. A
/// layer that is not agreed on sends nothing of its own, and opens nothing.
pub(super) type Wire<T> = Optional<Fit<Batched<Compressed<Heartbeat<T>>>>, Greeted<Heartbeat<T>>>;

/// The least that a peer is taken to accept, whatever it names: the messages that open and resume a session have to pass.
const LEAST: usize = 256;

/// What one end has on.
#[derive(Clone, Debug)]
pub(super) struct WireConfig {
    pub(super) batch: Option<BatchPolicy>,
    pub(super) compression: Option<CompressionLayer>,
    pub(super) heartbeat: Option<HeartbeatLayer>,
    pub(super) resume: bool,
    pub(super) trace_context: bool,
    /// The largest message that may come in, in bytes.
    pub(super) max_message: usize,
    /// How many bytes more the transport below takes. Zero where somebody else has made it.
    pub(super) headroom: usize,
}

impl WireConfig {
    /// What this end says of itself.
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

    /// What comes of the peer's hello.
    pub(super) fn agree(&self, theirs: Hello) -> Agreement {
        Agreement {
            capabilities: theirs.capabilities.and(self.hello().capabilities),
            theirs: Some(theirs),
            first: None,
        }
    }

    /// The layers of one connection.
    pub(super) fn layer<T>(&self, transport: T, agreement: Agreement) -> Wire<T> {
        let Agreement { capabilities: agreed, theirs, first } = agreement;
        let beating = self.heartbeat.clone().unwrap_or_else(never).layer(transport);
        let Some(hello) = theirs else { return Optional::Off { inner: Greeted::new(beating, first) } };
        let compression = self.compression.as_ref().filter(|_| agreed.compression());
        let compressed = match compression {
            Some(layer) => layer.with_context(agreed.compression_context()).layer(beating),
            None => CompressionLayer::off().layer(beating),
        };
        let batch = match self.batch.filter(|_| agreed.batch()) {
            Some(policy) => {
                // A batch has to pass both ends' limits.
                let policy = policy.within(self.max_message.min(hello.max_message as usize));
                BatchLayer::new(policy.with_alone_from(compression.map_or(usize::MAX, CompressionLayer::alone_from)))
            }
            None => BatchLayer::off(),
        };
        let most = (hello.max_message as usize).saturating_add(hello.headroom as usize).max(LEAST);
        Optional::On { inner: Fit::new(batch.layer(compressed), most) }
    }
}

/// What two ends have found out about each other.
pub(super) struct Agreement {
    /// What is on between them.
    pub(super) capabilities: Capabilities,
    /// What the peer said of itself; `None` where it does not know the subprotocol.
    theirs: Option<Hello>,
    /// What the peer sent in place of a hello.
    first: Option<Message>,
}

impl Agreement {
    /// With a peer that does not know the stack. `first` is what it has sent already.
    pub(super) const fn plain(first: Option<Message>) -> Self {
        Self { capabilities: Capabilities::NONE, theirs: None, first }
    }

    /// The largest message that the peer takes, in bytes, as far as it has said so.
    pub(super) fn max_message(&self) -> u32 {
        self.theirs.map_or(u32::MAX, |hello| hello.max_message)
    }
}

/// A heartbeat that no connection lives to see.
fn never() -> HeartbeatLayer {
    const FAR: Duration = Duration::from_secs(86_400 * 365 * 10);
    HeartbeatLayer::new(FAR, FAR)
}
