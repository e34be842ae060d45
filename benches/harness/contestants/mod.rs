//! The contestants, one file each.

mod fastwebsockets;
mod layered;
mod ours;
mod sockudo_ws;
mod tokio_websockets;
mod tungstenite;
mod wtx;
mod yawc;

use crate::{contestant::SinkStream, rounds::Row, scenario::Scenario};

#[allow(unused_imports, reason = "each benchmark that shares them has its own choice")]
pub use self::{
    fastwebsockets::FastWebSockets,
    ours::{Driven, WebSocket as OursLibrary},
    tungstenite::{SmallBuffer, Tungstenite},
    wtx::Wtx,
};
pub type Layered<const WORDS: usize> = SinkStream<layered::Layered<WORDS>>;
pub type Ours = SinkStream<ours::WebSocket>;
pub type SockudoWs = SinkStream<sockudo_ws::SockudoWs>;
pub type TokioTungstenite = SinkStream<Tungstenite>;
pub type TokioTungstenite4k = SinkStream<SmallBuffer>;
pub type TokioWebSockets = SinkStream<tokio_websockets::TokioWebSockets>;
pub type Yawc = SinkStream<yawc::Yawc>;

/// The base of all ratios.
pub const T: &str = "tokio-tungstenite";
/// This crate's WebSocket alone.
pub const OURS: &str = "ours";
/// This crate's WebSocket below a codec.
pub const LAYERED: &str = "ours, rkyv codec";

/// A row for each contestant, all in the same scenario.
pub fn all<S: Scenario>(scenario: S) -> Vec<Row<S::Measured>> {
    vec![
        Row::new(T, move || scenario.run::<TokioTungstenite>()),
        Row::new("tokio-tungstenite, 4 KiB", move || scenario.run::<TokioTungstenite4k>()),
        Row::new("fastwebsockets", move || scenario.run::<FastWebSockets>()),
        Row::new("tokio-websockets", move || scenario.run::<TokioWebSockets>()),
        Row::new("yawc", move || scenario.run::<Yawc>()),
        Row::new("sockudo-ws", move || scenario.run::<SockudoWs>()),
        Row::new("wtx", move || scenario.run::<Wtx>()),
        Row::new(OURS, move || scenario.run::<Ours>()),
    ]
}
