//! The streams of the browser, below those of messages. Natively, `quic.rs` has types of the same names.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use js_sys::{Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{ReadableStream, WritableStream, WritableStreamDefaultWriter};

use super::{reader::PIECES, writer::Written};
use crate::{
    Error, rt,
    transport::{
        closing::linger,
        page::{StreamReader, forget},
        webtransport::{
            Session,
            page::{Datagrams, ended_stream, reset_with},
        },
    },
};

/// How long the end of a session is waited for, after one of its streams has failed because of it.
const END_WITHIN: Duration = Duration::from_millis(100);

/// The wait for the reason for which a session ended.
type Search = Pin<Box<dyn Future<Output = Error>>>;

/// Returns the error of a stream, or the wait for that of its session.
fn search(session: &Session, what: &'static str, thrown: &JsValue) -> Result<Search, Error> {
    if let Some(error) = ended_stream(what, thrown) {
        return Err(error);
    }
    let session = session.clone();
    Ok(Box::pin(async move {
        let end = rt::timeout(END_WITHIN, session.closed()).await;
        end.unwrap_or_else(|_| Error::closed("the session is closed"))
    }))
}

/// The sending half of a stream.
pub(crate) struct RawSend {
    session: Session,
    /// The writer's stream, which has its priority.
    stream: WritableStream,
    writer: WritableStreamDefaultWriter,
    /// The wait for room in the browser's buffer.
    ready: Option<JsFuture>,
    /// The wait for the end of the stream.
    closed: Option<JsFuture>,
    lost: Option<Search>,
    /// The bytes of the last write, which the browser may still have to send.
    last: usize,
}

impl RawSend {
    fn new(session: Session, stream: WritableStream) -> Result<Self, Error> {
        let writer = stream.get_writer().map_err(|_| Error::other("the browser's stream is locked"))?;
        // A writer whose end nobody awaits would be reported in the console.
        forget(writer.closed());
        forget(writer.ready());
        Ok(Self { session, stream, writer, ready: None, closed: None, lost: None, last: 0 })
    }

    /// Returns the room that the browser has, or `None` once the stream has failed.
    fn room(&self) -> Option<f64> {
        self.writer.desired_size().ok().flatten()
    }

    /// Passes all `chunks` to the browser in one piece, once it has room.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, chunks: &mut [Bytes]) -> Poll<Result<Written, Error>> {
        if let Some(lost) = &mut self.lost {
            let error = ready!(lost.as_mut().poll(cx));
            self.lost = None;
            return Poll::Ready(Err(error));
        }
        while self.room().is_none_or(|room| room <= 0.0) {
            let writer = &self.writer;
            let ready = self.ready.get_or_insert_with(|| writer.ready().into());
            let result = ready!(Pin::new(ready).poll(cx));
            self.ready = None;
            if let Err(thrown) = result {
                return match search(&self.session, "the peer no longer reads the stream", &thrown) {
                    Ok(lost) => {
                        self.lost = Some(lost);
                        self.poll_write(cx, chunks)
                    }
                    Err(error) => Poll::Ready(Err(error)),
                };
            }
        }
        self.ready = None;
        let bytes = chunks.iter().map(Bytes::len).sum();
        let array = Uint8Array::new_with_length(u32::try_from(bytes).unwrap_or(u32::MAX));
        let mut at = 0;
        for chunk in chunks.iter() {
            let end = at + chunk.len() as u32;
            array.subarray(at, end).copy_from(chunk);
            at = end;
        }
        forget(self.writer.write_with_chunk(&array));
        self.last = bytes;
        Poll::Ready(Ok(Written { bytes, chunks: chunks.len() }))
    }

    /// Ends the stream after everything that was written.
    pub(super) fn finish(&mut self) {
        forget(self.writer.close());
    }

    /// Drops undelivered data, and tells the peer `code`, if the browser can send it.
    pub(super) fn reset(&mut self, code: u32) {
        if self.room().is_some_and(|room| room <= 0.0) {
            self.session.note_reset();
        }
        forget(self.writer.abort_with_reason(&reset_with(code)));
    }

    pub(super) fn set_priority(&self, priority: i32) {
        // Has no effect in a browser that does not know the member.
        let _ = Reflect::set(&self.stream, &JsValue::from_str("sendOrder"), &JsValue::from(priority));
    }

    /// Waits until the browser has delivered the whole stream. Returns an error if the peer stops it.
    pub(super) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(lost) = &mut self.lost {
            return lost.as_mut().poll(cx).map(Err);
        }
        let writer = &self.writer;
        let closed = self.closed.get_or_insert_with(|| writer.closed().into());
        let result = ready!(Pin::new(closed).poll(cx));
        self.closed = None;
        let Err(thrown) = result else { return Poll::Ready(Ok(())) };
        match search(&self.session, "the peer no longer reads the stream", &thrown) {
            Ok(lost) => {
                self.lost = Some(lost);
                self.poll_stopped(cx)
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// The browser does not tell of progress within a write.
    #[allow(clippy::unused_self, reason = "the native stream has counts to look at")]
    pub(super) fn report_progress(&mut self) {}

    /// Returns how many of the written bytes the browser may still have to send.
    pub(super) fn unsent(&mut self) -> u64 {
        match self.room() {
            Some(room) if room <= 0.0 => self.last as u64,
            _ => 0,
        }
    }

    /// Keeps the session until the browser has delivered the whole stream, for `limit` at most.
    pub(super) async fn linger(self, limit: Duration) {
        let Self { session, writer, .. } = self;
        linger(limit, JsFuture::from(writer.closed()), || 0).await;
        drop(session);
    }
}

/// The receiving half of a stream.
pub(crate) struct RawReceive {
    session: Session,
    reader: StreamReader,
    lost: Option<Search>,
}

impl RawReceive {
    fn new(session: Session, stream: &ReadableStream) -> Self {
        Self { session, reader: StreamReader::new(stream), lost: None }
    }

    /// Receives a chunk into the front of `pieces`, and returns their number, or `None` at the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &mut [Bytes; PIECES],
    ) -> Poll<Result<Option<usize>, Error>> {
        if let Some(lost) = &mut self.lost {
            let error = ready!(lost.as_mut().poll(cx));
            self.lost = None;
            return Poll::Ready(Err(error));
        }
        let [piece, ..] = pieces;
        Poll::Ready(match ready!(self.reader.poll_next(cx)) {
            Ok(Some(chunk)) => {
                *piece = chunk.dyn_into::<Uint8Array>().map(|chunk| chunk.to_vec()).unwrap_or_default().into();
                Ok(Some(1))
            }
            Ok(None) => Ok(None),
            Err(thrown) => match search(&self.session, "the peer reset the stream", &thrown) {
                Ok(lost) => {
                    self.lost = Some(lost);
                    return self.poll_read(cx, pieces);
                }
                Err(error) => Err(error),
            },
        })
    }

    /// Tells the peer that this end stops reading, and why, if the browser can send the code.
    pub(super) fn stop(&mut self, code: u32) {
        self.reader.cancel(&reset_with(code));
    }
}

impl Session {
    /// Waits for a stream that this end opens.
    async fn opened(&self, stream: js_sys::Promise) -> Result<JsValue, Error> {
        match JsFuture::from(stream).await {
            Ok(stream) => Ok(stream),
            Err(_) => Err(rt::timeout(END_WITHIN, self.closed())
                .await
                .unwrap_or_else(|_| Error::closed("the browser opens no stream in this session"))),
        }
    }

    /// Takes the two halves of a bidirectional stream.
    fn halves(&self, stream: JsValue) -> Result<(RawSend, RawReceive), Error> {
        let stream: Datagrams = stream.unchecked_into();
        let send = RawSend::new(self.clone(), stream.writable())?;
        Ok((send, RawReceive::new(self.clone(), &stream.readable())))
    }

    pub(super) async fn open_bi_raw(&self) -> Result<(RawSend, RawReceive), Error> {
        self.halves(self.opened(self.raw().create_bidirectional()).await?)
    }

    pub(super) async fn accept_bi_raw(&self) -> Result<(RawSend, RawReceive), Error> {
        self.halves(self.next_bidirectional().await?)
    }

    pub(super) async fn open_uni_raw(&self) -> Result<RawSend, Error> {
        let stream = self.opened(self.raw().create_unidirectional()).await?;
        RawSend::new(self.clone(), stream.unchecked_into())
    }

    pub(super) async fn accept_uni_raw(&self) -> Result<RawReceive, Error> {
        Ok(RawReceive::new(self.clone(), &self.next_unidirectional().await?))
    }
}
