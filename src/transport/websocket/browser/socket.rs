use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{BinaryType, CloseEvent, Event, MessageEvent};

use crate::{
    CloseCode, CloseFrame, Error, Limits, Message,
    rt::Turn,
    transport::{page::text, wakers::Half},
};

/// The memory that a queued message takes besides its payload, rounded up.
const ENTRY: usize = 64;

/// The events that are listened to. Each has the listener of its number.
const EVENTS: [(&str, Listener); 4] =
    [("message", Listener::Message), ("open", Listener::Other), ("close", Listener::Other), ("error", Listener::Other)];

#[derive(Clone, Copy)]
enum Listener {
    Message,
    Other,
}

/// The browser's object with its listeners, which put events into a queue until they are polled. Dropping it detaches
/// the listeners and closes the connection.
pub(super) struct Socket {
    raw: web_sys::WebSocket,
    events: Rc<RefCell<Events>>,
    on_message: Closure<dyn FnMut(MessageEvent)>,
    on_other: Closure<dyn FnMut(Event)>,
    is_detached: bool,
    reading: Turn,
    writing: Turn,
}

/// The events that nobody has polled yet.
struct Events {
    messages: VecDeque<Message>,
    /// The memory that `messages` take.
    bytes: usize,
    /// The bound of `bytes`. One message may exceed it.
    max_bytes: usize,
    max_message: usize,
    is_open: bool,
    /// The failure after which no message is taken any more.
    fault: Option<Error>,
    ended: Option<End>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The content of a close event.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) code: u16,
    pub(super) reason: String,
}

impl End {
    /// Returns whether a close frame of the peer has arrived. A server may drop the connection right behind it, as a
    /// handler does that returns: the browser calls such an end unclean, and its code is still the frame's.
    pub(super) fn is_close(&self) -> bool {
        /// The browser's number for a connection that ended without a close frame.
        const ABNORMAL: u16 = 1006;

        self.code != ABNORMAL
    }

    /// Returns the peer's close frame, if there is one and its code may be sent.
    pub(super) fn frame(&self) -> Option<CloseFrame> {
        CloseCode::new(self.code).map(|code| CloseFrame::new(code, self.reason.as_str()))
    }
}

impl Socket {
    /// Begins to connect.
    pub(super) fn connect(url: &str, subprotocols: &[&str], limits: &Limits, max_bytes: usize) -> Result<Self, Error> {
        let subprotocols: js_sys::Array = subprotocols.iter().map(|name| JsValue::from_str(name)).collect();
        // Thrown before anything is sent: for a URL, for a subprotocol, and for `ws://` from a page of `https://`.
        let raw = web_sys::WebSocket::new_with_str_sequence(url, &subprotocols)
            .map_err(|thrown| Error::config(format!("the browser refuses to connect: {}", text(&thrown))))?;
        raw.set_binary_type(BinaryType::Arraybuffer);
        let events = Rc::new(RefCell::new(Events {
            messages: VecDeque::new(),
            bytes: 0,
            max_bytes,
            max_message: limits.message,
            is_open: false,
            fault: None,
            ended: None,
            reader: None,
            writer: None,
        }));
        let on_message = Closure::new({
            let (events, raw) = (events.clone(), raw.clone());
            move |event: MessageEvent| {
                let waker = {
                    let mut events = events.borrow_mut();
                    if events.fault.is_some() {
                        return;
                    }
                    if let Err(fault) = events.push(&event.data()) {
                        events.fault = Some(fault);
                        // A page cannot say why: 1009 and 1013 are not for it to send.
                        let _ = raw.close();
                    }
                    events.reader.take()
                };
                // The executor's code runs while nothing is borrowed.
                waker.into_iter().for_each(Waker::wake);
            }
        });
        let on_other = Closure::new({
            let events = events.clone();
            move |event: Event| {
                let wakers = {
                    let mut events = events.borrow_mut();
                    match event.dyn_ref::<CloseEvent>() {
                        Some(close) => {
                            let (code, reason) = (close.code(), close.reason());
                            events.ended = Some(End { code, reason });
                        }
                        // An error is followed by a close, and says nothing.
                        None => events.is_open |= event.type_() == "open",
                    }
                    [events.reader.take(), events.writer.take()]
                };
                wakers.into_iter().flatten().for_each(Waker::wake);
            }
        });
        let (reading, writing) = (Turn::new(), Turn::new());
        let socket = Self { raw, events, on_message, on_other, is_detached: false, reading, writing };
        for (event, listener) in EVENTS {
            // It fails for objects that are no event target.
            let _ = socket.raw.add_event_listener_with_callback(event, socket.listener(listener));
        }
        Ok(socket)
    }

    fn listener(&self, listener: Listener) -> &js_sys::Function {
        match listener {
            Listener::Message => self.on_message.as_ref().unchecked_ref(),
            Listener::Other => self.on_other.as_ref().unchecked_ref(),
        }
    }

    /// Returns `Ready` once the connection is open, with the close event if it did not open.
    pub(super) fn poll_open(&self, cx: &Context<'_>) -> Poll<Result<(), End>> {
        let opened = {
            let events = self.events.borrow();
            if events.is_open { Some(Ok(())) } else { events.ended.clone().map(Err) }
        };
        if opened.is_none() {
            self.register(Half::Reader, cx);
        }
        opened.map_or(Poll::Pending, Poll::Ready)
    }

    /// Returns the next message.
    ///
    /// # Errors
    ///
    /// Once all messages were returned: the failure of this end, or how the connection ended.
    pub(super) fn poll_event(&self, cx: &Context<'_>) -> Poll<Result<Message, Result<Error, End>>> {
        if !self.events.borrow().messages.is_empty() {
            ready!(self.reading.poll(cx));
        }
        {
            let mut events = self.events.borrow_mut();
            if let Some(message) = events.messages.pop_front() {
                events.bytes -= message.len() + ENTRY;
                return Poll::Ready(Ok(message));
            }
            if let Some(fault) = &events.fault {
                return Poll::Ready(Err(Ok(fault.clone())));
            }
            if let Some(end) = &events.ended {
                return Poll::Ready(Err(Err(end.clone())));
            }
        }
        self.register(Half::Reader, cx);
        Poll::Pending
    }

    /// Returns `Ready` if a message may be sent in this turn of the page.
    pub(super) fn poll_turn(&self, cx: &Context<'_>) -> Poll<()> {
        self.writing.poll(cx)
    }

    /// Registers a task for messages (the reader) or for the end of the connection (both).
    pub(super) fn register(&self, half: Half, cx: &Context<'_>) {
        if self.events.borrow_mut().waker(half).as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return;
        }
        // The executor's code runs while nothing is borrowed.
        let waker = cx.waker().clone();
        let replaced = self.events.borrow_mut().waker(half).replace(waker);
        drop(replaced);
    }

    pub(super) fn wake(&self, half: Half) {
        let waker = self.events.borrow_mut().waker(half).take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Returns how the connection ended, also while messages wait to be read.
    pub(super) fn end(&self) -> Option<End> {
        self.events.borrow().ended.clone()
    }

    /// Returns whether a message can be sent. A browser takes messages in other states, too, and drops them.
    pub(super) fn is_open(&self) -> bool {
        self.raw.ready_state() == web_sys::WebSocket::OPEN
    }

    /// Returns the bytes of payload that the browser has not passed to the network.
    pub(super) fn buffered(&self) -> u64 {
        u64::from(self.raw.buffered_amount())
    }

    pub(super) fn subprotocol(&self) -> Option<Box<str>> {
        let subprotocol = self.raw.protocol();
        (!subprotocol.is_empty()).then(|| subprotocol.into())
    }

    pub(super) fn send(&self, message: &Message) -> Result<(), Error> {
        let sent = match message {
            Message::Text(text) => self.raw.send_with_str(text),
            message => self.raw.send_with_u8_array(message.as_bytes()),
        };
        sent.map_err(|thrown| Error::other(format!("the browser does not send the message: {}", text(&thrown))))
    }

    /// Begins the closing handshake. A frame whose code a page may not send is left out.
    pub(super) fn close(&self, frame: Option<&CloseFrame>) {
        let closed = match frame {
            Some(frame) if matches!(frame.code().get(), 1000 | 3000..) => {
                self.raw.close_with_code_and_reason(frame.code().get(), frame.reason())
            }
            _ => self.raw.close(),
        };
        // It fails for a code or a reason that cannot be sent, which a frame does not have.
        debug_assert!(closed.is_ok());
    }

    /// Closes the connection, and hears of it no more.
    pub(super) fn detach(&mut self) {
        if std::mem::replace(&mut self.is_detached, true) {
            return;
        }
        for (event, listener) in EVENTS {
            let _ = self.raw.remove_event_listener_with_callback(event, self.listener(listener));
        }
        // Without effect if it is closing or closed.
        let _ = self.raw.close();
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.detach();
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("ready_state", &self.raw.ready_state()).finish_non_exhaustive()
    }
}

impl Events {
    fn waker(&mut self, half: Half) -> &mut Option<Waker> {
        match half {
            Half::Reader => &mut self.reader,
            Half::Writer => &mut self.writer,
        }
    }

    /// Queues the data of a message event.
    fn push(&mut self, data: &JsValue) -> Result<(), Error> {
        let message = match data.dyn_ref::<ArrayBuffer>() {
            Some(buffer) => {
                self.check_size(buffer.byte_length() as usize)?;
                Message::binary(Uint8Array::new(buffer).to_vec())
            }
            None => {
                let text = data.as_string().unwrap_or_default();
                self.check_size(text.len())?;
                Message::text(text)
            }
        };
        let (waiting, max_bytes) = (self.bytes, self.max_bytes);
        if !self.messages.is_empty() && waiting.saturating_add(message.len() + ENTRY) > max_bytes {
            return Err(Error::full(format!(
                "the page reads too slowly: {waiting} bytes in {} messages wait, and the next would exceed \
                 {max_bytes} (WebSocketConnector::incoming_bytes); a page cannot slow its peer down",
                self.messages.len()
            ))
            .into_fatal());
        }
        self.bytes += message.len() + ENTRY;
        self.messages.push_back(message);
        Ok(())
    }

    fn check_size(&self, size: usize) -> Result<(), Error> {
        let max = self.max_message;
        if size <= max {
            return Ok(());
        }
        Err(Error::too_large(format!(
            "an incoming message of {size} bytes is over the limit of {max} (Limits::message)"
        )))
    }
}
