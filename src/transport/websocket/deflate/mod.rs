//! The extension permessage-deflate ([RFC 7692](https://www.rfc-editor.org/rfc/rfc7692)).

mod codec;
mod extensions;
mod negotiation;
mod prepared;

use std::{fmt, sync::Arc};

pub(super) use self::codec::PerMessage;
use self::negotiation::MIN_WINDOW_BITS;
use crate::{
    Error, Message,
    zlib::{Level, MAX_WINDOW_BITS},
};

/// The settings of permessage-deflate ([RFC 7692](https://www.rfc-editor.org/rfc/rfc7692)), the compression of
/// WebSocket messages that browsers and most WebSocket libraries support.
///
/// It is off unless it is given to an end, and is used only if the peer supports it, too:
///
/// | end | method |
/// |---|---|
/// | client | [`WebSocketConnector::per_message_deflate`](super::WebSocketConnector::per_message_deflate) |
/// | server | `per_message_deflate` of [`WebSocketService`](super::WebSocketService) and of the other servers |
///
/// [`WebSocket::extensions`](super::WebSocket::extensions) returns what was negotiated. Above the frames nothing
/// changes: messages go in and come out as without it.
///
/// ```no_run
/// # async fn connect() -> Result<(), tower_transport::BoxError> {
/// use tower::ServiceExt;
/// use tower_transport::transport::websocket::{PerMessageDeflate, WebSocketConnector, WebSocketService};
///
/// let server = WebSocketService::new(|_socket, _parts| async {}).per_message_deflate(PerMessageDeflate::new());
///
/// let connector = WebSocketConnector::new().per_message_deflate(PerMessageDeflate::new().min_size(1024));
/// let request = http::Request::get("ws://localhost:3000/feed").body(())?;
/// let socket = connector.oneshot(request).await?.into_body();
/// println!("negotiated: {:?}", socket.extensions());
/// # drop(server);
/// # Ok(()) }
/// ```
///
/// # Secrets
///
/// **The length of a compressed message reveals what its parts have in common**
/// ([CRIME](https://en.wikipedia.org/wiki/CRIME), [BREACH](https://www.breachattack.com/)). TLS does not hide lengths.
/// If somebody can observe them, do not compress a secret together with text that an attacker chooses: not in one
/// message and, with context takeover, not on one connection. [`compress_if`](Self::compress_if) keeps messages out.
/// RFC 7692 says the same in [section 8](https://www.rfc-editor.org/rfc/rfc7692#section-8).
///
/// # Which messages are compressed
///
/// A message is compressed if it has at least [`min_size`](Self::min_size) bytes and [`compress_if`](Self::compress_if)
/// does not object. It is sent uncompressed if it does not become smaller. Messages that
/// [`layer::compression`](crate::layer) has compressed are not compressed again. A message that many connections send
/// is compressed once if it is [prepared](Message::into_prepared).
///
/// # Compared with the compression layer
///
/// | | permessage-deflate | `layer::compression` |
/// |---|---|---|
/// | transports | WebSocket | all |
/// | the peer | browsers, every library with RFC 7692 | this crate, with the layer |
/// | agreed on | in the handshake | by the same configuration; `OptimizedTransport` negotiates it |
/// | position | below all layers, one per connection | where you put it, usually below a batch |
/// | messages that resume sends again | are compressed again | are kept compressed |
/// | text | stays text on the wire | is sent as a binary message |
/// | added to a message | nothing | 12 bytes |
/// | a bomb is detected | at the limit, while it is inflated | before it is inflated, by its length or ratio |
/// | a message over the limit | ends the connection (1009) | is one error of the stream |
///
/// Use the layer between two ends of this crate, and the extension for everyone else. A server of
/// [`OptimizedTransport`](crate::stack) does both if its upgrade has `per_message_deflate`: clients of this crate do
/// not offer the extension and negotiate the layer, while browsers and strangers get the extension. A client of this
/// crate that runs in a page offers both; what the layer has compressed is then sent as it is.
///
/// # Bounds against the peer
///
/// [`Limits::message`](crate::Limits::message) applies to a message as it is received and again while it is inflated,
/// always: a message that inflates to more ends the connection with 1009. Inflating it allocates at most the limit
/// and 64 KiB, next to the compressed message. Data that is not deflate ends the connection with 1002, and text that is
/// not UTF-8 with 1007.
///
/// # Cost
///
/// | per connection | with context takeover | without |
/// |---|---|---|
/// | to compress | 320 KiB with a window of 15 bits, 200 KiB with one of 9 | - |
/// | to inflate | 47 KiB | - |
///
/// A context is created for the first message that needs it, and lives as long as its connection. Without context
/// takeover the connections of a thread share one state of each kind, so an idle connection holds neither. Servers
/// therefore do not use context takeover unless they are told to. It makes small messages that resemble each other two
/// to three times smaller.
///
/// Messages are compressed in `start_send` and inflated in `poll_next`, in place.
#[derive(Clone)]
pub struct PerMessageDeflate {
    level: Level,
    min_size: usize,
    /// The default depends on the role.
    takes_over: Option<bool>,
    peer_takes_over: Option<bool>,
    window_bits: u8,
    peer_window_bits: u8,
    compress_if: Option<Arc<Predicate>>,
}

/// Whether a message is to be compressed.
type Predicate = dyn Fn(&Message) -> bool + Send + Sync;

impl PerMessageDeflate {
    /// Creates the default settings.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            level: Level::FASTEST,
            min_size: 256,
            takes_over: None,
            peer_takes_over: None,
            window_bits: MAX_WINDOW_BITS,
            peer_window_bits: MAX_WINDOW_BITS,
            compress_if: None,
        }
    }

    /// Sets the level. Defaults to [`Level::FASTEST`]. With [`Level::NONE`] this end only inflates.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Sets the size in bytes from which messages are compressed. Defaults to 256. An empty message is never
    /// compressed.
    #[must_use]
    pub fn min_size(mut self, bytes: usize) -> Self {
        self.min_size = bytes;
        self
    }

    /// Sets whether a message that this end sends may refer to earlier ones (`server_no_context_takeover` of a server,
    /// `client_no_context_takeover` of a client). Defaults to `false` on a server and to `true` on a client. The peer
    /// may forbid it.
    #[must_use]
    pub fn context_takeover(mut self, is_allowed: bool) -> Self {
        self.takes_over = Some(is_allowed);
        self
    }

    /// Sets whether a message of the peer may refer to earlier ones. Defaults to `false` on a server and to `true` on a
    /// client. A client fails the handshake if the server does not comply.
    #[must_use]
    pub fn peer_context_takeover(mut self, is_allowed: bool) -> Self {
        self.peer_takes_over = Some(is_allowed);
        self
    }

    /// Sets the largest window with which this end compresses, as a power of two in bytes (`server_max_window_bits` of
    /// a server, `client_max_window_bits` of a client). Defaults to 15, which is 32 KiB. The peer may ask for a smaller
    /// one.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if `bits` is not 9 to 15. RFC 7692 also
    /// allows 8, which zlib cannot use.
    pub fn max_window_bits(mut self, bits: u8) -> Result<Self, Error> {
        self.window_bits = checked(bits)?;
        Ok(self)
    }

    /// Sets the largest window with which the peer compresses, as [`max_window_bits`](Self::max_window_bits). Defaults
    /// to 15. A client fails the handshake if the server does not comply. A server cannot demand it of a client that
    /// has not offered `client_max_window_bits`. The memory of this end does not depend on it.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if `bits` is not 9 to 15.
    pub fn peer_max_window_bits(mut self, bits: u8) -> Result<Self, Error> {
        self.peer_window_bits = checked(bits)?;
        Ok(self)
    }

    /// Sends the messages uncompressed for which `wants` returns `false`: those with secrets, or those that are
    /// compressed already, such as images. It is called in `start_send` for each message of at least
    /// [`min_size`](Self::min_size) bytes.
    ///
    /// ```
    /// use tower_transport::{Message, transport::websocket::PerMessageDeflate};
    ///
    /// let only_text = PerMessageDeflate::new().compress_if(|message| matches!(message, Message::Text(_)));
    /// # drop(only_text);
    /// ```
    #[must_use]
    pub fn compress_if(mut self, wants: impl Fn(&Message) -> bool + Send + Sync + 'static) -> Self {
        self.compress_if = Some(Arc::new(wants));
        self
    }
}

fn checked(bits: u8) -> Result<u8, Error> {
    if (MIN_WINDOW_BITS..=MAX_WINDOW_BITS).contains(&bits) {
        return Ok(bits);
    }
    Err(Error::config(format!("a window of {bits} bits cannot be used: choose {MIN_WINDOW_BITS} to {MAX_WINDOW_BITS}")))
}

impl Default for PerMessageDeflate {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PerMessageDeflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerMessageDeflate")
            .field("level", &self.level)
            .field("min_size", &self.min_size)
            .field("context_takeover", &self.takes_over)
            .field("peer_context_takeover", &self.peer_takes_over)
            .field("max_window_bits", &self.window_bits)
            .field("peer_max_window_bits", &self.peer_window_bits)
            .finish_non_exhaustive()
    }
}
