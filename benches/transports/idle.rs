//! The memory of a session on which nothing happens, after one message there and back: heap bytes of the server, its
//! task included. The clients are in a process of their own, and are not counted.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    allocator::live_bytes,
    contestant::{Address, End, Network},
    loopback::payload,
};

/// How the other process is told that it is one: this word, the contestant, the server's address and trust, and how
/// many sessions.
pub(crate) const CLIENTS: &str = "--clients";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Heap bytes per session.
pub(crate) fn measure<N: Network>(name: &str, sessions: usize) -> f64 {
    runtime().block_on(async {
        let (address, mut ends) = N::listen().await;
        let mut clients = Command::new(std::env::current_exe().expect("this program"))
            .args([CLIENTS, name, &address.url, &address.trust, &sessions.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs twice");
        let mut next = async || {
            let mut far = ends.recv().await.expect("a client");
            tokio::spawn(async move {
                while let Some(size) = far.receive().await {
                    far.send(&payload(size)).await;
                    far.flush().await;
                }
            });
        };
        // The first pays for what is set up once.
        next().await;
        let before = live_bytes();
        for _ in 0..sessions {
            next().await;
        }
        let mut lines = BufReader::new(clients.stdout.take().expect("a pipe"));
        let done = tokio::task::spawn_blocking(move || lines.read_line(&mut String::new()));
        done.await.expect("a thread").expect("the clients are done");
        // Lets every handshake be forgotten, and every task come to its wait.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let after = live_bytes();
        drop(clients.stdin.take());
        clients.wait().expect("the clients end");
        (after as f64 - before as f64) / sessions as f64
    })
}

/// The other process: opens one more session, reports it, and holds all of them until its input ends.
pub(crate) fn clients<N: Network>(address: &Address, sessions: usize) {
    runtime().block_on(async {
        let client = N::client(address);
        for _ in 0..=sessions {
            let mut near = N::connect(&client, address).await;
            near.send(&payload(32)).await;
            near.flush().await;
            assert_eq!(near.receive().await, Some(32));
            tokio::spawn(async move { while near.receive().await.is_some() {} });
        }
        println!("done");
        std::io::stdout().flush().expect("a pipe");
        let _ = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await;
    });
    std::process::exit(0);
}
