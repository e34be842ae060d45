//! Messages that are compressed once for all connections that send them.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;

use crate::{Message, Text, zlib::Level};

/// The prepared messages that exist, by the address of their payload. A transport gets no more than the payload of a
/// message, whatever layers and queues the message came through, and the payload of a prepared message does not move.
static PREPARED: RwLock<Option<HashMap<usize, Arc<Prepared>>>> = RwLock::new(None);

/// The number of prepared messages, so that a process without any does not take the lock.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// The compressed forms of one message.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    length: usize,
    forms: Mutex<Vec<Form>>,
}

/// The message compressed with these settings; `None` if it does not shrink. The lock of one form makes other
/// connections wait while the first one compresses.
#[derive(Clone, Debug)]
struct Form {
    level: Level,
    window_bits: u8,
    payload: Arc<OnceLock<Option<Bytes>>>,
}

impl Prepared {
    /// Returns the message compressed with these settings, by `compress` if it is the first time.
    pub(super) fn compressed(
        &self,
        level: Level,
        window_bits: u8,
        compress: impl FnOnce(Level, u8) -> Option<Bytes>,
    ) -> Option<Bytes> {
        let payload = {
            let mut forms = self.forms.lock().unwrap_or_else(PoisonError::into_inner);
            let known = forms.iter().find(|form| (form.level, form.window_bits) == (level, window_bits));
            match known {
                Some(form) => Arc::clone(&form.payload),
                None => {
                    let payload = Arc::default();
                    forms.push(Form { level, window_bits, payload: Arc::clone(&payload) });
                    payload
                }
            }
        };
        payload.get_or_init(|| compress(level, window_bits)).clone()
    }
}

/// Returns the compressed forms of a payload, if it belongs to a prepared message.
pub(super) fn find(payload: &[u8]) -> Option<Arc<Prepared>> {
    if COUNT.load(Relaxed) == 0 {
        return None;
    }
    let prepared = PREPARED.read().unwrap_or_else(PoisonError::into_inner);
    // Its address and length are the caller's, who holds it, so it is the same memory, and nobody changes that.
    prepared.as_ref()?.get(&payload.as_ptr().addr()).filter(|known| known.length == payload.len()).cloned()
}

/// The payload of a prepared message, as the owner of its own memory: all clones and slices hold it.
struct Owner(Bytes);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut prepared = PREPARED.write().unwrap_or_else(PoisonError::into_inner);
        let forms = prepared.as_mut().and_then(|prepared| prepared.remove(&self.0.as_ptr().addr()));
        COUNT.fetch_sub(forms.iter().len(), Relaxed);
        drop(prepared);
    }
}

impl Message {
    /// Prepares a data message for being sent by many connections: permessage-deflate compresses it once for each level
    /// and window size in use, in place of once for each connection. Other messages are returned unchanged.
    ///
    /// Clones of the returned message share its compressed forms. They are found again whatever layers, queues and
    /// threads a clone passes through, as long as no layer changes the payload, and are dropped with the last clone.
    ///
    /// On a connection with context takeover, a prepared message is sent without context, and starts a new one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_transport::Error> {
    /// use tower_transport::{Message, TransportExt, channel};
    ///
    /// let (mut first, mut peer) = channel::<Message, Message>(8);
    /// let (mut second, _peer) = channel::<Message, Message>(8);
    /// let news = Message::text("what all of them get to know").into_prepared();
    /// for connection in [&mut first, &mut second] {
    ///     connection.send_message(news.clone()).await?;
    /// }
    /// # assert_eq!(peer.receive_message().await.unwrap()?, news);
    /// # Ok(()) }
    /// ```
    ///
    /// # Cost
    ///
    /// An allocation, and an entry in a table of the process. A connection that is about to compress a message looks it
    /// up there while prepared messages exist. Sending costs a reference count per connection (a client also copies
    /// the payload, to mask it).
    #[must_use]
    pub fn into_prepared(self) -> Self {
        match self {
            Self::Text(text) => {
                let bytes = prepare(text.clone().into_bytes());
                // It is the same text.
                Self::Text(Text::try_from(bytes).unwrap_or(text))
            }
            Self::Binary(bytes) => Self::Binary(prepare(bytes)),
            other => other,
        }
    }
}

fn prepare(payload: Bytes) -> Bytes {
    if payload.is_empty() {
        return payload;
    }
    let entry = Arc::new(Prepared { length: payload.len(), forms: Mutex::default() });
    let mut prepared = PREPARED.write().unwrap_or_else(PoisonError::into_inner);
    match prepared.get_or_insert_default().entry(payload.as_ptr().addr()) {
        // It is prepared already, or a longer or shorter part of the same memory is.
        Entry::Occupied(_) => return payload,
        Entry::Vacant(vacant) => vacant.insert(entry),
    };
    COUNT.fetch_add(1, Relaxed);
    drop(prepared);
    Bytes::from_owner(Owner(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_known(message: &Message) -> bool {
        let Message::Binary(bytes) = message else { panic!("a binary message") };
        find(bytes).is_some()
    }

    #[test]
    fn a_message_is_known_while_a_clone_of_it_exists() {
        let plain = Message::binary(vec![1; 100]);
        assert!(!is_known(&plain));
        let prepared = plain.clone().into_prepared();
        let clone = prepared.clone();
        assert!(is_known(&prepared) && prepared == plain);
        drop(prepared);
        assert!(is_known(&clone));
        drop(clone);
        assert!(!is_known(&plain), "an entry is left");
    }

    #[test]
    fn a_part_of_a_prepared_message_is_another_message() {
        let prepared = Message::binary(vec![1; 100]).into_prepared();
        let Message::Binary(bytes) = &prepared else { panic!("a binary message") };
        assert!(!is_known(&Message::Binary(bytes.slice(..99))));
        assert!(!is_known(&Message::Binary(bytes.slice(1..))));
        assert!(!is_known(&Message::Binary(Bytes::copy_from_slice(bytes))));
    }

    #[test]
    fn a_message_may_be_prepared_twice_by_any_threads() {
        let plain = Message::text("a".repeat(1000));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        assert_eq!(plain.clone().into_prepared().into_prepared(), plain);
                    }
                });
            }
        });
        let Message::Text(text) = plain else { panic!("a text") };
        assert!(find(text.as_bytes()).is_none(), "an entry is left");
    }

    #[test]
    fn control_messages_and_empty_ones_stay_as_they_are() {
        for message in [Message::Ping(vec![1].into()), Message::Close(None), Message::text("")] {
            assert_eq!(message.clone().into_prepared(), message);
        }
    }
}
