use std::{
    cell::{Cell, OnceCell},
    fmt,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use futures_util::{FutureExt, future::Shared, lock::Mutex};
use js_sys::Object;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{ReadableStream, WritableStreamDefaultWriter};

use super::WebTransport;
use crate::{
    CloseFrame, Error, Limits,
    rt::{self, property},
    transport::{
        drain::Member,
        page::{StreamReader, forget, object},
        webtransport::closed::closed_by_peer,
    },
};

/// A WebTransport session of a page: one QUIC connection, with any number of streams in it. A clone is the same
/// session.
///
/// [`WebTransportConnector::connect_session`](super::WebTransportConnector::connect_session) creates one; each
/// [`WebTransportStream`](crate::transport::webtransport::WebTransportStream) has
/// [its session](crate::transport::webtransport::WebTransportStream::session).
///
/// # The end
///
/// A session ends when either end calls [`close`](Self::close) with a code and a reason, when the connection is lost,
/// or when the last handle to it is dropped: its clones, and the streams in it. Every stream in it then ends with an
/// error for which [`is_closed`](Error::is_closed) is true and which carries the peer's close frame, if there is one.
///
/// # Close codes
///
/// A close code of WebTransport has 32 bits. Codes of this crate are sent unchanged (4001 is 4001), and received codes
/// that a [`CloseFrame`] can represent arrive as one. Others are named in the error's text.
#[derive(Clone)]
pub struct Session(Rc<Inner>);

struct Inner {
    raw: WebTransport,
    limits: Limits,
    subprotocol: Option<Box<str>>,
    ended: Ended,
    bidirectional: Mutex<StreamReader>,
    unidirectional: Mutex<StreamReader>,
    datagrams: Mutex<StreamReader>,
    datagram_writer: OnceCell<Result<WritableStreamDefaultWriter, JsValue>>,
    /// Whether a stream was reset in the middle of a write.
    has_reset: Cell<bool>,
}

/// The end of a session, for everybody who waits for it.
#[derive(Clone)]
pub(super) struct Ended {
    wait: Shared<Pin<Box<dyn Future<Output = Error>>>>,
    known: Rc<OnceCell<Error>>,
    is_closed_here: Rc<OnceCell<()>>,
}

impl Ended {
    /// Begins to wait in a task, so that the end is known to those who do not wait.
    pub(super) fn of(raw: &WebTransport) -> Self {
        let (known, is_closed_here) = (Rc::new(OnceCell::new()), Rc::new(OnceCell::new()));
        let (closed, is_ours, at_once) = (JsFuture::from(raw.closed()), is_closed_here.clone(), known.clone());
        let wait: Pin<Box<dyn Future<Output = Error>>> = Box::pin(async move {
            let error = match closed.await {
                Ok(_) if is_ours.get().is_some() => Error::closed("the session is closed"),
                Ok(info) => {
                    let code = property(&info, "closeCode").and_then(|code| code.as_f64()).unwrap_or_default();
                    let reason = property(&info, "reason").and_then(|reason| reason.as_string()).unwrap_or_default();
                    closed_by_peer("the peer closed the session", code as u32, &reason)
                }
                Err(_) => Error::closed("the session was lost; the browser does not tell a page why"),
            };
            at_once.get_or_init(|| error).clone()
        });
        let wait = wait.shared();
        rt::detach(wait.clone());
        Self { wait, known, is_closed_here }
    }
}

impl Session {
    pub(super) fn new(raw: WebTransport, ended: Ended, limits: Limits) -> Self {
        // A browser that does not know subprotocols has no such member.
        let chosen = property(&raw, "protocol").and_then(|chosen| chosen.as_string());
        let subprotocol = chosen.filter(|chosen| !chosen.is_empty()).map(String::into_boxed_str);
        let bidirectional = Mutex::new(StreamReader::new(&raw.incoming_bidirectional()));
        let unidirectional = Mutex::new(StreamReader::new(&raw.incoming_unidirectional()));
        let datagrams = Mutex::new(StreamReader::new(&raw.datagrams().readable()));
        let datagram_writer = OnceCell::new();
        Self(Rc::new(Inner {
            raw,
            limits,
            subprotocol,
            ended,
            bidirectional,
            unidirectional,
            datagrams,
            datagram_writer,
            has_reset: Cell::new(false),
        }))
    }

    /// Returns the browser's object.
    pub(crate) fn raw(&self) -> &WebTransport {
        &self.0.raw
    }

    /// Returns nothing: a page is not a server, and no drain ends its streams.
    #[allow(clippy::unused_self, reason = "natively, the session knows")]
    pub(crate) fn member(&self) -> Option<Member> {
        None
    }

    /// Returns the limits of each stream.
    pub(crate) fn limits(&self) -> Limits {
        self.0.limits
    }

    /// Returns the subprotocol that was negotiated in the handshake.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.0.subprotocol.as_deref()
    }

    /// Closes the session, and all streams in it, with a code and a reason. Undelivered messages of streams may be
    /// lost; close the streams first if that matters. Only the first close counts.
    ///
    /// It returns immediately. A page that is left at once may take the close with it.
    pub fn close(&self, frame: CloseFrame) {
        if self.0.ended.known.get().is_none() {
            let _ = self.0.ended.is_closed_here.set(());
        }
        let code = JsValue::from(frame.code().get());
        self.0.close(object(&[("closeCode", code), ("reason", JsValue::from_str(frame.reason()))]));
    }

    /// Records that a stream was reset in the middle of a write.
    pub(crate) fn note_reset(&self) {
        self.0.has_reset.set(true);
    }

    /// Returns whether this end closed the session while it was open.
    pub(crate) fn is_closed_here(&self) -> bool {
        self.0.ended.is_closed_here.get().is_some()
    }

    /// Returns the error of a session that is over.
    pub(crate) fn end(&self) -> Option<Error> {
        match self.0.ended.known.get() {
            None if self.is_closed_here() => Some(Error::closed("the session is closed")),
            known => known.cloned(),
        }
    }

    /// Waits for the end of the session, and returns the reason: an error for which [`is_closed`](Error::is_closed) is
    /// true, with the [close frame](Error::close_frame) of the peer if it sent one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect: it only observes.
    pub async fn closed(&self) -> Error {
        self.0.ended.wait.clone().await
    }

    /// Returns the next bidirectional stream of the peer.
    pub(crate) async fn next_bidirectional(&self) -> Result<JsValue, Error> {
        self.next(&self.0.bidirectional).await
    }

    /// Returns the next unidirectional stream of the peer.
    pub(crate) async fn next_unidirectional(&self) -> Result<ReadableStream, Error> {
        self.next(&self.0.unidirectional).await.map(JsCast::unchecked_into)
    }

    /// Returns the next datagram of the peer.
    pub(crate) async fn next_datagram(&self) -> Result<JsValue, Error> {
        self.next(&self.0.datagrams).await
    }

    /// The browser has one reader for each, and a read that is dropped here goes on there: what it brings is kept for
    /// the next one.
    async fn next(&self, reader: &Mutex<StreamReader>) -> Result<JsValue, Error> {
        let mut reader = reader.lock().await;
        match poll_fn(|cx| reader.poll_next(cx)).await {
            Ok(Some(item)) => Ok(item),
            Ok(None) | Err(_) => Err(self.closed().await),
        }
    }

    /// Returns the writer of datagrams, which all handles share.
    pub(crate) fn datagram_writer(&self) -> Option<&WritableStreamDefaultWriter> {
        let writer = self.0.datagram_writer.get_or_init(|| {
            let datagrams = self.0.raw.datagrams();
            // Newer drafts have a stream for each sender.
            let stream = match property(&datagrams, "createWritable") {
                Some(method) if method.is_function() => datagrams.create_writable(),
                _ => datagrams.writable(),
            };
            // Promises whose failure nobody handles would be reported in the console.
            stream.get_writer().inspect(|writer| {
                forget(writer.closed());
                forget(writer.ready());
            })
        });
        writer.as_ref().ok()
    }
}

impl Drop for Inner {
    /// The browser would keep the session as long as the page lives.
    fn drop(&mut self) {
        let _ = self.ended.is_closed_here.set(());
        self.close(object(&[]));
    }
}

impl Inner {
    fn close(&self, info: Object) {
        if !self.has_reset.get() {
            // Without effect if it is closed.
            let _ = self.raw.close(&info);
            return;
        }
        // In a task of its own: Chromium crashes a page that closes a session at once after it has reset a stream in
        // the middle of a write.
        let raw = self.raw.clone();
        rt::detach(async move {
            rt::sleep(Duration::ZERO).await;
            let _ = raw.close(&info);
        });
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("subprotocol", &self.subprotocol()).finish_non_exhaustive()
    }
}
