//! One suite, the transport is its parameter: the whole layered stack, the recommended one, and the bridges to
//! services, over each transport of this crate. The halves of its cases are in `tests/suite`, which a page shares.

pub(crate) use support::within;

use crate::{proxy, serve};

mod carrier;
mod channel;
mod cuts;
mod pressure;
mod proxies;
mod sse;
mod urls;
mod websocket;
mod webtransport;

/// Runs both halves of a case over a route. How many connections were cut.
macro_rules! join {
    ($carrier:ty, $route:expr, $test:ident) => {{
        let (target, host, cuts) = $route.halves::<$carrier>();
        let (near, far) = tokio::join!(crate::suite::client::$test(target), crate::suite::server::$test(host),);
        // Of the same session, where there is one.
        crate::transports::same(&near, &far);
        cuts
    }};
}
use join;

fn same<T: PartialEq + std::fmt::Debug>(near: &T, far: &T) {
    assert_eq!(near, far);
}

/// The suite over one carrier: a module of its name.
macro_rules! suite {
    (mod $name:ident = $carrier:ty: halves { $($half:ident,)* } $($file:ident { $($test:ident,)* })*) => {
        mod $name {
            $(
                #[tokio::test]
                async fn $half() {
                    crate::transports::within(async {
                        let route = <$carrier as crate::transports::carrier::Carrier>::open(Vec::new()).await;
                        crate::transports::join!($carrier, route, $half);
                    })
                    .await;
                }
            )*
            $($(
                #[tokio::test]
                async fn $test() {
                    crate::transports::within(crate::transports::$file::$test::<$carrier>()).await;
                }
            )*)*
        }
    };
    ($($name:ident = $carrier:ty,)*) => {
        $(suite! {
            mod $name = $carrier:
            halves {
                values_arrive_in_order_both_ways,
                messages_from_empty_to_large_arrive_as_they_were_sent,
                a_close_brings_its_code_and_reason_after_all_that_was_sent,
                a_server_that_closes_brings_its_code_and_reason,
                a_client_that_is_dropped_ends_the_server,
                a_server_that_is_dropped_ends_the_client,
                a_session_that_its_client_closes_is_over_at_the_server,
                many_senders_lose_none_of_thousands_of_messages,
                the_recommended_stack_agrees_on_all_it_has,
                a_peer_that_knows_nothing_gets_plain_messages,
                a_service_answers_calls_in_order,
                a_service_answers_many_calls_at_once_as_they_finish,
            }
            cuts {
                wherever_connections_are_cut_nothing_is_lost_or_doubled,
                a_batch_that_was_cut_in_two_comes_whole,
                the_recommended_stack_loses_nothing_where_it_is_cut,
            }
            pressure {
                a_reader_that_rests_holds_up_the_writer,
                a_reader_that_rests_does_not_hold_up_what_it_writes_itself,
                a_reader_that_rests_holds_up_the_senders_of_the_whole_stack,
            }
        })*
    };
}

suite! {
    over_a_channel = crate::transports::channel::Channels,
    over_websocket = crate::transports::websocket::WebSockets,
    over_sse_and_post = crate::transports::sse::SsePosts,
    over_webtransport = crate::transports::webtransport::WebTransports,
}
