//! SSE down and POST up, of a hyper server; what is cut is cut between two bytes, of either of the connections that a
//! session has.

use tower_transport::transport::sse::{SseDuplexConnector, SseDuplexServer};

use crate::transports::{
    carrier::{Carrier, Door, Route, SUBPROTOCOL, dial, link},
    serve::serve_http,
};

pub(crate) struct SsePosts;

impl Carrier for SsePosts {
    const UNITS: usize = 10_000;

    async fn open(budgets: Vec<usize>) -> Route {
        let (door, arrivals) = Door::new();
        let server = SseDuplexServer::new(move |session, _| {
            let is_known = session.subprotocol() == Some(SUBPROTOCOL);
            door.enter(session, is_known);
            async {}
        });
        let server = serve_http(server.subprotocol(SUBPROTOCOL).unwrap()).await;
        let (address, cuts) = link(server, budgets).await;
        Route { dial: dial(SseDuplexConnector::new()), url: format!("http://{address}/"), arrivals, cuts }
    }
}
