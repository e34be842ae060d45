use std::time::Duration;

use tower_layer::Layer;

use super::{CustomHeartbeatLayer, Heartbeat, Monitor, pings::ProtocolPings, watchdog::Watchdog, wire::Form};
use crate::MessageStream;

/// Detects a dead peer, and measures the round-trip time. See the [module](super) for the complete documentation.
#[derive(Clone, Debug)]
pub struct HeartbeatLayer {
    interval: Duration,
    timeout: Duration,
    watches: bool,
    form: Form,
    answers_pings: bool,
    has_marks: bool,
    monitor: Option<Monitor>,
}

impl HeartbeatLayer {
    /// Creates a layer that sends a ping if nothing arrives for `interval`, and ends the transport if nothing arrives
    /// within `timeout` of it. Both are at least 1 ms.
    ///
    /// A dead peer is detected within the sum of the two.
    #[must_use]
    pub const fn new(interval: Duration, timeout: Duration) -> Self {
        Self {
            interval,
            timeout,
            watches: true,
            form: Form::Control,
            answers_pings: false,
            has_marks: false,
            monitor: None,
        }
    }

    /// Creates a layer that sends no pings and does not watch for silence. It answers the pings of a peer that has this
    /// layer: see [`answer_application_level`](Self::answer_application_level) and
    /// [`answer_pings`](Self::answer_pings).
    #[must_use]
    pub const fn answer_only() -> Self {
        let mut layer = Self::new(Duration::MAX, Duration::MAX);
        layer.watches = false;
        layer
    }

    /// Sends pings as marked binary messages instead of [`Message::Ping`](crate::Message::Ping), for transports without
    /// control messages or without access to them, as in a browser.
    ///
    /// The peer must have this layer, in this mode or with
    /// [`answer_application_level`](Self::answer_application_level). Any other peer receives an unexpected binary
    /// message of 16 bytes.
    #[must_use]
    pub const fn application_level(mut self) -> Self {
        self.form = Form::Binary;
        self.answer_application_level()
    }

    /// Answers the pings of a peer in [application-level](Self::application_level) mode, whatever the mode of this end.
    /// They are marked binary messages.
    ///
    /// The peer must have this layer. Without this setting, a binary message that ends like such a ping is data and
    /// passes unchanged in either direction, so that a peer without this crate gets its own bytes back.
    #[must_use]
    pub const fn answer_application_level(mut self) -> Self {
        self.has_marks = true;
        self
    }

    /// Returns the same layer for a peer that does not know marks.
    #[cfg(feature = "optimized")]
    pub(crate) const fn plain(mut self) -> Self {
        self.form = Form::Control;
        self.has_marks = false;
        self
    }

    /// Answers each incoming [`Message::Ping`](crate::Message::Ping), for transports that do not, such as a
    /// [`channel`](crate::channel()). WebSockets answer on their own.
    #[must_use]
    pub const fn answer_pings(mut self) -> Self {
        self.answers_pings = true;
        self
    }

    /// Reports the round-trip times of all transports of this layer to `monitor`. By default each transport has a
    /// monitor of its own.
    #[must_use]
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.monitor = Some(monitor);
        self
    }
}

impl HeartbeatLayer {
    /// Uses messages of your own, for protocols with an application heartbeat (`{"op":"ping"}`). `ping` makes the ping
    /// of a number, which counts from 1. `is_answer` tells the peer's answers from its other messages. See
    /// [`CustomHeartbeatLayer`].
    ///
    /// The times and the [monitor](Self::monitor) are kept. [`application_level`](Self::application_level) and
    /// [`answer_pings`](Self::answer_pings) have no effect on it.
    #[must_use]
    pub fn custom<Out, In, P, A>(self, ping: P, is_answer: A) -> CustomHeartbeatLayer<P, A>
    where
        P: FnMut(u32) -> Out,
        A: FnMut(&In) -> bool,
    {
        CustomHeartbeatLayer::new(self.interval, self.timeout, self.monitor, ping, is_answer)
    }
}

impl Default for HeartbeatLayer {
    /// Returns a layer with an interval of 20 s and a timeout of 20 s.
    fn default() -> Self {
        Self::new(Duration::from_secs(20), Duration::from_secs(20))
    }
}

impl<T: MessageStream> Layer<T> for HeartbeatLayer {
    type Service = Heartbeat<T>;

    fn layer(&self, inner: T) -> Heartbeat<T> {
        let monitor = self.monitor.clone().unwrap_or_default();
        let mut watchdog = Watchdog::new(self.interval, self.timeout, false, monitor);
        if !self.watches {
            watchdog.silence.ignore();
        }
        Heartbeat::new(inner, ProtocolPings::new(self.form, self.answers_pings, self.has_marks), watchdog)
    }
}
