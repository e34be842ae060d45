use tower_transport::layer::auth::{
    AuthLayer, Credentials, FirstMessageLayer, JwtKey, JwtRules, JwtVerifier, RenewLayer, Secret, StaticTokens, Tokens,
};

use super::*;

const TAINT: &str = "taint.that.must.not.show.anywhere.at.all";

#[tokio::test(start_paused = true)]
async fn no_debug_text_has_a_secret_in_it() {
    let tokens = Tokens::fixed(TAINT);
    let token = tokens.get().await.unwrap();
    let verifier = JwtVerifier::<()>::new(JwtKey::hs256(TAINT.as_bytes()).unwrap(), JwtRules::new());
    let basic = Credentials::Basic { user: TAINT.to_owned(), password: TAINT.into() };
    let (here, _there) = tower_transport::channel::<tower_transport::Message, tower_transport::Message>(1);
    let first = tower::Layer::layer(&FirstMessageLayer::new(tokens.clone()), here);
    let shown: [&dyn std::fmt::Debug; 11] = [
        &Secret::new(TAINT),
        &token,
        &tokens.get(),
        &tokens,
        &AuthLayer::new(tokens.clone()),
        &first,
        &RenewLayer::new(tokens.clone()),
        &Credentials::Bearer(TAINT.into()),
        &basic,
        &StaticTokens::new().token(TAINT, TAINT),
        &verifier,
    ];
    for shown in shown {
        for text in [format!("{shown:?}"), format!("{shown:#?}")] {
            assert!(!text.contains("taint"), "{text}");
            assert!(!text.contains(&format!("{:?}", TAINT.as_bytes())), "{text}");
        }
    }
}

/// The message of a parser may quote a bad payload.
#[test]
fn no_error_of_a_verifier_quotes_the_token() {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

    let verifier = JwtVerifier::<()>::new(JwtKey::hs256(SECRET).unwrap(), JwtRules::new());
    let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let tokens = [
        TAINT.to_owned(),
        format!("{}.{}.x", encode(r#"{"alg":"taint"}"#), encode("{}")),
        sign(Algorithm::HS256, &json!({ "exp": "taint" })),
        sign(Algorithm::HS256, &json!({ "exp": 1, "sub": "taint" })),
        sign(Algorithm::HS256, &json!({ "exp": now() + 60, "aud": "taint" })),
        sign(Algorithm::HS256, &json!({ "exp": now() + 60, "iss": ["taint"] })),
    ];
    for token in tokens {
        let error = verifier.verify(&Credentials::Bearer(token.as_str().into())).unwrap_err();
        assert!(error.is_auth());
        let text = format!("{error} {error:?} {error:#?}");
        assert!(!text.contains("taint") && !text.contains(&token), "{text}");
    }
}

/// Those that hold a whole request or answer: the builder of a pool, and what a connector is told of a loss.
/// (`Admission`, which only its own module can make, has a test there, and axum's extractor in `doors::handshake`.)
#[test]
fn no_debug_text_has_the_url_or_the_headers_of_a_request_in_it() {
    use tower_transport::{
        stack::pool::PoolBuilder,
        transport::{LostConnection, websocket::WebSocketConnector},
    };

    let url = format!("https://user:{TAINT}@example.com/{TAINT}?token={TAINT}");
    let request = http::Request::get(url).header("x-token", TAINT).body(()).unwrap();
    let pool = PoolBuilder::new(WebSocketConnector::new(), request);
    let (mut answer, ()) = http::Response::new(()).into_parts();
    answer.headers.insert("set-cookie", TAINT.parse().unwrap());
    let lost = LostConnection::new(Error::closed("cut"), Arc::new(answer));
    for shown in [&pool as &dyn std::fmt::Debug, &lost] {
        let text = format!("{shown:?} {shown:#?}");
        assert!(!text.contains("taint"), "{text}");
    }
}
