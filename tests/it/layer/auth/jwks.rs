use std::sync::Mutex;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use jsonwebtoken::jwk::Jwk;
use tower::ServiceExt;
use tower_transport::layer::auth::{Claims, Credentials, JwksVerifier, JwtRules, KeySource};

use super::*;

type Set = Arc<Mutex<Result<String, Error>>>;

/// A key in the set, under this id.
fn jwk(algorithm: Algorithm, id: &str) -> Value {
    let mut jwk = Jwk::from_encoding_key(&signer(algorithm), algorithm).unwrap();
    jwk.common.key_id = Some(id.to_owned());
    serde_json::to_value(jwk).unwrap()
}

fn set(keys: &[Value]) -> Set {
    Arc::new(Mutex::new(Ok(json!({ "keys": keys }).to_string())))
}

fn source(set: &Set, count: &Count) -> impl KeySource<Future: Send> + use<> {
    let (set, count) = (set.clone(), count.clone());
    service_fn(move |()| {
        count.up();
        let set = set.lock().unwrap().clone();
        async move {
            tokio::task::yield_now().await;
            set
        }
    })
}

fn verifier(set: &Set, count: &Count) -> JwksVerifier<impl KeySource<Future: Send> + use<>> {
    JwksVerifier::new(source(set, count), JwtRules::new().audience("feed"))
}

async fn verify<S: KeySource>(verifier: &JwksVerifier<S>, token: String) -> Result<Claims, Error> {
    verifier.clone().oneshot(Credentials::Bearer(token.into())).await
}

fn token(algorithm: Algorithm, id: &str) -> String {
    sign_with_id(algorithm, id, &good_claims())
}

#[tokio::test(start_paused = true)]
async fn the_set_is_fetched_with_the_first_token_and_kept() {
    let (set, count) =
        (set(&[jwk(Algorithm::RS256, "a"), jwk(Algorithm::ES256, "b"), jwk(Algorithm::EdDSA, "c")]), Count::default());
    let verifier = verifier(&set, &count);
    for (algorithm, id) in [(Algorithm::RS256, "a"), (Algorithm::ES256, "b"), (Algorithm::EdDSA, "c")] {
        assert_eq!(verify(&verifier, token(algorithm, id)).await.unwrap().subject.as_deref(), Some("ada"));
    }
    verify(&verifier, sign(Algorithm::ES256, &good_claims())).await.unwrap();
    assert_eq!(count.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_is_found_by_the_first_token_of_the_new_key() {
    let (set, count) = (set(&[jwk(Algorithm::RS256, "old")]), Count::default());
    let verifier = verifier(&set, &count);
    verify(&verifier, token(Algorithm::RS256, "old")).await.unwrap();
    *set.lock().unwrap() = Ok(json!({ "keys": [jwk(Algorithm::ES256, "new")] }).to_string());
    tokio::time::advance(Duration::from_secs(61)).await;
    verify(&verifier, token(Algorithm::ES256, "new")).await.unwrap();
    assert!(verify(&verifier, token(Algorithm::RS256, "old")).await.unwrap_err().is_auth(), "it was taken out");
    assert_eq!(count.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn unknown_keys_cause_one_fetch_a_minute_however_many_tokens_name_them() {
    let (set, count) = (set(&[jwk(Algorithm::RS256, "a")]), Count::default());
    let verifier = verifier(&set, &count);
    for id in 0..100 {
        let error = verify(&verifier, token(Algorithm::ES256, &format!("guess-{id}"))).await.unwrap_err();
        assert!(error.is_auth());
    }
    assert_eq!(count.get(), 1);
    tokio::time::advance(Duration::from_secs(61)).await;
    let all = join_all((0..20).map(|id| verify(&verifier, token(Algorithm::ES256, &format!("again-{id}"))))).await;
    assert!(all.iter().all(Result::is_err));
    assert_eq!(count.get(), 2);
    verify(&verifier, token(Algorithm::RS256, "a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_set_that_cannot_be_fetched_is_no_fault_of_the_peers() {
    let (set, count) = (Set::new(Mutex::new(Err(Error::dns("no such host")))), Count::default());
    let verifier = verifier(&set, &count);
    assert!(verify(&verifier, token(Algorithm::RS256, "a")).await.unwrap_err().is_dns());
    let error = verify(&verifier, token(Algorithm::RS256, "a")).await.unwrap_err();
    assert!(!error.is_auth(), "{error}");
    assert_eq!(count.get(), 1);
    *set.lock().unwrap() = Ok(json!({ "keys": [jwk(Algorithm::RS256, "a")] }).to_string());
    tokio::time::advance(Duration::from_secs(7)).await;
    verify(&verifier, token(Algorithm::RS256, "a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_old_set_is_fetched_anew_and_serves_for_a_day_if_that_fails() {
    let hour = Duration::from_secs(3600);
    let (set, count) = (set(&[jwk(Algorithm::RS256, "a")]), Count::default());
    let verifier = verifier(&set, &count);
    let claims = json!({ "aud": "feed", "exp": now() + 86_400 * 10 });
    let token = sign_with_id(Algorithm::RS256, "a", &claims);
    verify(&verifier, token.clone()).await.unwrap();
    *set.lock().unwrap() = Err(Error::dns("no such host"));
    tokio::time::advance(hour).await;
    verify(&verifier, token.clone()).await.unwrap();
    assert_eq!(count.get(), 2);
    tokio::time::advance(23 * hour).await;
    assert!(verify(&verifier, token).await.unwrap_err().is_dns());
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_not_for_signatures_are_left_out_and_the_rest_is_used() {
    let mut enc = jwk(Algorithm::RS256, "enc");
    enc["use"] = json!("enc");
    let mut wrong = jwk(Algorithm::ES256, "wrong");
    wrong["alg"] = json!("RS256");
    let short = json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64_URL_SAFE_NO_PAD.encode("short"), "kid": "short" });
    let hmac = json!({ "kty": "oct", "k": BASE64_URL_SAFE_NO_PAD.encode(SECRET), "kid": "hmac", "alg": "HS256" });
    let odd = json!({ "kty": "AKP", "kid": "odd", "alg": "ML-DSA-44" });
    let mistyped =
        json!({ "kty": "RSA", "kid": "mistyped", "alg": "RS256", "n": 7, "e": ["AQAB"], "key_ops": "verify" });
    let keys = [enc, wrong, short, hmac, odd, mistyped, json!(7), json!(null), jwk(Algorithm::EdDSA, "good")];
    let (set, count) = (set(&keys), Count::default());
    let verifier = verifier(&set, &count);
    verify(&verifier, token(Algorithm::EdDSA, "good")).await.unwrap();
    for (algorithm, id) in [
        (Algorithm::RS256, "enc"),
        (Algorithm::ES256, "wrong"),
        (Algorithm::EdDSA, "short"),
        (Algorithm::RS256, "mistyped"),
        (Algorithm::HS256, "hmac"),
        (Algorithm::HS256, "good"),
    ] {
        assert!(verify(&verifier, token(algorithm, id)).await.unwrap_err().is_auth(), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_set_is_an_error_and_not_an_empty_one() {
    for (text, is_too_large) in [("<html>", false), (r#"{"key":[]}"#, false), (&*" ".repeat(300_000), true)] {
        let set = Set::new(Mutex::new(Ok(text.to_owned())));
        let error = verify(&verifier(&set, &Count::default()), token(Algorithm::RS256, "a")).await.unwrap_err();
        assert!(if is_too_large { error.is_too_large() } else { error.is_codec() }, "{error}");
    }
}

/// A source whose fetches take this long; counts those that began and those that ended.
fn slow_source(set: &Set, time: Duration, begun: &Count, ended: &Count) -> impl KeySource + use<> {
    let (set, begun, ended) = (set.clone(), begun.clone(), ended.clone());
    service_fn(move |()| {
        begun.up();
        let (set, ended) = (set.lock().unwrap().clone(), ended.clone());
        async move {
            tokio::time::sleep(time).await;
            ended.up();
            set
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_hangs_up_does_not_end_the_fetch_that_it_began() {
    let (begun, ended) = (Count::default(), Count::default());
    let set = set(&[jwk(Algorithm::RS256, "a")]);
    let source = slow_source(&set, Duration::from_millis(100), &begun, &ended);
    let verifier = JwksVerifier::<_, ()>::new(source, JwtRules::new().audience("feed"));
    for minute in 0..60 {
        let unknown = verify(&verifier, token(Algorithm::ES256, &format!("guess-{minute}")));
        assert!(futures_util::FutureExt::now_or_never(unknown).is_none(), "it waits for a fetch");
        tokio::time::sleep(Duration::from_secs(61)).await;
    }
    assert_eq!((begun.get(), ended.get()), (60, 60));
    verify(&verifier, token(Algorithm::RS256, "a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_interval_counts_from_the_end_of_a_fetch_and_one_at_a_time_is_under_way() {
    let (begun, ended) = (Count::default(), Count::default());
    let source = slow_source(&set(&[jwk(Algorithm::RS256, "a")]), Duration::from_secs(20), &begun, &ended);
    let verifier = JwksVerifier::<_, ()>::new(source, JwtRules::new().audience("feed"));
    for second in 0..80 {
        let unknown = verify(&verifier, token(Algorithm::ES256, &format!("guess-{second}")));
        let _ = futures_util::FutureExt::now_or_never(unknown);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((begun.get(), ended.get()), (1, 1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _ = futures_util::FutureExt::now_or_never(verify(&verifier, token(Algorithm::ES256, "guess")));
    assert_eq!(begun.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_never_answers_has_failed_after_the_time_for_a_fetch() {
    let (begun, ended) = (Count::default(), Count::default());
    let source = slow_source(&set(&[jwk(Algorithm::RS256, "a")]), Duration::from_secs(86_400), &begun, &ended);
    let verifier = JwksVerifier::<_, ()>::new(source, JwtRules::new().audience("feed"))
        .fetch_timeout(Duration::from_secs(7))
        .interval(Duration::from_secs(60));
    let start = tokio::time::Instant::now();
    let error = verify(&verifier, token(Algorithm::RS256, "a")).await.unwrap_err();
    assert!(error.is_timeout() && !error.is_auth(), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 7, "on the paused clock");
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(verify(&verifier, token(Algorithm::RS256, "a")).await.unwrap_err().is_timeout());
    assert_eq!((begun.get(), ended.get()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_delays_the_tokens_of_known_keys_once_and_is_asked_on() {
    let hour = Duration::from_secs(3600);
    let (begun, ended) = (Count::default(), Count::default());
    let hangs = Arc::new(Mutex::new(false));
    let (set, is_hanging, calls) = (set(&[jwk(Algorithm::RS256, "a")]), hangs.clone(), begun.clone());
    let source = service_fn(move |()| {
        calls.up();
        let (set, hangs) = (set.lock().unwrap().clone(), *is_hanging.lock().unwrap());
        let ended = ended.clone();
        async move {
            if hangs {
                never::<()>().await;
            }
            ended.up();
            set
        }
    });
    let verifier = JwksVerifier::<_, ()>::new(source, JwtRules::new().audience("feed"));
    let claims = json!({ "aud": "feed", "exp": now() + 86_400 });
    let token = || sign_with_id(Algorithm::RS256, "a", &claims);
    verify(&verifier, token()).await.unwrap();
    *hangs.lock().unwrap() = true;
    tokio::time::advance(hour).await;
    let mut waits = Vec::new();
    for _ in 0..20 {
        let start = tokio::time::Instant::now();
        verify(&verifier, token()).await.unwrap();
        waits.push(start.elapsed().as_secs());
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert_eq!((waits[0], waits[1..].iter().sum::<u64>()), (30, 0), "{waits:?}");
    assert!(begun.get() > 3, "it is asked again in the background");
    *hangs.lock().unwrap() = false;
    tokio::time::sleep(Duration::from_secs(60)).await;
    for _ in 0..2 {
        verify(&verifier, token()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let asked = begun.get();
    verify(&verifier, token()).await.unwrap();
    assert_eq!(begun.get(), asked, "the set is new");
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_old_at_once_is_fetched_for_each_token_and_used() {
    let count = Count::default();
    let verifier =
        verifier(&set(&[jwk(Algorithm::RS256, "a")]), &count).max_age(Duration::ZERO).interval(Duration::ZERO);
    for number in 1..=3 {
        verify(&verifier, token(Algorithm::RS256, "a")).await.unwrap();
        assert_eq!(count.get(), number);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_read_does_not_take_the_set_down() {
    let mut wrong = jwk(Algorithm::RS256, "wrong");
    wrong["key_ops"] = json!(7);
    let mut half = jwk(Algorithm::ES256, "half");
    half["x"] = Value::Null;
    let set = set(&[wrong, json!("no key at all"), half, json!({}), jwk(Algorithm::EdDSA, "good")]);
    let verifier = verifier(&set, &Count::default());
    verify(&verifier, token(Algorithm::EdDSA, "good")).await.unwrap();
    assert!(verify(&verifier, token(Algorithm::RS256, "wrong")).await.unwrap_err().is_auth());
}

#[test]
fn a_runtime_without_timers_fetches_the_set_without_a_limit() {
    crate::locks::in_time(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (set, count) = (set(&[jwk(Algorithm::ES256, "a")]), Count::default());
            verify(&verifier(&set, &count), token(Algorithm::ES256, "a")).await.unwrap();
        });
    });
}
