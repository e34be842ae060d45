mod connector;
mod contract;
mod expiry;
mod first;
mod jwks;
mod jwt;
mod renew;
mod secrets;
mod tokens;

use std::{
    future::{Future, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tower::service_fn;
use tower_transport::{
    Error, Message,
    layer::auth::{Principal, Token, TokenRequest, TokenSource},
};

/// How often something was called.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn up(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A source of `token-1`, `token-2`, ... with this life.
fn numbered(count: &Count, life: Option<Duration>) -> impl TokenSource<Future: Send> + Send + use<> {
    let count = count.clone();
    service_fn(move |_: TokenRequest| {
        let token = Token::new(format!("token-{}", count.up()));
        let token = match life {
            Some(life) => token.expires_in(life),
            None => token,
        };
        async move {
            // As a real one: not at once.
            tokio::task::yield_now().await;
            Ok::<_, Error>(token)
        }
    })
}

/// Returns a message with the mark of this kind behind its body, as `docs/wire.md` describes the exchange of tokens.
fn mark(body: &[u8], kind: u8) -> Message {
    let mut marked = body.to_vec();
    marked.extend_from_slice(&[kind, 6, 0xf8, b't', b't', b'x', 1, 0xff]);
    Message::binary(marked)
}

/// Returns a principal that expires this many seconds from now.
#[derive(Clone, Debug, PartialEq)]
struct Person {
    name: &'static str,
    expires: SystemTime,
}

impl Person {
    fn new(name: &'static str, seconds: u64) -> Self {
        Self { name, expires: SystemTime::now() + Duration::from_secs(seconds) }
    }
}

impl Principal for Person {
    fn subject(&self) -> Option<&str> {
        Some(self.name)
    }

    fn expires_at(&self) -> Option<SystemTime> {
        Some(self.expires)
    }
}

const SECRET: &[u8] = b"a secret of more than 32 bytes, for tests only";
const RSA_PUBLIC: &[u8] = include_bytes!("../../../fixtures/auth/rsa_public.pem");
const EC_PUBLIC: &[u8] = include_bytes!("../../../fixtures/auth/ec_public.pem");
const ED_PUBLIC: &[u8] = include_bytes!("../../../fixtures/auth/ed_public.pem");

/// The key that signs by this algorithm.
fn signer(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::HS256 => EncodingKey::from_secret(SECRET),
        Algorithm::RS256 => {
            EncodingKey::from_rsa_pem(include_bytes!("../../../fixtures/auth/rsa_private.pem")).unwrap()
        }
        Algorithm::ES256 => EncodingKey::from_ec_pem(include_bytes!("../../../fixtures/auth/ec_private.pem")).unwrap(),
        _ => EncodingKey::from_ed_pem(include_bytes!("../../../fixtures/auth/ed_private.pem")).unwrap(),
    }
}

fn sign(algorithm: Algorithm, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &signer(algorithm)).unwrap()
}

fn sign_with_id(algorithm: Algorithm, id: &str, claims: &Value) -> String {
    let header = Header { kid: Some(id.to_owned()), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, &signer(algorithm)).unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn good_claims() -> Value {
    json!({ "sub": "ada", "aud": "feed", "iss": "https://issuer.example", "exp": now() + 600 })
}

fn never<T>() -> impl Future<Output = T> {
    std::future::pending()
}

fn fail<T>(error: Error) -> impl Future<Output = Result<T, Error>> {
    ready(Err(error))
}
