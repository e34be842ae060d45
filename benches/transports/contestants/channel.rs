use tower_transport::{Channel, Message, channel};

use crate::contestant::Contestant;

/// In memory, with room for 64 messages.
pub(crate) struct Channels;

impl Contestant for Channels {
    type Near = Channel;
    type Far = Channel;

    async fn pair() -> (Channel, Channel) {
        channel::<Message, Message>(64)
    }
}
