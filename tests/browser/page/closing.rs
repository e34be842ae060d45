//! The ends of a connection.

use tower_transport::{CloseCode, CloseFrame, Limits, Message, TransportExt, transport::websocket::WebSocketConnector};
use wasm_bindgen_test::wasm_bindgen_test;

use crate::{connect, ms, open, sleep};

fn frame(code: u16, reason: &'static str) -> Option<CloseFrame> {
    Some(CloseFrame::new(CloseCode::new(code).unwrap(), reason))
}

/// Returns what the server has received over the last connection to `/closed`.
async fn last_at_the_server() -> String {
    sleep(ms(100)).await;
    let mut socket = open("/last").await;
    socket.receive_message().await.unwrap().unwrap().as_text().unwrap().to_owned()
}

#[wasm_bindgen_test]
async fn the_servers_close_frame_is_yielded_and_then_the_stream_ends() {
    for code in [1000, 1001, 1011, 1013, 4001] {
        let mut socket = open(&format!("/close?code={code}")).await;
        let end = socket.receive_message().await.unwrap().unwrap();
        assert_eq!(end, Message::Close(frame(code, "as asked")));
        assert!(socket.receive_message().await.is_none());
        let error = socket.send_message(Message::text("late")).await.unwrap_err();
        assert!(error.is_closed(), "{error:?}");
        assert_eq!(error.close_frame().cloned(), frame(code, "as asked"));
        assert_eq!(socket.close_frame().cloned(), frame(code, "as asked"));
    }
}

#[wasm_bindgen_test]
async fn a_close_of_the_page_has_its_code_and_reason_and_is_answered() {
    let mut socket = open("/closed").await;
    assert_eq!(socket.close(frame(4001, "bye")).await.unwrap(), frame(4001, "bye"));
    assert!(socket.receive_message().await.is_none());
    assert!(last_at_the_server().await.contains("4001"));
}

#[wasm_bindgen_test]
async fn a_code_that_a_page_may_not_send_closes_without_one() {
    let mut socket = open("/closed").await;
    assert_eq!(socket.close(frame(1009, "too big")).await.unwrap(), None);
    assert_eq!(last_at_the_server().await, "0 messages, None");
}

#[wasm_bindgen_test]
async fn messages_that_were_sent_before_a_close_arrive() {
    let mut socket = open("/closed").await;
    for _ in 0..100 {
        socket.send_message(Message::binary(vec![5; 10_000])).await.unwrap();
    }
    socket.send_message(Message::Close(frame(1000, ""))).await.unwrap();
    assert!(socket.send_message(Message::text("late")).await.unwrap_err().is_closed());
    assert_eq!(socket.receive_message().await.unwrap().unwrap(), Message::Close(frame(1000, "")));
    assert!(socket.receive_message().await.is_none());
    assert!(last_at_the_server().await.starts_with("100 messages"));
}

#[wasm_bindgen_test]
async fn a_cut_is_an_error_of_a_closed_connection() {
    let mut socket = open("/echo").await;
    socket.send_message(Message::text("cut")).await.unwrap();
    let error = socket.receive_message().await.unwrap().unwrap_err();
    assert!(error.is_closed() && error.close_frame().is_none(), "{error:?}");
    assert!(socket.receive_message().await.is_none());
    assert!(socket.send_message(Message::text("late")).await.unwrap_err().is_closed());
    assert!(socket.close(None).await.is_ok());
}

#[wasm_bindgen_test]
async fn a_server_that_does_not_answer_a_close_is_given_up() {
    let connector = WebSocketConnector::new().limits(Limits::new().close(ms(100)));
    let mut socket = connect(connector, "/late?ms=3000").await;
    let error = socket.close(None).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert!(error.to_string().contains("Limits::close"), "{error}");
}
