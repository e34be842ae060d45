//! Two header lines, separated by a line break, of a request from a trusted proxy: the client is the proxy or an address
//! that the lines contain, and never a trusted one behind one that is not.
#![no_main]

use std::{
    convert::Infallible,
    net::IpAddr,
    task::{Context, Poll, Waker},
};

use http::{HeaderValue, Request};
use libfuzzer_sys::fuzz_target;
use tower_layer::Layer;
use tower_service::Service;
use tower_transport::handshake::client_address::ClientAddressLayer;

/// Returns the address in the request.
#[derive(Clone)]
struct Seen;

impl Service<Request<()>> for Seen {
    type Response = Option<IpAddr>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Option<IpAddr>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        std::future::ready(Ok(request.extensions().get().copied()))
    }
}

fuzz_target!(|input: &[u8]| {
    let proxy = IpAddr::from([10, 0, 0, 1]);
    let trusted = || ["10.0.0.0/8".parse().expect("a network")];
    for (name, layer) in [
        ("x-forwarded-for", ClientAddressLayer::x_forwarded_for(trusted())),
        ("forwarded", ClientAddressLayer::forwarded(trusted())),
    ] {
        let mut request = Request::new(());
        for line in input.split(|byte| *byte == b'\n') {
            let Ok(value) = HeaderValue::from_bytes(line) else { return };
            request.headers_mut().append(name, value);
        }
        request.extensions_mut().insert(proxy);
        let future = layer.layer(Seen).call(request);
        let Poll::Ready(Ok(client)) = std::pin::pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            unreachable!("the service is ready")
        };
        let client = client.expect("the address stays");
        let text = String::from_utf8_lossy(input);
        assert!(client == proxy || text.contains(['.', ':']), "{client} comes from nowhere");
    }
});
