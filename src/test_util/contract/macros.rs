/// Generates one test for each rule of the [contract](crate::test_util::contract), named after it, in a separate
/// module.
///
/// ```
/// use tower_transport::{Message, channel, contract_tests};
///
/// contract_tests! {
///     mod channel_contract,
///     pair = channel(4),
///     message = |i| Message::text(i.to_string()),
/// }
/// # fn main() {}
/// ```
///
/// - `mod name`: the module of the tests. It sees the surrounding items (`use super::*`).
/// - `pair = expression`: creates a connected pair; it may `.await`. It runs twice for each check.
/// - `message = |i| ...`: the i-th message, of the same type on both ends in both directions.
/// - `contract = expression` in place of these two: any [`Contract`](crate::test_util::contract::Contract), for ends of
///   different types.
/// - `room = number`: see [`Contract::room`](crate::test_util::contract::Contract::room).
/// - `on = tokio`: each test runs on its own tokio runtime (`current_thread`), with a patience of 30 s. For real
///   sockets and for code that spawns tasks.
/// - `on = paused_tokio`: the same on tokio's paused clock. For in-memory stacks that use the clock.
///
/// The last two require `tokio` in the dev-dependencies of the calling crate, with `rt` and `time` (and `test-util`).
///
/// The tests are functions named after the checks (`order`, `flush`, ...). Functions that the arguments name must have
/// other names.
#[macro_export]
macro_rules! contract_tests {
    (
        mod $name:ident, pair = $pair:expr, message = $message:expr $(, room = $room:expr)? $(, on = $on:ident)? $(,)?
    ) => {
        $crate::contract_tests! {
            mod $name,
            contract = $crate::test_util::contract::Contract::new(async || $pair, $message)$(.room($room))?,
            on = ($($on)?)
        }
    };
    (mod $name:ident, contract = $contract:expr $(,)?) => {
        $crate::contract_tests! { mod $name, contract = $contract, on = () }
    };
    (mod $name:ident, contract = $contract:expr, on = $on:ident $(,)?) => {
        $crate::contract_tests! { mod $name, contract = $contract, on = ($on) }
    };
    (mod $name:ident, contract = $contract:expr, on = $on:tt) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $crate::contract_tests! { @tests $contract, $on,
                readiness Readiness,
                order Order,
                flush Flush,
                back_pressure BackPressure,
                duplex Duplex,
                cancellation Cancellation,
                wake_ups WakeUps,
                close Close,
                cut Cut,
            }
        }
    };
    (@tests $contract:expr, $on:tt, $($test:ident $check:ident,)*) => {$(
        #[test]
        fn $test() {
            $crate::contract_tests!(@run $contract, $crate::test_util::contract::Check::$check, $on);
        }
    )*};
    (@run $contract:expr, $check:expr, ()) => {
        $crate::test_util::contract::block_on(async { $contract.check($check).await })
    };
    (@run $contract:expr, $check:expr, (tokio)) => {
        ::tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a tokio runtime starts")
            .block_on(async {
                $contract.patience(|| ::tokio::time::sleep(::std::time::Duration::from_secs(30))).check($check).await
            })
    };
    (@run $contract:expr, $check:expr, (paused_tokio)) => {
        ::tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a tokio runtime starts")
            .block_on(async {
                let patience = || ::tokio::time::sleep(::std::time::Duration::from_secs(86_400));
                $contract.patience(patience).check($check).await
            })
    };
}
