//! This crate with a codec: values of `8 * N` bytes over a WebSocket, by rkyv.

use bytes::{Buf, Bytes};
use rkyv::{Archive, Deserialize, Serialize};
use tokio::net::TcpStream;
use tower::ServiceBuilder;
use tower_transport::{
    Error, builder::ServiceBuilderExt, codec::RkyvCodec, layer::codec::Coded, transport::websocket::WebSocket as Socket,
};

use super::ours::WebSocket;
use crate::contestant::Library;

pub struct Layered<const N: usize>;

/// A value that wants its bytes aligned, as most do.
#[derive(Archive, Serialize, Deserialize)]
pub struct Words<const N: usize> {
    words: [u64; N],
}

fn layered<const N: usize>(socket: Socket<TcpStream>) -> Coded<Socket<TcpStream>, RkyvCodec<Words<N>>> {
    ServiceBuilder::new().codec(RkyvCodec::new()).service(socket)
}

impl<const N: usize> Library for Layered<N> {
    type Message = Words<N>;
    type Socket = Coded<Socket<TcpStream>, RkyvCodec<Words<N>>>;

    fn client(io: TcpStream) -> Self::Socket {
        layered(WebSocket::client(io))
    }

    fn server(io: TcpStream) -> Self::Socket {
        layered(WebSocket::server(io))
    }

    fn message(payload: &Bytes) -> Words<N> {
        let mut payload = &payload[..];
        Words { words: std::array::from_fn(|_| payload.get_u64_ne()) }
    }

    fn received(item: Result<Words<N>, Error>) -> Option<Words<N>> {
        item.ok()
    }

    fn length(message: &Words<N>) -> usize {
        size_of_val(&message.words)
    }
}
