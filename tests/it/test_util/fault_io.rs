use std::io::ErrorKind;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, protocol::Role},
};
use tower_transport::test_util::fault::{
    Cut,
    Direction::{Incoming, Outgoing},
    FaultIo, IoFaults,
};

fn pair() -> (FaultIo<DuplexStream>, DuplexStream, IoFaults) {
    let (here, there) = duplex(1 << 16);
    let (here, faults) = FaultIo::new(here);
    (here, there, faults)
}

#[tokio::test]
async fn without_a_fault_all_bytes_pass() {
    let (mut here, mut there, _faults) = pair();
    here.write_all(b"there").await.unwrap();
    there.write_all(b"and back").await.unwrap();
    here.shutdown().await.unwrap();
    there.shutdown().await.unwrap();
    let mut bytes = String::new();
    there.read_to_string(&mut bytes).await.unwrap();
    assert_eq!(bytes, "there");
    bytes.clear();
    here.read_to_string(&mut bytes).await.unwrap();
    assert_eq!(bytes, "and back");
}

#[tokio::test]
async fn a_cut_comes_at_the_very_byte() {
    let (mut here, mut there, faults) = pair();
    faults.cut_after(Incoming, 4, Cut::Eof);
    faults.cut_after(Outgoing, 2, Cut::Eof);
    there.write_all(b"0123456789").await.unwrap();
    let mut read = String::new();
    here.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "0123");
    assert_eq!(here.write(b"abc").await.unwrap(), 2);
    assert_eq!(here.write(b"c").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_reset_fails_both_directions_and_wakes_the_reader() {
    let (mut here, _there, faults) = pair();
    let mut read = Box::pin(here.read_u8());
    assert!((&mut read).now_or_never().is_none());
    faults.cut(Cut::Reset);
    assert_eq!(read.await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(here.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(here.flush().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_trickle_moves_one_byte_at_a_time() {
    let (mut here, mut there, faults) = pair();
    faults.trickle(Incoming);
    faults.trickle(Outgoing);
    there.write_all(b"abc").await.unwrap();
    let mut buffer = [0; 8];
    assert_eq!(here.read(&mut buffer).await.unwrap(), 1);
    assert_eq!(here.write(b"abc").await.unwrap(), 1);
    faults.resume(Incoming);
    assert_eq!(here.read(&mut buffer).await.unwrap(), 2);
}

#[tokio::test]
async fn a_stall_and_a_half_open_stream_are_silent() {
    let (mut here, mut there, faults) = pair();
    faults.stall(Outgoing);
    assert!(here.write(b"x").now_or_never().is_none());
    faults.resume(Outgoing);
    faults.half_open();
    assert_eq!(here.write(b"swallowed").await.unwrap(), 9);
    there.write_all(b"unseen").await.unwrap();
    assert!(here.read_u8().now_or_never().is_none());
    assert!(there.read_u8().now_or_never().is_none());
}

async fn websockets() -> (WebSocketStream<FaultIo<DuplexStream>>, WebSocketStream<DuplexStream>, IoFaults) {
    let (here, there, faults) = pair();
    let here = WebSocketStream::from_raw_socket(here, Role::Client, None).await;
    (here, WebSocketStream::from_raw_socket(there, Role::Server, None).await, faults)
}

#[tokio::test]
async fn a_websocket_is_cut_in_the_middle_of_a_frame() {
    let (mut here, mut there, faults) = websockets().await;
    // 6 bytes of header and mask, and a part of the payload.
    faults.cut_after(Outgoing, 10, Cut::Reset);
    here.send("a message of some length".into()).await.unwrap_err();
    drop(here);
    assert!(matches!(
        there.next().await.unwrap().unwrap_err(),
        tungstenite::Error::Protocol(_) | tungstenite::Error::Io(_)
    ));
}

#[tokio::test]
async fn a_websocket_over_a_trickle_still_carries_whole_messages() {
    let (mut here, mut there, faults) = websockets().await;
    faults.trickle(Incoming);
    faults.trickle(Outgoing);
    here.send("byte by byte".into()).await.unwrap();
    assert_eq!(there.next().await.unwrap().unwrap(), "byte by byte".into());
    there.send("and back".into()).await.unwrap();
    assert_eq!(here.next().await.unwrap().unwrap(), "and back".into());
}
