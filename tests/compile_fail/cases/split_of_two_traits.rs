//! futures' `StreamExt` has a `split` too: say which is meant.

use futures_util::StreamExt;
use tower_transport::{Message, TransportExt, channel};

fn split() {
    let (here, _there) = channel::<Message, Message>(1);
    let (_sink, _stream) = here.split();
}

fn main() {}
