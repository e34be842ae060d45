//! WebTransport sessions.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::Mutex,
    time::Duration,
};

use browser::suite::relay::relay;
use futures_util::SinkExt;
use http::StatusCode;
use tokio::time::sleep;
use tower_transport::{
    CloseCode, CloseFrame, Error, Limits, Message, TransportExt,
    stack::OptimizedAcceptor,
    transport::webtransport::{
        Certificate, CertificateHash, Incoming, Session, WebTransportServer, WebTransportStream,
    },
};

use super::{CASES, CUT, enter_stream};

/// How the last session and its first stream ended.
static LAST: Mutex<String> = Mutex::new(String::new());

/// Serves pages of every origin, pages of no origin, nobody, and the suite. `adaptive` is the hash of one more
/// certificate. Returns the parameters for the page.
pub(super) async fn serve(adaptive: CertificateHash) -> String {
    let bind = || {
        let certificate = Certificate::development(&[]).unwrap();
        let hash = certificate.hash();
        (WebTransportServer::bind((Ipv4Addr::LOCALHOST, 0).into(), certificate).unwrap(), hash)
    };
    let ((open, hash), (strict, strict_hash), (suite, suite_hash)) = (bind(), bind(), bind());
    let open = open.allow_any_origin().subprotocol("chat.v1").unwrap();
    let open = open.limits(Limits::new().message(5 << 20).close(Duration::from_millis(500)));
    let mut suite = suite.allow_any_origin().subprotocol(OptimizedAcceptor::SUBPROTOCOL).unwrap();
    // A client whose handshake was cut does not hold its place for long.
    suite = suite.limits(Limits::new().handshake(Duration::from_millis(800)).close(Duration::from_millis(800)));
    let suite_address = suite.local_addr().unwrap();
    let suite_cutting = relay(suite_address, (0..).map(budget), CUT.clone()).await;
    // It takes packets, and answers none.
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addresses = (open.local_addr().unwrap(), strict.local_addr().unwrap(), silent.local_addr().unwrap());
    tokio::spawn(accept(open));
    tokio::spawn(accept(strict));
    tokio::spawn(async move { suite.serve(enter_stream).await });
    std::mem::forget(silent);
    let (open, strict, silent) = addresses;
    let hashes = format!("{hash},{strict_hash},{suite_hash},{adaptive}");
    format!(
        "wt={open}&wt-strict={strict}&wt-silent={silent}&wt-hash={hashes}\
        &suite-wt={suite_address}&suite-wt-cutting={suite_cutting}"
    )
}

/// Returns the number of datagrams after which a connection of the suite goes silent. A handshake takes about 17, and
/// the stack's hellos are over after about 25.
///
/// The first connection of a case is cut only after the server has proved that it knows the stack: otherwise the client
/// connects again without the stack. It is cut in every case, because no case takes fewer than 70. A later client waits
/// 10 s for a hello that does not come, so no connection of the stack is cut before the hello.
fn budget(number: usize) -> usize {
    let any = 1 + number * 7919 % 173;
    match CASES.lock().unwrap().values().next() {
        None => 45 + any % 12,
        Some(case) if case.is_of_the_stack && (11..40).contains(&any) => any + 40,
        Some(_) => any,
    }
}

async fn accept(mut server: WebTransportServer) {
    while let Some(incoming) = server.accept().await {
        tokio::spawn(handle(incoming));
    }
}

async fn handle(incoming: Incoming) {
    let path = incoming.parts().uri.path().to_owned();
    if path == "/nowhere" {
        let _ = incoming.reject(StatusCode::NOT_FOUND).await;
        return;
    }
    let Ok(session) = incoming.accept().await else { return };
    if path == "/last" {
        let Ok(mut stream) = session.accept().await else { return };
        let last = LAST.lock().unwrap().clone();
        let _ = stream.send_message(Message::text(last)).await;
        session.closed().await;
        return;
    }
    LAST.lock().unwrap().clear();
    tokio::join!(streams(&session, &path), one_way(&session), datagrams(&session), end(&session));
}

/// Records how the session ends.
async fn end(session: &Session) {
    let error = session.closed().await;
    record(format!("session: {:?}", error.close_frame()));
}

fn record(what: String) {
    let mut last = LAST.lock().unwrap();
    last.push_str(&what);
    last.push('\n');
}

async fn streams(session: &Session, path: &str) {
    while let Ok(stream) = session.accept().await {
        let path = path.to_owned();
        tokio::spawn(async move {
            let end = echo(stream, &path).await;
            record(format!("stream: {end:?}"));
        });
    }
}

async fn echo(mut stream: WebTransportStream, path: &str) -> Result<Option<CloseFrame>, Error> {
    match path {
        "/close" => {
            stream.session().close(CloseFrame::new(CloseCode::new(4002).unwrap(), "enough"));
        }
        "/close-stream" => {
            stream.close(Some(CloseFrame::new(CloseCode::new(4001).unwrap(), "done"))).await?;
        }
        "/late" => sleep(Duration::from_millis(500)).await,
        "/reset" => {
            stream.reset(CloseCode::new(1008).unwrap());
            return Ok(None);
        }
        "/cut" => {
            drop(stream);
            return Ok(None);
        }
        // Opens streams of its own.
        "/opens" => {
            for number in 0..3 {
                let mut opened = stream.session().open().await?;
                opened.send_message(Message::text(format!("number {number}"))).await?;
                tokio::spawn(async move { while let Some(Ok(_)) = opened.receive_message().await {} });
            }
        }
        "/flood" => {
            for number in 0..1000_u32 {
                let mut payload = vec![7; 64 << 10];
                payload[..4].copy_from_slice(&number.to_le_bytes());
                stream.send_message(Message::binary(payload)).await?;
            }
        }
        _ => {}
    }
    while let Some(message) = stream.receive_message().await.transpose()? {
        if message.is_data() {
            stream.feed(message).await?;
            stream.flush().await?;
        }
    }
    Ok(stream.close_frame().cloned())
}

/// Sends each unidirectional stream back over one of its own.
async fn one_way(session: &Session) {
    while let Ok(mut incoming) = session.accept_uni().await {
        let Ok(mut outgoing) = session.open_uni().await else { return };
        while let Some(Ok(message)) = futures_util::StreamExt::next(&mut incoming).await {
            if message.is_data() && outgoing.send(message).await.is_err() {
                return;
            }
        }
        let _ = outgoing.close(incoming.close_frame().cloned()).await;
    }
}

async fn datagrams(session: &Session) {
    let mut datagrams = session.datagrams();
    while let Some(Ok(message)) = datagrams.receive_message().await {
        if message.is_data() && datagrams.send_message(message).await.is_err() {
            return;
        }
    }
}
