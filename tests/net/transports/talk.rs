//! A conversation in which both ends say numbered values, and hear all of the other's.

use tokio::{sync::mpsc::unbounded_channel, task::JoinHandle};
use tower_transport::{
    QueueConfig, TransportExt,
    transport::{Receiver, Sender},
};

use crate::transports::{
    stack::{Both, End, watch},
    value::{Value, nth},
};
pub(crate) use support::within;

pub(crate) const CLIENT: u8 = 1;
pub(crate) const SERVER: u8 = 2;

/// One end after it has said all and heard all.
pub(crate) struct Spoke {
    pub(crate) sender: Sender<Value>,
    pub(crate) receiver: Receiver<Value>,
    pub(crate) driving: JoinHandle<Result<(), tower_transport::Error>>,
}

/// Says the first `values` of `own`, and hears as many of the `other`'s.
pub(crate) async fn speak(end: End, own: u8, other: u8, values: u64) -> Spoke {
    let (sender, mut receiver, driver) = end.drive(QueueConfig::values()).into_parts();
    let driving = tokio::spawn(driver);
    let mut saying = sender.clone();
    let saying = tokio::spawn(async move {
        for number in 0..values {
            saying.send(nth(own, number)).await.unwrap_or_else(|error| panic!("end {own} at {number}: {error:?}"));
        }
        saying.flush().await.unwrap_or_else(|error| panic!("end {own} flushes: {error:?}"));
    });
    for number in 0..values {
        match receiver.receive().await {
            Some(Ok(value)) => assert!(value == nth(other, number), "end {own} heard {} for {number}", value.number),
            end => panic!("end {own} heard {end:?} for {number}"),
        }
    }
    saying.await.unwrap();
    Spoke { sender, receiver, driving }
}

/// Both ends speak to the end. The client's, and the server's of the same session.
pub(crate) async fn converse(both: Both, values: u64) -> (Spoke, Spoke) {
    let Both { client, resume, mut sessions, .. } = both;
    let watching = watch(&resume);
    let (done, mut all) = unbounded_channel();
    tokio::spawn(async move {
        while let Some((id, session)) = sessions.recv().await {
            let done = done.clone();
            tokio::spawn(async move { drop(done.send((id, speak(session, SERVER, CLIENT, values).await))) });
        }
    });
    let near = speak(client, CLIENT, SERVER, values).await;
    // A session that the client does not know hears nothing, and is never done.
    let (id, far) = all.recv().await.expect("the server hears all");
    assert_eq!(Some(id), resume.id());
    assert!(!watching.is_finished(), "the session was lost");
    watching.abort();
    (near, far)
}
