//! The server as a service, called without a socket.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use tokio::sync::mpsc;
use tower::Service;
use tower_transport::{
    Limits,
    transport::sse::{SseDuplex, SseDuplexBody, SseDuplexServer},
};

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::from(bytes.into()).boxed_unsync()
}

/// Pieces with a pause before each; then it never ends.
pub(super) fn trickle(pieces: Vec<&'static [u8]>, pause: Duration) -> Body {
    let pieces = stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(pause).await;
        Ok(Frame::data(Bytes::from_static(piece)))
    });
    StreamBody::new(pieces.chain(stream::pending())).boxed_unsync()
}

/// A server whose sessions are given to the test.
pub(super) struct Server<S> {
    service: S,
    sessions: mpsc::Receiver<SseDuplex>,
    count: Box<dyn Fn() -> usize>,
}

pub(super) fn server(
    limits: Limits,
) -> Server<impl Service<Request<Body>, Response = Response<SseDuplexBody>, Error = Infallible>> {
    let (opened, sessions) = mpsc::channel(64);
    let service = SseDuplexServer::new(move |session, _| async move {
        let _ = opened.send(session).await;
    });
    let service = service.limits(limits);
    let counted = service.clone();
    Server { service, sessions, count: Box::new(move || counted.session_count()) }
}

impl<S: Service<Request<Body>, Response = Response<SseDuplexBody>, Error = Infallible>> Server<S> {
    /// Opens a session: its stream, its token, and the handler's end.
    pub(super) async fn open(&mut self) -> (SseDuplexBody, String, SseDuplex) {
        let request =
            Request::get("/").header("host", "a").header("accept", "text/event-stream").body(whole("")).unwrap();
        let mut stream = self.service.call(request).await.unwrap().into_body();
        let first = next_frame(&mut stream).await.unwrap();
        let token = first.strip_prefix("event: session\ndata: ").unwrap().trim().to_owned();
        (stream, token, self.sessions.recv().await.unwrap())
    }

    /// How many sessions there are.
    pub(super) fn count(&self) -> usize {
        (self.count)()
    }

    pub(super) fn post(
        &mut self,
        token: &str,
        sequence: u64,
        body: Body,
    ) -> impl Future<Output = (u16, Option<u64>)> + use<S> {
        let request = Request::post("/")
            .header("host", "a")
            .header("content-type", "application/vnd.tower-transport.messages")
            .header("tower-transport-session", token)
            .header("tower-transport-sequence", sequence);
        let answer = self.service.call(request.body(body).unwrap());
        async {
            let answer = answer.await.unwrap();
            let due = answer.headers().get("tower-transport-sequence");
            (answer.status().as_u16(), due.map(|due| due.to_str().unwrap().parse().unwrap()))
        }
    }
}

pub(super) async fn next_frame(stream: &mut SseDuplexBody) -> Option<String> {
    let data = stream.frame().await?.unwrap().into_data().unwrap();
    Some(String::from_utf8(data.to_vec()).unwrap())
}
