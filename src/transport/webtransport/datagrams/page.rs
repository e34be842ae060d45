//! The datagrams of the browser. Natively, `quic.rs` has methods of the same names.

use std::{convert::Infallible, pin::Pin};

use bytes::Bytes;
use futures_util::{sink, stream};
use js_sys::Uint8Array;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;

use super::{DatagramCounts, Incoming, Outgoing, Received};
use crate::{Message, transport::webtransport::Session};

impl Session {
    pub(super) fn outgoing_datagrams(&self, counts: DatagramCounts) -> Pin<Box<Outgoing>> {
        // The session lives as long as its handles.
        Box::pin(sink::unfold((self.clone(), counts), |(session, counts), payload: Bytes| async move {
            let is_sent = match session.datagram_writer() {
                Some(writer) => {
                    let room = JsFuture::from(writer.ready()).await;
                    room.is_ok() && JsFuture::from(writer.write_with_chunk(&Uint8Array::from(&*payload))).await.is_ok()
                }
                None => false,
            };
            if is_sent {
                counts.count_sent()
            } else {
                counts.count_dropped()
            }
            Ok::<_, Infallible>((session, counts))
        }))
    }

    pub(super) fn incoming_datagrams(&self) -> Pin<Box<Incoming>> {
        Box::pin(stream::unfold(self.clone(), |session| async move {
            let received = match session.next_datagram().await {
                Ok(chunk) => {
                    let bytes = chunk.dyn_into::<Uint8Array>().map(|chunk| chunk.to_vec()).unwrap_or_default();
                    Received::Datagram(bytes.into())
                }
                Err(error) => Received::End(match error.close_frame() {
                    Some(frame) => Some(Ok(Message::Close(Some(frame.clone())))),
                    None if session.is_closed_here() => None,
                    None => Some(Err(error)),
                }),
            };
            Some((received, session))
        }))
    }

    /// Returns the maximum payload of a datagram, in bytes.
    pub(super) fn max_datagram(&self) -> usize {
        self.raw().datagrams().max_size() as usize
    }
}
