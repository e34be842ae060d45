//! One staggered race over all addresses of a name (RFC 8305), for every transport.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::net::lookup_host;

use crate::{Error, rt};

/// The delay before the next address is tried (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// The maximum number of addresses tried per name.
const MAX_ADDRESSES: usize = 8;

/// Resolves `host` and makes an `attempt` at each of its addresses, alternating between address families. The next
/// attempt begins when the previous one has failed or has taken 250 ms. The first one that succeeds ends the others.
pub(super) async fn connect<T, F>(host: &str, port: u16, attempt: impl Fn(SocketAddr) -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let fail = |error| Error::dns(format!("the name `{host}` did not resolve")).with_source(error);
    let addresses = lookup_host((host, port)).await.map_err(fail)?.collect();
    match race(addresses, attempt).await {
        Some(result) => result,
        None => Err(Error::dns(format!("the name `{host}` has no address"))),
    }
}

/// Races `attempt` over `addresses`. Returns `None` if there is no address.
pub(super) async fn race<T, F>(
    addresses: Vec<SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
) -> Option<Result<T, Error>>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut addresses = alternate(addresses).into_iter();
    let mut attempts = Vec::new();
    let mut failed = None;
    loop {
        if let Some(address) = addresses.next() {
            attempts.push(Box::pin(attempt(address)));
        }
        if attempts.is_empty() {
            return failed.map(Err);
        }
        let is_last = addresses.len() == 0;
        // Made only when it is polled: a single address must not need a runtime with timers.
        let mut turn = pin!(async { rt::sleep(STAGGER).await });
        let next = poll_fn(|cx| match poll_any(&mut attempts, cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if is_last => Poll::Pending,
            Poll::Pending => turn.as_mut().poll(cx).map(|()| None),
        });
        match next.await {
            Some(Ok(connected)) => return Some(Ok(connected)),
            Some(Err(error)) => failed = Some(worse(failed, error)),
            None => {}
        }
    }
}

/// Polls all attempts, of which there are few, and removes the first that has ended.
fn poll_any<F: Future>(attempts: &mut Vec<Pin<Box<F>>>, cx: &mut Context<'_>) -> Poll<F::Output> {
    for i in 0..attempts.len() {
        if let Poll::Ready(ended) = attempts[i].as_mut().poll(cx) {
            drop(attempts.remove(i));
            return Poll::Ready(ended);
        }
    }
    Poll::Pending
}

/// Returns the more informative of two failures. A missing address family, or a refused connection, is the least
/// informative.
fn worse(before: Option<Error>, error: Error) -> Error {
    match before {
        Some(before) if error.is_refused() => before,
        _ => error,
    }
}

/// Alternates between the address families and keeps the resolver's order within each (RFC 8305, section 4).
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second) = addresses.into_iter().partition::<Vec<_>, _>(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::new();
    loop {
        let before = turns.len();
        turns.extend(first.next());
        turns.extend(second.next());
        if turns.len() == before {
            turns.truncate(MAX_ADDRESSES);
            return turns;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, future::pending};

    use tokio::time::Instant;

    use super::*;

    fn parse(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn the_families_take_turns_and_the_resolvers_first_goes_first() {
        let found = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        assert_eq!(alternate(found), parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]));
        let found = parse(&["1.1.1.1:1", "[::1]:1"]);
        assert_eq!(alternate(found.clone()), found);
        assert!(alternate(Vec::new()).is_empty());
        assert_eq!(alternate(vec!["1.1.1.1:1".parse().unwrap(); 100]).len(), MAX_ADDRESSES);
    }

    #[test]
    fn of_several_failures_the_one_that_says_the_most_is_given() {
        let worse = |a: Error, b: Error| worse(Some(a), b);
        assert!(worse(Error::tls(""), Error::refused("")).is_tls());
        assert!(worse(Error::refused(""), Error::tls("")).is_tls());
        assert!(worse(Error::refused(""), Error::refused("")).is_refused());
    }

    /// Races over `1.1.1.<n>`, one for each entry of `what`; `None` never answers. Returns the winner or the error, the
    /// time it took, and the start of each attempt.
    async fn run(what: &[Option<Result<(), ()>>]) -> (Option<Result<u8, Error>>, u128, Vec<u128>) {
        let start = Instant::now();
        let begun = RefCell::new(Vec::new());
        let addresses = (0..what.len()).map(|n| SocketAddr::from(([1, 1, 1, n as u8], 1))).collect();
        let won = race(addresses, |address| {
            begun.borrow_mut().push(start.elapsed().as_millis());
            let SocketAddr::V4(address) = address else { unreachable!() };
            let n = address.ip().octets()[3];
            let what = what[usize::from(n)];
            async move {
                match what {
                    Some(Ok(())) => Ok(n),
                    Some(Err(())) => Err(Error::refused("")),
                    None => pending().await,
                }
            }
        })
        .await;
        (won, start.elapsed().as_millis(), begun.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_costs_the_next_one_of_its_family_a_quarter_of_a_second() {
        let (won, after, begun) = run(&[None, Some(Ok(()))]).await;
        assert_eq!((won.unwrap().unwrap(), after, begun), (1, 250, vec![0, 250]));
        let (won, after, _) = run(&[None, None, None, Some(Ok(()))]).await;
        assert_eq!((won.unwrap().unwrap(), after), (3, 750));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_the_next_address_is_tried_at_once() {
        let (won, after, begun) = run(&[Some(Err(())), Some(Err(())), Some(Ok(())), Some(Ok(()))]).await;
        assert_eq!((won.unwrap().unwrap(), after, begun), (2, 0, vec![0, 0, 0]));
        let (won, after, _) = run(&[Some(Err(())), Some(Err(()))]).await;
        assert!(won.unwrap().unwrap_err().is_refused() && after == 0);
        assert!(run(&[]).await.0.is_none());
    }
}
