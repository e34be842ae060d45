//! How a batch gets to the server: POSTs, again where one was lost, until all of it is acknowledged.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;

use super::{
    head::{self, MESSAGES, SEQUENCE, SESSION},
    line::Line,
    outbox::Batch,
    receive::HOLD,
};
use crate::{
    Error, Limits, rt,
    transport::dial::{self, Dialer, Target, http_error, read_body},
};

/// How often a POST is sent again before the session is given up.
const RETRIES: u32 = 4;

/// How long is waited before a POST is sent again for the second time; then twice as long each time.
const BACKOFF: Duration = Duration::from_millis(100);

/// A POST may take a second more for each of these of its bytes.
const BYTES_A_SECOND: usize = 16 * 1024;

pub(super) struct Courier {
    pub(super) dialer: Dialer,
    pub(super) target: Target,
    /// Those of the request that opened the session.
    pub(super) headers: HeaderMap,
    pub(super) limits: Limits,
    pub(super) line: Option<Line>,
    /// The server is one that takes parts, and so one whose refusals say how far it came.
    pub(super) takes_parts: bool,
}

/// Why a POST came to nothing.
enum Failure {
    /// It may have been lost, or the way be blocked for a while.
    Transit(Error),
    /// The server does not want it, or something on the way.
    Refused(Lost),
}

/// Why nothing goes up any more.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) error: Error,
    /// The server may have more to say, by its last messages and its close: it knows of this.
    pub(super) has_last_words: bool,
}

impl Lost {
    /// The server does not know of it.
    fn unheard(error: Error) -> Self {
        Self { error, has_last_words: false }
    }
}

impl Courier {
    /// The headers of every POST.
    pub(super) fn headers(mut headers: HeaderMap, token: HeaderValue) -> HeaderMap {
        // What the user wrote stays, but for what was about the GET.
        for name in [header::ACCEPT, header::CACHE_CONTROL, header::SEC_WEBSOCKET_PROTOCOL] {
            headers.remove(name);
        }
        headers.insert(header::CONTENT_TYPE, MESSAGES);
        headers.insert(SESSION, token);
        headers
    }

    /// Sends `batch` until all of it is acknowledged. An error is final.
    pub(super) async fn deliver(&mut self, mut batch: Batch) -> Result<(), Lost> {
        let mut failures = 0;
        let mut since = None;
        let mut without_room = 0_u32;
        while !batch.is_empty() {
            let time = time_for(self.limits.handshake, batch.bytes.len());
            let start = rt::Instant::now();
            let failure = match rt::timeout(time, self.post(&batch)).await {
                Ok(Ok(due)) => {
                    let before = batch.numbers.start;
                    batch.acknowledge(due).map_err(Lost::unheard)?;
                    if due > before || start.elapsed() >= HOLD / 2 {
                        (failures, since) = (0, None);
                        without_room = if due > before { 0 } else { u32::saturating_add(without_room, 1) };
                        // It has waited for room long enough, and there is none yet.
                        if without_room > 0 {
                            rt::sleep(pause_without_room(without_room)).await;
                        }
                        continue;
                    }
                    // All of it would go up again and again, as fast as the line takes it.
                    Error::protocol("the server took nothing of a POST, and did not wait for room")
                }
                Ok(Err(Failure::Refused(lost))) => return Err(lost),
                Ok(Err(Failure::Transit(error))) => error,
                Err(_) => Error::timeout(format!("a POST was not answered within {time:?}")),
            };
            self.line = None;
            failures += 1;
            let elapsed = since.get_or_insert_with(rt::Instant::now).elapsed();
            if failures > RETRIES || elapsed > self.limits.handshake {
                let what = format!("messages could not be sent up in {failures} attempts");
                return Err(Lost { error: Error::closed(what).with_source(failure), has_last_words: true });
            }
            rt::sleep(self.pause(failures, &failure)).await;
        }
        Ok(())
    }

    /// The first time at once: a connection that was kept may have been closed meanwhile.
    fn pause(&self, failures: u32, failure: &Error) -> Duration {
        let own = if failures == 1 { Duration::ZERO } else { BACKOFF * (1 << (failures - 2).min(10)) };
        failure.retry_after().map_or(own, |asked| asked.min(self.limits.handshake))
    }

    async fn post(&mut self, batch: &Batch) -> Result<u64, Failure> {
        let request = self.request(batch);
        let line = self.line().await?;
        let response = line.request(request).await.map_err(|error| Failure::Transit(http_error(error)))?;
        let (head, body) = response.into_parts();
        let body = line.drive(read_body(body)).await;
        if head.status.is_success() {
            return head::number(&head.headers).ok_or_else(|| {
                // A portal's page, say, that a proxy shows in place of the server's answer: nothing was taken.
                let status = head.status;
                let what = format!(
                    "the answer to a POST ({status}) does not say which message is due: it is not the server's"
                );
                Failure::Transit(Error::protocol(what))
            });
        }
        Err(self.refused(batch.bytes.len(), head.status, head.headers, body))
    }

    async fn line(&mut self) -> Result<&mut Line, Failure> {
        let mut kept = self.line.take();
        if let Some(line) = &mut kept
            && !line.is_usable().await
        {
            kept = None;
        }
        let line = match kept {
            Some(line) => line,
            None => Line::open(&self.dialer, &self.target).await.map_err(|error| {
                if error.is_config() || error.is_tls() || error.is_auth() {
                    Failure::Refused(Lost::unheard(error))
                } else {
                    Failure::Transit(error)
                }
            })?,
        };
        Ok(self.line.insert(line))
    }

    fn request(&self, batch: &Batch) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(batch.bytes.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from(self.target.path.clone());
        request.headers_mut().clone_from(&self.headers);
        request.headers_mut().insert(SEQUENCE, batch.numbers.start.into());
        request
    }

    /// What the answer to a POST of `bytes` means that is no success.
    fn refused(&self, bytes: usize, status: StatusCode, headers: HeaderMap, body: Bytes) -> Failure {
        let what = match status {
            StatusCode::PAYLOAD_TOO_LARGE => format!(
                "a POST of {bytes} bytes was answered with {status}: the server or a proxy on the way takes less \
                 (SseDuplexConnector::max_post; nginx: client_max_body_size)"
            ),
            _ => format!("a POST was answered with {status}"),
        };
        let due = head::number(&headers);
        let refusal = dial::refusal(status, headers, body).into_refused_post(what);
        match status {
            // What a proxy says that did not reach the server, or a limiter that will let it pass.
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Failure::Transit(refusal),
            // An older POST of ours, which was long on its way, came in after this one. With a number it is a gap, which stays.
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

/// How long is waited after so many answers in a row that had waited for room and took nothing.
fn pause_without_room(answers: u32) -> Duration {
    (BACKOFF * (1 << answers.saturating_sub(1).min(10))).min(HOLD)
}

/// How long a POST of so many bytes may take: what the server may hold it, a new connection, and the bytes.
fn time_for(handshake: Duration, bytes: usize) -> Duration {
    let bytes = Duration::from_secs((bytes / BYTES_A_SECOND) as u64);
    HOLD.saturating_add(handshake).saturating_add(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_room_is_asked_less_and_less_often() {
        let pauses: Vec<_> = (1..10).map(|answers| pause_without_room(answers).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(pause_without_room(u32::MAX), HOLD);
    }
}
