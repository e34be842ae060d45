use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use rkyv::{
    api::high::HighSerializer,
    rancor::BoxedError,
    ser::{Serializer, allocator::Arena, sharing::Share},
};

use super::archive::{ArchiveWriter, RkyvEncode};
use crate::{Error, Message, codec::buffer::KeptBuffer};

/// The writing half: a kept buffer for the archives, and a kept arena for rkyv's scratch space.
#[derive(Default)]
pub(super) struct Encoder {
    buffer: KeptBuffer,
    /// Made on first use. An `Arena` is `Send` and not `Sync`; the mutex, which is never locked, makes the codec `Sync`.
    arena: Mutex<Option<Arena>>,
}

impl Encoder {
    pub(super) fn encode<T: RkyvEncode>(&mut self, value: &T) -> Result<Message, Error> {
        let arena = self.arena.get_mut().unwrap_or_else(PoisonError::into_inner);
        let scratch = arena.get_or_insert_default().acquire();
        let writer = ArchiveWriter(self.buffer.start(0));
        let mut serializer = Serializer::new(writer, scratch, Share::new());
        let strategy: &mut HighSerializer<_, _, BoxedError> = rkyv::rancor::Strategy::wrap(&mut serializer);
        rkyv::SerializeUnsized::serialize_unsized(value, strategy)
            .map_err(|error| Error::codec("the value has no rkyv archive").with_source(error))?;
        let (bytes, outsized) = self.buffer.finish();
        if outsized {
            // A value that needed much room needed much scratch space too.
            *arena = None;
        }
        Ok(Message::Binary(bytes))
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("buffer", &self.buffer).finish_non_exhaustive()
    }
}
