use futures_util::future::join_all;
use tower_transport::layer::auth::{Reason, Tokens};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

async fn get<S: TokenSource>(tokens: &Tokens<S>) -> String {
    tokens.get().await.unwrap().secret().expose().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_token_is_fetched_once_until_shortly_before_it_expires() {
    let count = Count::default();
    let tokens = Tokens::new(numbered(&count, Some(10 * MINUTE)));
    assert_eq!(get(&tokens).await, "token-1");
    tokio::time::advance(Duration::from_secs(569)).await;
    assert_eq!(get(&tokens.clone()).await, "token-1");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(get(&tokens).await, "token-2");
    assert_eq!(count.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_lives_no_longer_than_the_margin_serves_for_half_its_life() {
    let count = Count::default();
    let tokens = Tokens::new(numbered(&count, Some(Duration::from_secs(20))));
    get(&tokens).await;
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(get(&tokens).await, "token-1");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(get(&tokens).await, "token-2");
}

#[tokio::test(start_paused = true)]
async fn all_who_want_a_token_at_once_share_one_fetch() {
    let count = Count::default();
    let tokens = Tokens::new(numbered(&count, None));
    let all = join_all((0..100).map(|_| tokens.get())).await;
    assert!(all.into_iter().all(|token| token.unwrap().secret().expose() == "token-1"));
    assert_eq!(count.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_does_not_take_the_fetch_from_the_others() {
    let count = Count::default();
    let tokens = Tokens::new(numbered(&count, None));
    let mut first = Box::pin(tokens.get());
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    let second = tokens.get();
    drop(first);
    assert_eq!(second.await.unwrap().secret().expose(), "token-1");
    assert_eq!(count.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_nobody_waits_for_any_more_is_dropped() {
    let count = Count::default();
    let tokens = Tokens::new(numbered(&count, None));
    let mut first = Box::pin(tokens.get());
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    drop(first);
    assert_eq!(get(&tokens).await, "token-2");
}

#[tokio::test(start_paused = true)]
async fn while_the_source_fails_a_token_that_is_still_good_is_given() {
    let count = Count::default();
    let calls = count.clone();
    let tokens = Tokens::new(service_fn(move |_: TokenRequest| {
        ready(match calls.up() {
            1 => Ok(Token::new("token-1").expires_in(MINUTE)),
            _ => Err(Error::refused("the token endpoint is down")),
        })
    }));
    get(&tokens).await;
    tokio::time::advance(Duration::from_secs(45)).await;
    assert_eq!(get(&tokens).await, "token-1");
    tokio::time::advance(Duration::from_secs(20)).await;
    let error = tokens.get().await.unwrap_err();
    assert!(error.is_refused(), "the kind is the source's: {error}");
    assert_eq!(count.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_source_is_told_why_a_token_is_wanted() {
    let (sender, mut reasons) = tokio::sync::mpsc::unbounded_channel();
    let tokens = Tokens::new(service_fn(move |request: TokenRequest| {
        sender.send(request.reason).unwrap();
        ready(Ok::<_, Error>(Token::new("t").expires_in(MINUTE)))
    }));
    get(&tokens).await;
    tokio::time::advance(2 * MINUTE).await;
    get(&tokens).await;
    tokens.forget();
    get(&tokens).await;
    assert_eq!(reasons.recv().await, Some(Reason::First));
    assert_eq!(reasons.recv().await, Some(Reason::Expired));
    assert_eq!(reasons.recv().await, Some(Reason::Refused));
}

/// A source whose `clone` looks at the tokens that it serves.
struct Curious(Arc<std::sync::OnceLock<Tokens<Self>>>);

impl Clone for Curious {
    fn clone(&self) -> Self {
        if let Some(tokens) = self.0.get() {
            tokens.forget();
            assert!(format!("{tokens:?}").contains("Tokens"));
        }
        Self(self.0.clone())
    }
}

impl tower::Service<TokenRequest> for Curious {
    type Response = Token;
    type Error = Error;
    type Future = std::future::Ready<Result<Token, Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: TokenRequest) -> Self::Future {
        ready(Ok(Token::new("t0k")))
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_looks_at_its_tokens_while_it_is_cloned_meets_no_lock() {
    let own = Arc::new(std::sync::OnceLock::new());
    let tokens = Tokens::new(Curious(own.clone()));
    assert!(own.set(tokens.clone()).is_ok());
    assert_eq!(tokens.get().await.unwrap().secret().expose(), "t0k");
}
