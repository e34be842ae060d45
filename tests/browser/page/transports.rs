//! The suite whose parameter is the transport, over the transports of a page: `tests/suite`. The server runs the other
//! half of each case.

use std::{cell::Cell, fmt::Debug, future::Future};

use browser::suite::{
    Pings, Wire, client,
    client::{Dial, Target},
};
use futures_util::FutureExt;
use tower::{Service, ServiceExt};
use tower_transport::{
    Error, Limits, Message, Transport, TransportExt,
    transport::{sse::SseDuplexConnector, websocket::WebSocketConnector, webtransport::WebTransportConnector},
};
use wasm_bindgen_test::wasm_bindgen_test;

use crate::{
    ask, cuts, http_url, ms, url,
    web_transport::{self, https_url},
};

/// Any connector as the suite takes it.
fn boxed<C, T>(connector: C) -> impl Dial
where
    C: Service<http::Request<()>, Response = http::Response<T>, Error = Error, Future: 'static> + Clone + 'static,
    T: Transport<Message, In = Message, TransportError = Error> + 'static,
{
    connector
        .map_response(|response: http::Response<T>| -> http::Response<Wire> { response.map(TransportExt::into_boxed) })
}

/// Returns a connector that soon gives up a handshake that was cut.
fn web_transport() -> WebTransportConnector {
    web_transport::connector().limits(Limits::new().message(5 << 20).handshake(ms(800)).close(ms(800)))
}

/// Runs the client's half of a case, and compares what the server's half says. `url` is that of the transport, for a path.
async fn run<D, F, O>(
    (dial, pings): (D, Pings),
    url: impl Fn(&str) -> String,
    name: &str,
    half: impl FnOnce(Target<D>) -> F,
) where
    F: Future<Output = O>,
    O: Debug,
{
    thread_local!(static CASES: Cell<usize> = const { Cell::new(0) });
    let case = CASES.get() + 1;
    CASES.set(case);
    let meet = async move { assert_eq!(ask(&format!("/meet?case={case}")).await, "met") };
    let url = url(&format!("/{name}?case={case}"));
    let near = half(Target { dial, url, pings, meet: meet.boxed_local() }).await;
    assert_eq!(ask(&format!("/outcome?case={case}")).await, format!("{near:?}"));
}

macro_rules! tests {
    ($(mod $name:ident = $dial:expr, $pings:expr, $url:expr;)*) => {
        $(mod $name {
            use super::*;

            browser::cases!(over! { $dial, $pings, $url });
        })*
    };
}

macro_rules! over {
    ($dial:expr, $pings:expr, $url:expr; $($case:ident,)*) => {
        $(
            #[wasm_bindgen_test]
            async fn $case() {
                let name = stringify!($case);
                let is_cut = name.contains("cut");
                let before = cuts().await;
                run((boxed($dial), $pings), |path| $url(is_cut, path), name, client::$case).await;
                let cuts = cuts().await;
                assert!(!is_cut || cuts > before, "nothing was cut");
            }
        )*
    };
}

tests! {
    mod over_websocket = WebSocketConnector::new(), Pings::Messages, |is_cut, path| {
        url(if is_cut { "suite-cutting" } else { "suite" }, path)
    };
    mod over_sse_and_post = SseDuplexConnector::new(), Pings::Messages, |is_cut, path| {
        http_url(if is_cut { "suite-sse-cutting" } else { "suite-sse" }, path)
    };
    mod over_webtransport = web_transport(), Pings::Its, |is_cut, path| {
        https_url(if is_cut { "suite-wt-cutting" } else { "suite-wt" }, path)
    };
}
