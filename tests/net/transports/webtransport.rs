//! A stream of a WebTransport session; what is cut is dead without a word, since datagrams have no end that a peer
//! could see.

use std::time::Duration;

use tower_transport::{
    Limits,
    transport::webtransport::{Certificate, WebTransportConnector, WebTransportServer},
};

use crate::{
    suite::relay::relay,
    transports::carrier::{Carrier, Cuts, Door, Route, SUBPROTOCOL, dial},
};

pub(crate) struct WebTransports;

impl Carrier for WebTransports {
    const UNITS: usize = 30;
    // Each takes a heartbeat to be found.
    const CUTS: usize = 3;

    async fn open(budgets: Vec<usize>) -> Route {
        let (door, arrivals) = Door::new();
        let certificate = Certificate::development(&["127.0.0.1"]).unwrap();
        // A handshake that is cut is given up soon.
        let limits = Limits::new().handshake(Duration::from_millis(800)).close(Duration::from_millis(800));
        let connector = WebTransportConnector::new().limits(limits).certificate_hashes([certificate.hash()]);
        let server = WebTransportServer::bind("127.0.0.1:0".parse().unwrap(), certificate).unwrap();
        let mut server = server.subprotocol(SUBPROTOCOL).unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(async move {
            server
                .serve(move |stream, _| {
                    let is_known = stream.subprotocol() == Some(SUBPROTOCOL);
                    door.enter(stream, is_known);
                    async {}
                })
                .await;
        });
        let cuts = Cuts::default();
        let address =
            if budgets.is_empty() { address } else { relay(address, budgets.into_iter(), cuts.clone()).await };
        Route { dial: dial(connector), url: format!("https://{address}/"), arrivals, cuts }
    }
}
