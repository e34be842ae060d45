//! A typed chat server in axum: JSON, a broadcast that no slow reader holds up, heartbeats, limits on rate and size,
//! JWT, and a graceful shutdown on ctrl-c.
//!
//! ```text
//! cargo run -p examples --bin chat_server                # prints a token; then, in other terminals:
//! cargo run -p examples --bin chat_client -- TOKEN
//! ```

use axum::{Extension, Router, extract::State, response::Response, routing::any};
use jsonwebtoken::{EncodingKey, Header};
use std::sync::{Arc, Mutex, PoisonError};
use std::{env, num::NonZeroU32, time::Duration};
use tokio::{net::TcpListener, signal};
use tower::ServiceBuilder;
use tower_transport::{
    BoxError, CloseCode, CloseFrame, Error, QueueConfig, Sender, ServiceBuilderExt, TransportExt, WhenFull,
    codec::{EncodeOnce, Encoded, JsonCodec, Outbound},
    handshake::auth::AuthGuardLayer,
    layer::auth::{Claims, ExpiryLayer, JwtKey, JwtRules, JwtVerifier},
    layer::rate_limit::{Quota, RateLimitLayer},
    transport::{Drain, websocket::WebSocket, websocket::WebSocketHandshake},
};

const SECRET: &[u8] = b"32 bytes that only the two of us know";
const TEN: NonZeroU32 = NonZeroU32::new(10).unwrap();

#[derive(serde::Deserialize)]
#[serde(tag = "type")]
enum Command {
    Say { text: String },
}

#[derive(serde::Serialize)]
#[serde(tag = "type")]
enum Event {
    Presence { name: String, online: bool },
    Said { name: String, text: String },
}

type Json = JsonCodec<Event, Command>;
type Member = Sender<Outbound<Json>, Command>;

#[derive(Clone, Default)]
struct Room {
    members: Arc<Mutex<Vec<Member>>>,
    drain: Drain,
}

impl Room {
    /// Encodes the event once. Members that are gone leave the list.
    fn publish(&self, event: &Event) -> Result<(), Error> {
        let event = Encoded::new(&mut Json::new(), event)?;
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.try_send(event.clone().into()).is_ok());
        Ok(())
    }
}

async fn session(socket: WebSocket, claims: Claims, room: Room) -> Result<(), Error> {
    let name = claims.subject.clone().unwrap_or_default();
    let transport = ServiceBuilder::new()
        .codec(EncodeOnce::new(Json::new()))
        .limit(4096)
        .layer(RateLimitLayer::per_connection(Quota::per_second(TEN)).inbound().close())
        .layer(ExpiryLayer::new(&claims))
        .heartbeat(Duration::from_secs(20), Duration::from_secs(20))
        .service(socket);
    let (sender, mut receiver) = transport.drive(QueueConfig::outbound().when_full(WhenFull::DropOldest)).spawn();
    room.members.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
    room.publish(&Event::Presence { name: name.clone(), online: true })?;
    while let Some(command) = receiver.receive().await {
        match command {
            Ok(Command::Say { text }) => room.publish(&Event::Said { name: name.clone(), text })?,
            Err(error) => println!("{name}: {error}"),
        }
    }
    room.publish(&Event::Presence { name, online: false })
}

async fn chat(State(room): State<Room>, Extension(claims): Extension<Claims>, request: WebSocketHandshake) -> Response {
    request.drain(&room.drain).on_upgrade(async move |socket| session(socket, claims, room).await.unwrap_or(()))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let claims = serde_json::json!({ "sub": "ada", "aud": "chat", "exp": 4_102_444_800_u64 });
    println!("a token: {}", jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET))?);
    let room = Room::default();
    let drain = room.drain.clone();
    let guard = AuthGuardLayer::new(JwtVerifier::<()>::new(JwtKey::hs256(SECRET)?, JwtRules::new().audience("chat")));
    let app = Router::new().route("/chat", any(chat)).with_state(room).layer(guard);
    let listener = TcpListener::bind(env::args().nth(1).as_deref().unwrap_or("127.0.0.1:3000")).await?;
    println!("listening on {}", listener.local_addr()?);
    let restart = CloseFrame::new(CloseCode::RESTART, "the server restarts");
    axum::serve(listener, app).with_graceful_shutdown(drain.start_on(signal::ctrl_c(), restart)).await?;
    println!("{}", drain.drain(Duration::from_secs(10)).await);
    Ok(())
}
