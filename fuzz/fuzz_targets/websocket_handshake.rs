//! Lines of `name: value`: the headers of a handshake. Without a connection to upgrade, each ends in a refusal, and no
//! header may make the server panic.
#![no_main]

use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Request};
use libfuzzer_sys::fuzz_target;
use tower_service::Service;
use tower_transport::transport::websocket::WebSocketService;

fuzz_target!(|input: &[u8]| {
    let mut request = Request::new(());
    for line in input.split(|&byte| byte == b'\n') {
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii())) else {
            continue;
        };
        request.headers_mut().append(name, value);
    }
    let mut upgrade = WebSocketService::new(|_, _| async {}).subprotocol("v1").expect("a token");
    let response = upgrade.call(request).now_or_never().expect("it answers at once").expect("infallible");
    assert!(response.status().is_client_error() || response.status().is_server_error());
});
