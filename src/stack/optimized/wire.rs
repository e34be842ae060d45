//! What stands below, on each connection: the layers whose state belongs to it, as far as both ends have agreed on them.

use std::time::Duration;

use tower_layer::Layer;

use crate::{
    Error, Message, Transport, TransportExt,
    layer::{
        batch::{BatchLayer, BatchPolicy, Batched},
        compression::{Compressed, CompressionLayer, Deflate},
        heartbeat::{Heartbeat, HeartbeatLayer},
    },
    rt,
    stack::optimized::fit::Fit,
    stack::{Capabilities, hello::Hello, optional::Optional},
};

/// To a peer that knows us, batches, then compression, then the heartbeat next to the transport; to another the heartbeat alone. A
/// layer that is not agreed on sends nothing of its own.
pub(super) type Wire<T> = Optional<Fit<Batched<Compressed<Heartbeat<T>>>>, Heartbeat<T>>;

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
    fn hello(&self) -> Hello {
        let capabilities = Capabilities::KNOWN
            .with_batch(self.batch.is_some())
            .with_compression(self.compression.is_some())
            .with_compression_context(self.compression.as_ref().is_some_and(CompressionLayer::keeps_context))
            .with_resume(self.resume)
            .with_trace_context(self.trace_context);
        let most = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
        Hello { capabilities, max_message: most(self.max_message), headroom: most(self.headroom) }
    }

    /// Finds out what is on with a peer whose handshake says whether it speaks the subprotocol. It has `limit` to say hello.
    pub(super) async fn agree<T>(&self, transport: &mut T, is_known: bool, limit: Duration) -> Result<Agreement, Error>
    where
        T: Transport<Message, In = Message, TransportError = Error> + Unpin,
    {
        if !is_known {
            return Ok(Agreement { capabilities: Capabilities::NONE, theirs: None });
        }
        let ours = self.hello();
        let theirs = rt::timeout(limit, exchange(transport, ours)).await.unwrap_or_else(|_| {
            Err(Error::timeout(format!("the peer did not say hello within {limit:?} (Limits::handshake)")))
        })?;
        Ok(Agreement { capabilities: theirs.capabilities.and(ours.capabilities), theirs: Some(theirs) })
    }

    /// The layers of one connection.
    pub(super) fn layer<T>(&self, transport: T, Agreement { capabilities: agreed, theirs }: Agreement) -> Wire<T> {
        let beating = self.heartbeat.clone().unwrap_or_else(never).layer(transport);
        let Some(hello) = theirs else { return Optional::Off { inner: beating } };
        let compression = self.compression.as_ref().filter(|_| agreed.compression());
        let compressed = match compression {
            Some(layer) => layer.with_context(agreed.compression_context()).layer(beating),
            None => CompressionLayer::new(Deflate::new().receive_only()).layer(beating),
        };
        let batch = match self.batch.filter(|_| agreed.batch()) {
            Some(policy) => BatchLayer::new(policy.within(hello.max_message as usize)),
            None => BatchLayer::off(),
        };
        let most = (hello.max_message as usize).saturating_add(hello.headroom as usize);
        Optional::On { inner: Fit::new(batch.layer(compressed), most) }
    }
}

/// What two ends have found out about each other.
#[derive(Clone, Copy)]
pub(super) struct Agreement {
    /// What is on between them.
    pub(super) capabilities: Capabilities,
    /// What the peer said of itself; `None` where it does not know the subprotocol.
    theirs: Option<Hello>,
}

/// A heartbeat that no connection lives to see.
fn never() -> HeartbeatLayer {
    const FAR: Duration = Duration::from_secs(86_400 * 365 * 10);
    HeartbeatLayer::new(FAR, FAR)
}

/// Tells the peer what this end can do, and hears what the peer can.
async fn exchange<T>(transport: &mut T, ours: Hello) -> Result<Hello, Error>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    /// How many control messages may come before the peer's hello.
    const PINGS: usize = 16;

    transport.send_message(ours.encode()).await?;
    for _ in 0..=PINGS {
        match transport.receive_message().await.transpose()? {
            Some(Message::Ping(_) | Message::Pong(_)) => {}
            Some(Message::Close(frame)) => {
                return Err(Error::closed("the peer closed before it said hello").with_close_frame(frame));
            }
            Some(message) => return Hello::decode(message),
            None => break,
        }
    }
    Err(Error::closed("the connection ended before the peer said hello"))
}
