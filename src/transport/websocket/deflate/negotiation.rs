//! The negotiation of permessage-deflate (RFC 7692, section 7.1), as pure functions over header values.

use std::{fmt::Write, ops::RangeInclusive};

use http::{HeaderMap, HeaderValue, StatusCode, header::SEC_WEBSOCKET_EXTENSIONS};

use super::{
    PerMessage, PerMessageDeflate,
    extensions::{Extension, Malformed},
};
use crate::{Error, transport::refusal::Refusal, zlib::MAX_WINDOW_BITS};

const NAME: &str = "permessage-deflate";
const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// The window sizes that RFC 7692 allows. Zlib cannot compress with the first one.
const WINDOW_BITS: RangeInclusive<u8> = 8..=MAX_WINDOW_BITS;

/// The settings that the two ends agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    /// The server's messages to the client.
    pub(super) server: Direction,
    /// The client's messages to the server.
    pub(super) client: Direction,
}

/// How one end may compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Direction {
    /// Whether a message may refer to those before it.
    pub(super) takes_over: bool,
    /// The largest window, as a power of two in bytes.
    pub(super) window_bits: u8,
}

/// The parameters of one offer or of one response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// `Some(None)` without a value, which only an offer may have.
    client_max_window_bits: Option<Option<u8>>,
}

/// Why a response of a server fails the client's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
enum BadAnswer {
    Malformed,
    NotOffered,
    Parameters(&'static str),
}

impl PerMessageDeflate {
    /// Returns the client's offer.
    pub(crate) fn offer(&self) -> HeaderValue {
        self.offered().to_value()
    }

    fn offered(&self) -> Parameters {
        Parameters {
            server_no_context_takeover: !self.peer_takes_over.unwrap_or(true),
            client_no_context_takeover: !self.takes_over.unwrap_or(true),
            server_max_window_bits: below_max(self.peer_window_bits),
            client_max_window_bits: Some(below_max(self.window_bits)),
        }
    }

    /// Returns what was agreed on by the server's response to [`offer`](Self::offer), if the server did not decline.
    pub(crate) fn agree(self, headers: &HeaderMap) -> Result<Option<PerMessage>, Error> {
        let agreed = self.check(headers).map_err(|answer| {
            Error::protocol(match answer {
                BadAnswer::Malformed => "the server's Sec-WebSocket-Extensions is malformed".into(),
                BadAnswer::NotOffered => "the server uses an extension that was not offered".into(),
                BadAnswer::Parameters(why) => format!("the server's answer to permessage-deflate is invalid: {why}"),
            })
        })?;
        // The name of the header is a constant of `check`, and its value was parsed there.
        let value = headers.get(SEC_WEBSOCKET_EXTENSIONS).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Ok(agreed.map(|agreed| PerMessage::new(self, agreed, true, value)))
    }

    fn check(&self, headers: &HeaderMap) -> Result<Option<Agreed>, BadAnswer> {
        let offered = self.offered();
        let mut extensions = Extension::parse_all(headers).map_err(|Malformed| BadAnswer::Malformed)?.into_iter();
        let Some(extension) = extensions.next() else { return Ok(None) };
        if extension.name != NAME || extensions.next().is_some() {
            return Err(BadAnswer::NotOffered);
        }
        let answer = Parameters::parse(&extension).map_err(BadAnswer::Parameters)?;
        if offered.server_no_context_takeover && !answer.server_no_context_takeover {
            return Err(BadAnswer::Parameters("`server_no_context_takeover` was asked for, and is missing"));
        }
        if let Some(most) = offered.server_max_window_bits
            && answer.server_max_window_bits.is_none_or(|bits| bits > most)
        {
            return Err(BadAnswer::Parameters("`server_max_window_bits` is missing, or larger than asked for"));
        }
        let client_window_bits = match answer.client_max_window_bits {
            None => self.window_bits,
            Some(None) => return Err(BadAnswer::Parameters("`client_max_window_bits` has no value")),
            Some(Some(bits)) if bits > self.window_bits => {
                return Err(BadAnswer::Parameters("`client_max_window_bits` is larger than offered"));
            }
            Some(Some(bits)) => bits,
        };
        Ok(Some(Agreed {
            server: Direction {
                takes_over: !answer.server_no_context_takeover,
                window_bits: answer.server_max_window_bits.unwrap_or(MAX_WINDOW_BITS),
            },
            client: Direction {
                takes_over: !(answer.client_no_context_takeover || offered.client_no_context_takeover),
                window_bits: client_window_bits,
            },
        }))
    }

    /// Chooses the first of a client's offers that this end can accept. Returns the server's response, or `None` if
    /// there is no such offer.
    pub(crate) fn accept(&self, headers: &HeaderMap) -> Result<Option<(HeaderValue, PerMessage)>, Refusal> {
        const MALFORMED: Refusal = Refusal::new(StatusCode::BAD_REQUEST, "Sec-WebSocket-Extensions is malformed");

        let chosen = self.choose(headers).map_err(|Malformed| MALFORMED)?;
        Ok(chosen.map(|answer| {
            let value = answer.to_value();
            let per_message = PerMessage::new(self.clone(), answer.agreed(), false, value.to_str().unwrap_or_default());
            (value, per_message)
        }))
    }

    fn choose(&self, headers: &HeaderMap) -> Result<Option<Parameters>, Malformed> {
        let offers = Extension::parse_all(headers)?;
        Ok(offers.iter().filter(|offer| offer.name == NAME).find_map(|offer| {
            // An offer that is invalid is declined, and the next one considered (RFC 7692, section 7.1).
            self.answer(Parameters::parse(offer).ok()?)
        }))
    }

    fn answer(&self, offer: Parameters) -> Option<Parameters> {
        let server_window_bits = offer.server_max_window_bits.unwrap_or(MAX_WINDOW_BITS).min(self.window_bits);
        if server_window_bits < MIN_WINDOW_BITS {
            return None;
        }
        Some(Parameters {
            server_no_context_takeover: offer.server_no_context_takeover || !self.takes_over.unwrap_or(false),
            client_no_context_takeover: offer.client_no_context_takeover || !self.peer_takes_over.unwrap_or(false),
            // Must be repeated if it was offered, and may be given if it was not.
            server_max_window_bits: offer
                .server_max_window_bits
                .map(|_| server_window_bits)
                .or(below_max(server_window_bits)),
            // Must not be given unless it was offered.
            client_max_window_bits: offer
                .client_max_window_bits
                .map(|offered| offered.unwrap_or(MAX_WINDOW_BITS).min(self.peer_window_bits))
                .and_then(below_max)
                .map(Some),
        })
    }
}

/// The smallest window with which zlib compresses.
pub(super) const MIN_WINDOW_BITS: u8 = 9;

fn below_max(bits: u8) -> Option<u8> {
    (bits < MAX_WINDOW_BITS).then_some(bits)
}

impl Parameters {
    /// Reads the parameters of an offer or a response. Those that are unknown, doubled or have an invalid value are an
    /// error.
    fn parse(extension: &Extension<'_>) -> Result<Self, &'static str> {
        let mut parameters = Self::default();
        for (name, value) in &extension.parameters {
            let value = value.as_deref();
            let is_repeated = match *name {
                SERVER_NO_CONTEXT_TAKEOVER => flag(&mut parameters.server_no_context_takeover, value)?,
                CLIENT_NO_CONTEXT_TAKEOVER => flag(&mut parameters.client_no_context_takeover, value)?,
                SERVER_MAX_WINDOW_BITS => {
                    let bits = value.and_then(window_bits).ok_or("`server_max_window_bits` is not 8 to 15")?;
                    parameters.server_max_window_bits.replace(bits).is_some()
                }
                CLIENT_MAX_WINDOW_BITS => {
                    let bits = match value {
                        None => None,
                        Some(value) => Some(window_bits(value).ok_or("`client_max_window_bits` is not 8 to 15")?),
                    };
                    parameters.client_max_window_bits.replace(bits).is_some()
                }
                _ => return Err("a parameter is unknown"),
            };
            if is_repeated {
                return Err("a parameter occurs twice");
            }
        }
        Ok(parameters)
    }

    /// Returns what a response with these parameters agrees on.
    fn agreed(&self) -> Agreed {
        let client_window_bits = self.client_max_window_bits.flatten();
        Agreed {
            server: Direction {
                takes_over: !self.server_no_context_takeover,
                window_bits: self.server_max_window_bits.unwrap_or(MAX_WINDOW_BITS),
            },
            client: Direction {
                takes_over: !self.client_no_context_takeover,
                window_bits: client_window_bits.unwrap_or(MAX_WINDOW_BITS),
            },
        }
    }

    fn to_value(self) -> HeaderValue {
        let mut value = String::from(NAME);
        // Writing to a string cannot fail.
        let mut push = |name: &str, bits: Option<u8>| match bits {
            None => write!(value, "; {name}"),
            Some(bits) => write!(value, "; {name}={bits}"),
        };
        if self.server_no_context_takeover {
            let _ = push(SERVER_NO_CONTEXT_TAKEOVER, None);
        }
        if self.client_no_context_takeover {
            let _ = push(CLIENT_NO_CONTEXT_TAKEOVER, None);
        }
        if let Some(bits) = self.server_max_window_bits {
            let _ = push(SERVER_MAX_WINDOW_BITS, Some(bits));
        }
        if let Some(bits) = self.client_max_window_bits {
            let _ = push(CLIENT_MAX_WINDOW_BITS, bits);
        }
        // It is visible ASCII.
        HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(NAME))
    }
}

/// Sets a parameter that has no value. Returns whether it was already set.
fn flag(is_set: &mut bool, value: Option<&str>) -> Result<bool, &'static str> {
    match value {
        None => Ok(std::mem::replace(is_set, true)),
        Some(_) => Err("a parameter has a value that must have none"),
    }
}

/// Parses a number from 8 to 15, without leading zeros (RFC 7692, section 7.1.2).
fn window_bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok().filter(|bits| WINDOW_BITS.contains(bits))?;
    (value.len() == if bits < 10 { 1 } else { 2 }).then_some(bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_str(line).unwrap())).collect()
    }

    /// A server that allows everything.
    fn generous() -> PerMessageDeflate {
        PerMessageDeflate::new().context_takeover(true).peer_context_takeover(true)
    }

    fn accept(config: &PerMessageDeflate, lines: &[&str]) -> Option<String> {
        let chosen = config.choose(&headers(lines)).unwrap();
        chosen.map(|answer| answer.to_value().to_str().unwrap().to_owned())
    }

    #[test]
    fn a_server_answers_each_parameter_as_the_rfc_says() {
        let small = generous().max_window_bits(10).unwrap().peer_max_window_bits(11).unwrap();
        for (config, offer, answer) in [
            (generous(), "permessage-deflate", "permessage-deflate"),
            (generous(), "permessage-deflate; client_max_window_bits", "permessage-deflate"),
            (
                generous(),
                "permessage-deflate; client_max_window_bits=12",
                "permessage-deflate; client_max_window_bits=12",
            ),
            (
                generous(),
                "permessage-deflate; client_max_window_bits=8",
                "permessage-deflate; client_max_window_bits=8",
            ),
            (
                generous(),
                "permessage-deflate; server_max_window_bits=9",
                "permessage-deflate; server_max_window_bits=9",
            ),
            (
                generous(),
                "permessage-deflate; server_max_window_bits=15",
                "permessage-deflate; server_max_window_bits=15",
            ),
            (
                generous(),
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            ),
            (small.clone(), "permessage-deflate", "permessage-deflate; server_max_window_bits=10"),
            (
                small.clone(),
                "permessage-deflate; client_max_window_bits",
                "permessage-deflate; server_max_window_bits=10; client_max_window_bits=11",
            ),
            (
                small,
                "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
                "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
            ),
            (
                PerMessageDeflate::new(),
                "permessage-deflate; client_max_window_bits",
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            ),
        ] {
            assert_eq!(accept(&config, &[offer]).as_deref(), Some(answer), "{offer}");
        }
    }

    #[test]
    fn an_offer_that_is_invalid_is_declined_and_the_next_one_considered() {
        for offer in [
            "permessage-deflate; unknown",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=\"a\"",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=a",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=09",
            "permessage-deflate; client_max_window_bits=256",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
            // Valid, but a window that zlib cannot use.
            "permessage-deflate; server_max_window_bits=8",
            "x-webkit-deflate-frame",
            "permessage-deflates",
            "Permessage-Deflate",
        ] {
            assert_eq!(accept(&generous(), &[offer]), None, "{offer}");
            let with_fallback = format!("{offer}, permessage-deflate; server_max_window_bits=11");
            let answer = "permessage-deflate; server_max_window_bits=11";
            assert_eq!(accept(&generous(), &[&with_fallback]).as_deref(), Some(answer), "{offer}");
            assert_eq!(
                accept(&generous(), &[offer, "permessage-deflate; server_max_window_bits=11"]).as_deref(),
                Some(answer),
                "{offer}"
            );
        }
        assert_eq!(accept(&generous(), &[]), None);
        assert_eq!(accept(&generous(), &["", " , ,"]), None);
    }

    #[test]
    fn a_header_is_read_by_its_grammar() {
        let answer = "permessage-deflate; server_max_window_bits=10";
        for good in [
            "permessage-deflate;server_max_window_bits=10",
            "permessage-deflate ;\tserver_max_window_bits = 10 ",
            "permessage-deflate; server_max_window_bits=\"10\"",
            "permessage-deflate; server_max_window_bits=\"\\10\"",
            ", foo; bar=\"a\\b\"; baz ,, permessage-deflate; server_max_window_bits=10,",
        ] {
            assert_eq!(accept(&generous(), &[good]).as_deref(), Some(answer), "{good}");
        }
        for bad in [
            "permessage-deflate;",
            ";",
            "permessage-deflate; =10",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=\"10",
            "permessage-deflate; server_max_window_bits=\"10\\",
            "permessage-deflate; server_max_window_bits=\"\"",
            "permessage-deflate; server_max_window_bits=\"1 0\"",
            "permessage-deflate server_max_window_bits",
            "permessage-deflate; server_max_window_bits=10 9",
            "permessage-deflate/1",
        ] {
            assert_eq!(generous().choose(&headers(&[bad])), Err(Malformed), "{bad}");
            assert_eq!(generous().check(&headers(&[bad])), Err(BadAnswer::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_client_offers_what_it_was_asked_for() {
        let offer = |config: PerMessageDeflate| config.offer().to_str().unwrap().to_owned();
        assert_eq!(offer(PerMessageDeflate::new()), "permessage-deflate; client_max_window_bits");
        let config = PerMessageDeflate::new().context_takeover(false).peer_context_takeover(false);
        assert_eq!(
            offer(config.max_window_bits(12).unwrap().peer_max_window_bits(9).unwrap()),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; \
             client_max_window_bits=12"
        );
    }

    #[test]
    fn a_client_fails_the_connection_on_an_answer_that_does_not_fit_its_offer() {
        let plain = PerMessageDeflate::new();
        let strict = PerMessageDeflate::new().peer_context_takeover(false).peer_max_window_bits(10).unwrap();
        let small = PerMessageDeflate::new().max_window_bits(10).unwrap();
        for (config, answer) in [
            (&plain, "permessage-deflate; unknown"),
            (&plain, "permessage-deflate; server_max_window_bits"),
            (&plain, "permessage-deflate; server_max_window_bits=16"),
            (&plain, "permessage-deflate; client_max_window_bits"),
            (&plain, "permessage-deflate; client_no_context_takeover; client_no_context_takeover"),
            (&strict, "permessage-deflate"),
            (&strict, "permessage-deflate; server_no_context_takeover"),
            (&strict, "permessage-deflate; server_no_context_takeover; server_max_window_bits=11"),
            (&strict, "permessage-deflate; server_max_window_bits=10"),
            (&small, "permessage-deflate; client_max_window_bits=11"),
        ] {
            let result = config.check(&headers(&[answer]));
            assert!(matches!(result, Err(BadAnswer::Parameters(_))), "{answer}: {result:?}");
        }
        for answer in
            ["foo", "permessage-deflate, permessage-deflate", "permessage-deflate, foo", "foo, permessage-deflate"]
        {
            assert_eq!(plain.check(&headers(&[answer])), Err(BadAnswer::NotOffered), "{answer}");
        }
        assert_eq!(plain.check(&headers(&[])), Ok(None));
        // Not offered, but a server may always limit itself, and forbid the client's takeover.
        let agreed =
            plain.check(&headers(&["permessage-deflate; server_max_window_bits=8; client_no_context_takeover"]));
        let agreed = agreed.unwrap().unwrap();
        assert_eq!(agreed.server, Direction { takes_over: true, window_bits: 8 });
        assert_eq!(agreed.client, Direction { takes_over: false, window_bits: 15 });
    }

    prop_compose! {
        fn config()(
            takes_over in any::<Option<bool>>(),
            peer_takes_over in any::<Option<bool>>(),
            window_bits in 9..=15_u8,
            peer_window_bits in 9..=15_u8,
        ) -> PerMessageDeflate {
            PerMessageDeflate { takes_over, peer_takes_over, window_bits, peer_window_bits, ..PerMessageDeflate::new() }
        }
    }

    proptest! {
        #[test]
        fn two_ends_of_this_crate_always_agree_on_the_same(client in config(), server in config()) {
            let offer: HeaderMap = [(SEC_WEBSOCKET_EXTENSIONS, client.offer())].into_iter().collect();
            let chosen = server.choose(&offer).unwrap().unwrap();
            let at_server = chosen.agreed();
            let answer: HeaderMap = [(SEC_WEBSOCKET_EXTENSIONS, chosen.to_value())].into_iter().collect();
            let at_client = client.check(&answer).unwrap().unwrap();
            prop_assert_eq!(at_server.server, at_client.server);
            // A client may restrict itself to less than the server knows of.
            prop_assert!(at_client.client.window_bits <= at_server.client.window_bits);
            prop_assert!(at_client.client.takes_over <= at_server.client.takes_over);
            prop_assert!(at_server.server.window_bits <= server.window_bits.min(client.peer_window_bits));
            prop_assert!(at_client.client.window_bits <= client.window_bits.min(server.peer_window_bits));
            prop_assert_eq!(
                at_server.server.takes_over,
                server.takes_over.unwrap_or(false) && client.peer_takes_over.unwrap_or(true)
            );
            prop_assert_eq!(
                at_client.client.takes_over,
                client.takes_over.unwrap_or(true) && server.peer_takes_over.unwrap_or(false)
            );
        }

        #[test]
        fn an_answer_fits_every_offer_that_was_accepted(
            offers in prop::collection::vec(
                prop::collection::vec(
                    prop::sample::select(vec![
                        "server_no_context_takeover", "client_no_context_takeover", "client_max_window_bits",
                        "server_max_window_bits=8", "server_max_window_bits=9", "server_max_window_bits=15",
                        "client_max_window_bits=8", "client_max_window_bits=\"13\"", "server_max_window_bits", "x=1",
                    ]),
                    0..4,
                ),
                1..4,
            ),
            server in config(),
        ) {
            let lines: Vec<String> =
                offers.iter().map(|offer| [&["permessage-deflate"], &offer[..]].concat().join("; ")).collect();
            let line = lines.join(", ");
            let headers = headers(&[&line]);
            let chosen = server.choose(&headers).unwrap();
            // The first valid offer without the one window that zlib cannot use.
            let first = Extension::parse_all(&headers).unwrap().iter().find_map(|offer| {
                Parameters::parse(offer).ok().filter(|offer| offer.server_max_window_bits != Some(8))
            });
            prop_assert_eq!(chosen.is_some(), first.is_some());
            if let (Some(chosen), Some(offer)) = (chosen, first) {
                let value: HeaderMap = [(SEC_WEBSOCKET_EXTENSIONS, chosen.to_value())].into_iter().collect();
                let answer = Parameters::parse(&Extension::parse_all(&value).unwrap()[0]).unwrap();
                prop_assert!(answer.server_no_context_takeover >= offer.server_no_context_takeover);
                if let Some(most) = offer.server_max_window_bits {
                    prop_assert!(answer.server_max_window_bits.unwrap() <= most);
                }
                match (offer.client_max_window_bits, answer.client_max_window_bits) {
                    (None, given) => prop_assert_eq!(given, None),
                    (Some(_), Some(given)) => prop_assert!(given.is_some()),
                    (Some(Some(most)), None) => prop_assert_eq!(most, 15),
                    (Some(None), None) => {}
                }
                prop_assert!((9..=15).contains(&chosen.agreed().server.window_bits));
            }
        }

        #[test]
        fn no_header_panics(line in "[a-z;,=\" \\\\0-9_-]{0,60}", bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            for value in [HeaderValue::from_str(&line), HeaderValue::from_bytes(&bytes)].into_iter().flatten() {
                let headers: HeaderMap = [(SEC_WEBSOCKET_EXTENSIONS, value)].into_iter().collect();
                let _ = generous().choose(&headers);
                let _ = generous().check(&headers);
            }
        }
    }
}
