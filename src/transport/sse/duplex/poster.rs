//! Delivery of a batch to the server by POSTs, which are resent after losses until all of the batch is acknowledged.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{
    names::{self, HOLD, MESSAGES, SEQUENCE, SESSION},
    outbox::Batch,
};
use crate::{Error, Limits, MaybeSend, rt, transport::framing};

/// The maximum number of resends of a POST before the session is given up.
const RETRIES: u32 = 4;

/// The delay before the second resend of a POST, doubled for each further one.
const BACKOFF: Duration = Duration::from_millis(100);

/// The number of bytes for which a POST gets one more second.
const BYTES_A_SECOND: usize = 16 * 1024;

/// The size of the first POST, in bytes, and of the first one after a POST that timed out.
pub(super) const FIRST_POST: usize = 64 * 1024;

/// The size of a POST, as the line carries it.
///
/// A POST counts as one step: a slow line would carry a long one for minutes, in which nobody can tell it from a dead
/// one, since the operating system and proxies take its bytes at once. So POSTs begin small, and grow while they are
/// answered soon.
///
/// | a POST of this size | the next size |
/// |---|---|
/// | is answered within [`SOON`](Self::SOON) | twice as large, up to the batch: `max_post` |
/// | is answered within [`LATE`](Self::LATE) | the same |
/// | is answered later | half of it |
/// | is not answered in time | [`FIRST_POST`] |
#[derive(Debug)]
pub(super) struct PostSize(usize);

impl Default for PostSize {
    fn default() -> Self {
        Self(FIRST_POST)
    }
}

impl PostSize {
    const SOON: Duration = Duration::from_secs(1);
    const LATE: Duration = Duration::from_secs(4);

    /// Records that a POST of `bytes` was answered after `time`.
    fn answered(&mut self, bytes: usize, time: Duration) {
        if time > Self::LATE {
            self.0 = (self.0.min(bytes) / 2).max(1);
        } else if time <= Self::SOON && bytes > self.0 / 2 {
            self.0 = self.0.saturating_mul(2);
        }
    }

    fn timed_out(&mut self) {
        self.0 = self.0.min(FIRST_POST);
    }
}

/// The HTTP client that sends POSTs.
pub(super) trait Post {
    /// Sends one, and returns the answer with its whole body.
    ///
    /// # Errors
    ///
    /// The flag says whether the same POST would fail in the same way again.
    fn post(
        &mut self,
        headers: HeaderMap,
        body: Bytes,
    ) -> impl Future<Output = Result<Response<Bytes>, (Error, bool)>> + MaybeSend;

    /// Gives up the connection that is kept between two POSTs.
    fn reset(&mut self);

    /// Returns the error of an answer that refuses a POST.
    fn refusal(status: StatusCode, headers: HeaderMap, body: Bytes) -> Error;
}

/// The sender of POSTs.
pub(super) struct Poster<P> {
    pub(super) client: P,
    /// The headers of the request that opened the session.
    pub(super) headers: HeaderMap,
    pub(super) limits: Limits,
    /// Whether the server accepts parts. Such a server also reports in its rejections how many messages it has taken.
    pub(super) takes_parts: bool,
    pub(super) size: PostSize,
}

/// The reason why a POST failed.
enum Failure {
    /// The POST may have been lost, or the route may be temporarily blocked.
    Transit(Error),
    /// The server or an intermediary rejected it.
    Refused(Lost),
}

/// The reason why nothing can be sent any more.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) error: Error,
    /// Whether the server may have more to say with its last messages and its close, because it knows about the
    /// failure.
    pub(super) has_last_words: bool,
}

impl Lost {
    /// Creates a failure that the server does not know about.
    fn unheard(error: Error) -> Self {
        Self { error, has_last_words: false }
    }
}

impl<P: Post> Poster<P> {
    /// Returns the headers of every POST.
    pub(super) fn headers(mut headers: HeaderMap, token: HeaderValue) -> HeaderMap {
        // The user's headers are kept, except those that concern the GET.
        for name in [header::ACCEPT, header::CACHE_CONTROL, header::SEC_WEBSOCKET_PROTOCOL] {
            headers.remove(name);
        }
        headers.insert(header::CONTENT_TYPE, MESSAGES);
        headers.insert(SESSION, token);
        headers
    }

    /// Sends `batch` until all of it is acknowledged, and tells `answered` how many bytes each answer acknowledges. An
    /// error is final.
    pub(super) async fn deliver(&mut self, mut batch: Batch, answered: impl Fn(usize)) -> Result<(), Lost> {
        let mut failures = 0;
        let mut since = None;
        let mut without_room = 0_u32;
        while !batch.is_empty() {
            let (_, length) = framing::fitting(&batch.bytes, self.size.0);
            let time = time_for(self.limits.handshake, length);
            let start = rt::Instant::now();
            let body = batch.bytes.slice(..length);
            // A POST that times out may have arrived. It is sent again all the same: the server skips what it has.
            let failure = match rt::timeout(time, self.post(batch.numbers.start, body)).await {
                Ok(Ok(due)) => {
                    self.size.answered(length, start.elapsed());
                    let (before, waiting) = (batch.numbers.start, batch.bytes.len());
                    batch.acknowledge(due).map_err(Lost::unheard)?;
                    answered(waiting - batch.bytes.len());
                    if due > before || start.elapsed() >= HOLD / 2 {
                        (failures, since) = (0, None);
                        without_room = if due > before { 0 } else { u32::saturating_add(without_room, 1) };
                        // The server has waited long enough for room, and there is still no room.
                        if without_room > 0 {
                            rt::sleep(pause_without_room(without_room)).await;
                        }
                        continue;
                    }
                    // Otherwise the whole body would be resent over and over, as fast as the connection allows.
                    Error::protocol("the server accepted nothing of a POST and did not wait for room")
                }
                Ok(Err(Failure::Refused(lost))) => return Err(lost),
                Ok(Err(Failure::Transit(error))) => error,
                Err(_) => {
                    self.size.timed_out();
                    Error::timeout(format!("a POST of {length} bytes was not answered within {time:?}"))
                }
            };
            // The state of the connection is unknown, and the next attempt may take another route.
            self.client.reset();
            failures += 1;
            // Counted from the first failure in a row: a long transfer that succeeds is not held against the server.
            let elapsed = since.get_or_insert_with(rt::Instant::now).elapsed();
            if failures > RETRIES || elapsed > self.limits.handshake {
                let what = format!("messages could not be sent up in {failures} attempts");
                return Err(Lost { error: Error::closed(what).with_source(failure), has_last_words: true });
            }
            rt::sleep(self.pause(failures, &failure)).await;
        }
        Ok(())
    }

    /// The first resend is immediate: a kept-alive connection may have been closed meanwhile.
    fn pause(&self, failures: u32, failure: &Error) -> Duration {
        let own = if failures == 1 { Duration::ZERO } else { BACKOFF * (1 << (failures - 2).min(10)) };
        failure.retry_after().map_or(own, |asked| asked.min(self.limits.handshake))
    }

    /// Sends messages and parts, the first of which has this number. Returns the number that the server expects next.
    async fn post(&mut self, number: u64, body: Bytes) -> Result<u64, Failure> {
        let length = body.len();
        let mut headers = self.headers.clone();
        headers.insert(SEQUENCE, number.into());
        let answer = self.client.post(headers, body).await.map_err(|(error, is_final)| match is_final {
            true => Failure::Refused(Lost::unheard(error)),
            false => Failure::Transit(error),
        })?;
        let (head, body) = answer.into_parts();
        if head.status.is_success() {
            return names::number(&head.headers).ok_or_else(|| {
                // This is, for example, a captive portal's page that replaces the server's response: nothing was taken.
                let status = head.status;
                let what = format!(
                    "the answer to a POST ({status}) does not say which message is due: it is not the server's"
                );
                Failure::Transit(Error::protocol(what))
            });
        }
        Err(self.refused(length, head.status, head.headers, body))
    }

    /// Interprets an unsuccessful response to a POST of `bytes`.
    fn refused(&self, bytes: usize, status: StatusCode, headers: HeaderMap, body: Bytes) -> Failure {
        let what = match status {
            StatusCode::PAYLOAD_TOO_LARGE => format!(
                "a POST of {bytes} bytes was answered with {status}: the server or a proxy on the way takes less \
                 (SseDuplexConnector::max_post; nginx: client_max_body_size)"
            ),
            _ => format!("a POST was answered with {status}"),
        };
        let due = names::number(&headers);
        let refusal = P::refusal(status, headers, body).into_refused_post(what);
        match status {
            // These come from a proxy that did not reach the server, or from a limiter that will accept it later.
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Failure::Transit(refusal),
            // An older, delayed POST of ours arrived after this one. With a number it is a gap, which is permanent.
            StatusCode::CONFLICT if due.is_none() => Failure::Transit(refusal),
            StatusCode::NOT_FOUND => {
                let error = Error::closed("the server does not know the session any more").with_source(refusal);
                Failure::Refused(Lost { error, has_last_words: true })
            }
            _ => Failure::Refused(Lost {
                has_last_words: due.is_some() || !self.takes_parts,
                error: refusal.context("the server refused messages that were sent up"),
            }),
        }
    }
}

/// Returns the delay after `answers` responses in a row that had waited for room and took nothing.
fn pause_without_room(answers: u32) -> Duration {
    (BACKOFF * (1 << answers.saturating_sub(1).min(10))).min(HOLD)
}

/// Returns the time limit for a POST of `bytes`: the time that the server may hold it, a new connection, and the
/// transfer.
fn time_for(handshake: Duration, bytes: usize) -> Duration {
    let bytes = Duration::from_secs((bytes / BYTES_A_SECOND) as u64);
    HOLD.saturating_add(handshake).saturating_add(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posts_grow_while_they_are_answered_soon_and_shrink_when_late() {
        let (soon, late) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut size = PostSize::default();
        size.answered(100, soon);
        assert_eq!(size.0, FIRST_POST, "a short one says little of the line");
        size.answered(FIRST_POST, soon);
        size.answered(2 * FIRST_POST, soon);
        assert_eq!(size.0, 4 * FIRST_POST);
        size.answered(4 * FIRST_POST, Duration::from_secs(2));
        assert_eq!(size.0, 4 * FIRST_POST);
        size.answered(4 * FIRST_POST, late);
        assert_eq!(size.0, 2 * FIRST_POST);
        size.timed_out();
        assert_eq!(size.0, FIRST_POST);
        size.answered(10, late);
        size.timed_out();
        assert_eq!(size.0, 5);
        (0..10).for_each(|_| size.answered(1, late));
        assert_eq!(size.0, 1);
        (0..80).for_each(|_| size.answered(usize::MAX, soon));
        assert_eq!(size.0, usize::MAX);
    }

    #[test]
    fn who_has_no_room_is_asked_less_and_less_often() {
        let pauses: Vec<_> = (1..10).map(|answers| pause_without_room(answers).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(pause_without_room(u32::MAX), HOLD);
    }
}
