//! WebSockets of a hyper server; what is cut is cut between two bytes.

use tower_transport::transport::websocket::{WebSocketConnector, WebSocketService};

use crate::transports::{
    carrier::{Carrier, Door, Route, SUBPROTOCOL, dial, link},
    serve::serve,
};

pub(crate) struct WebSockets;

impl Carrier for WebSockets {
    const UNITS: usize = 8_000;

    async fn open(budgets: Vec<usize>) -> Route {
        let (door, arrivals) = Door::new();
        let upgrade = WebSocketService::new(move |socket, _| {
            let is_known = socket.subprotocol() == Some(SUBPROTOCOL);
            door.enter(socket, is_known);
            async {}
        });
        let server = serve(upgrade.subprotocol(SUBPROTOCOL).unwrap()).await;
        let (address, cuts) = link(server, budgets).await;
        Route { dial: dial(WebSocketConnector::new()), url: format!("ws://{address}/"), arrivals, cuts }
    }
}
