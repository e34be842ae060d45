//! One suite, the transport is its parameter: the whole layered stack, the recommended one, and the bridges to
//! services, over each transport of this crate.

use crate::{proxy, serve};

mod bridge;
mod carrier;
mod channel;
mod close;
mod cuts;
mod optimized;
mod order;
mod pressure;
mod proxies;
mod relay;
mod senders;
mod sse;
mod stack;
mod talk;
mod urls;
mod value;
mod websocket;
mod webtransport;

/// The suite over one carrier: a module of its name.
macro_rules! suite {
    (mod $name:ident = $carrier:ty: $($file:ident { $($test:ident,)* })*) => {
        mod $name {
            $($(
                #[tokio::test]
                async fn $test() {
                    crate::transports::talk::within(crate::transports::$file::$test::<$carrier>()).await;
                }
            )*)*
        }
    };
    ($($name:ident = $carrier:ty,)*) => {
        $(suite! {
            mod $name = $carrier:
            order {
                values_arrive_in_order_both_ways,
                messages_from_empty_to_large_arrive_as_they_were_sent,
            }
            cuts {
                wherever_connections_are_cut_nothing_is_lost_or_doubled,
                a_batch_that_was_cut_in_two_comes_whole,
            }
            pressure {
                a_reader_that_rests_holds_up_the_writer,
                a_reader_that_rests_does_not_hold_up_what_it_writes_itself,
                a_reader_that_rests_holds_up_the_senders_of_the_whole_stack,
            }
            close {
                a_close_brings_its_code_and_reason_after_all_that_was_sent,
                a_server_that_closes_brings_its_code_and_reason,
                an_end_that_is_dropped_ends_the_other,
                a_session_that_its_client_closes_is_over_at_the_server,
            }
            senders {
                many_senders_lose_none_of_thousands_of_messages,
            }
            optimized {
                the_recommended_stack_agrees_on_all_it_has,
                the_recommended_stack_loses_nothing_where_it_is_cut,
                a_peer_that_knows_nothing_gets_plain_messages,
            }
            bridge {
                a_service_answers_calls_in_order,
                a_service_answers_many_calls_at_once_as_they_finish,
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
