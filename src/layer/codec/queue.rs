use crate::{
    Queue,
    codec::{Codec, Outbound},
};

impl<C: Codec> Queue<Outbound<C>, C::In> {
    /// Creates a queue of what goes out through an [`EncodeOnce`](crate::codec::EncodeOnce). Encoded messages count with the length of
    /// their payload, values with the size of their type; see [`size_by`](Self::size_by). Incoming values count as in
    /// [`values`](Self::values).
    #[must_use]
    pub fn outbound() -> Self {
        Self::outgoing_sized_by(size::<C>)
    }
}

fn size<C: Codec>(outbound: &Outbound<C>) -> usize {
    match outbound {
        Outbound::Value(_) => size_of::<C::Out>(),
        Outbound::Encoded(encoded) => encoded.message().len(),
    }
}
