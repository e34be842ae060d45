use std::{
    fmt, mem,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use rkyv::{
    SerializeUnsized,
    api::high::HighSerializer,
    rancor::{BoxedError, Strategy},
    ser::{Serializer, allocator::Arena, sharing::Share},
    util::AlignedVec,
};

use super::archive::RkyvEncode;
use crate::{Error, Message, codec::buffer::KeptBuffer};

/// Archives of this size or more are not copied: the vector becomes the message, and another one is allocated for the
/// next.
const NOT_COPIED: usize = 16 * 1024;

/// The encoding half: the vector that archives are written to, the buffer they are copied to, and an arena for rkyv's
/// scratch space. All of them are kept.
#[derive(Default)]
pub(super) struct Encoder {
    archive: AlignedVec,
    buffer: KeptBuffer,
    /// Created on first use. An `Arena` is `Send` and not `Sync`; the mutex, which is never locked, makes the codec
    /// `Sync`.
    arena: Mutex<Option<Arena>>,
}

impl Encoder {
    pub(super) fn encode<T: RkyvEncode>(&mut self, value: &T) -> Result<Message, Error> {
        let arena = self.arena.get_mut().unwrap_or_else(PoisonError::into_inner);
        let scratch = arena.get_or_insert_default().acquire();
        self.archive.clear();
        let mut serializer = Serializer::new(&mut self.archive, scratch, Share::new());
        let strategy: &mut HighSerializer<_, _, BoxedError> = Strategy::wrap(&mut serializer);
        SerializeUnsized::serialize_unsized(value, strategy)
            .map_err(|error| Error::codec("the value has no rkyv archive").with_source(error))?;
        if self.archive.len() < NOT_COPIED {
            return Ok(Message::Binary(self.buffer.copy(&self.archive)));
        }
        // A value that needed much room also needed much scratch space.
        *arena = None;
        Ok(Message::Binary(Bytes::from_owner(mem::take(&mut self.archive))))
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("buffer", &self.buffer).finish_non_exhaustive()
    }
}
