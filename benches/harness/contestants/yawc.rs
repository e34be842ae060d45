//! yawc with its defaults, but for the limits: its own do not let 1 MiB through.

use bytes::Bytes;
use tokio::net::TcpStream;
use yawc::{Frame, Options, Role, WebSocket};

use crate::contestant::Library;

pub struct Yawc;

fn socket(io: TcpStream, role: Role) -> WebSocket<TcpStream> {
    let options = Options::default().with_limits(4 << 20, 8 << 20);
    WebSocket::from_stream(io, role, options).expect("there is no extension to disagree on")
}

impl Library for Yawc {
    type Message = Frame;
    type Socket = WebSocket<TcpStream>;

    fn client(io: TcpStream) -> Self::Socket {
        socket(io, Role::Client)
    }

    fn server(io: TcpStream) -> Self::Socket {
        socket(io, Role::Server)
    }

    fn message(payload: &Bytes) -> Frame {
        Frame::binary(payload.clone())
    }

    fn received(item: Frame) -> Option<Frame> {
        Some(item)
    }

    fn length(message: &Frame) -> usize {
        message.payload().len()
    }
}
