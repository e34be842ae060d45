//! Servers of event streams that lie or do not end, against our client: what they make it hold. Each test is alone on
//! its thread, which is what is measured.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use futures_util::StreamExt;
use tower::ServiceExt;
use tower_transport::{
    Error, Limits,
    transport::sse::{Event, Sse, SseConnector},
};

use crate::allocator::Growth;

const KIB: usize = 1024;
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

/// The read buffer of hyper, and the chunk in the parser.
const READING: usize = 256 * KIB;

/// Our client reads what an attacker writes, who has a thread of its own. Gives what the client held at most.
fn attacked(
    connector: SseConnector,
    attacker: impl FnOnce(&mut TcpStream) -> std::io::Result<()> + Send + 'static,
    session: impl AsyncFnOnce(&mut Sse),
) -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let attacker = thread::spawn(move || {
        let mut tcp = listener.accept().unwrap().0;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tcp.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        tcp.write_all(HEAD).unwrap();
        // A client that has seen enough hangs up.
        let _ = attacker(&mut tcp);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let held = runtime.block_on(async {
        let request = http::Request::get(url).body(()).unwrap();
        let mut events = connector.oneshot(request).await.unwrap().into_body();
        let growth = Growth::start();
        tokio::time::timeout(Duration::from_secs(240), session(&mut events)).await.expect("it hangs");
        growth.peak()
    });
    attacker.join().unwrap();
    held
}

async fn next(events: &mut Sse) -> Result<Event, Error> {
    events.next().await.unwrap()
}

/// The beginning of a line, and then more of it forever.
fn endless(beginning: &'static [u8], more: u8) -> impl FnOnce(&mut TcpStream) -> std::io::Result<()> + Send + 'static {
    move |tcp| {
        tcp.write_all(beginning)?;
        loop {
            tcp.write_all(&[more; 4096])?;
        }
    }
}

async fn ends_too_large(events: &mut Sse) {
    let error = next(events).await.unwrap_err();
    assert!(error.is_too_large() && error.to_string().contains("limit"), "{error:?}");
    assert!(events.next().await.is_none());
}

#[test]
fn an_endless_line_of_data_costs_the_limit_of_a_message() {
    let held = attacked(SseConnector::new(), endless(b"data: ", b'x'), ends_too_large);
    println!("an endless line of data: {} KiB at most", held / KIB);
    assert!(held < Limits::new().message + READING, "{held}");
}

#[test]
fn an_endless_line_of_data_that_is_not_utf_8_costs_no_more() {
    let held = attacked(SseConnector::new(), endless(b"data: ", 0xff), ends_too_large);
    assert!(held < Limits::new().message + READING, "{held}");
}

#[test]
fn data_that_triples_when_it_is_read_is_over_the_limit_by_what_is_read() {
    let message = 256 * KIB;
    let connector = || SseConnector::new().limits(Limits::new().message(message));
    let line = move |bytes: usize| {
        move |tcp: &mut TcpStream| {
            let line = [b"data:".to_vec(), vec![0xff; bytes], b"\n\ndata: good\n\n".to_vec()].concat();
            tcp.write_all(&line)
        }
    };
    attacked(connector(), line(message / 3), async |events| {
        assert_eq!(next(events).await.unwrap().data().len(), message / 3 * 3);
        assert_eq!(next(events).await.unwrap().data(), "good");
    });
    let held = attacked(connector(), line(message - 1), ends_too_large);
    println!("data that triples, of {} KiB: {} KiB at most", message / KIB, held / KIB);
    // The line, and what it was to become, in a buffer that doubles.
    assert!(held < 3 * message + READING, "{held}");
}

#[test]
fn endless_lines_that_are_not_data_cost_64_kib() {
    for beginning in [b"id: ".as_slice(), b"event: ", b"retry: ", b"whatever: ", b"", b"data"] {
        let held = attacked(SseConnector::new(), endless(beginning, b'1'), ends_too_large);
        assert!(held < 64 * KIB + READING, "{held}");
    }
}

#[test]
fn an_endless_comment_costs_nothing() {
    let comment = |tcp: &mut TcpStream| {
        tcp.write_all(b":")?;
        for _ in 0..64 * KIB {
            tcp.write_all(&[b':'; KIB])?;
        }
        tcp.write_all(b"\ndata: after 64 MiB\n\n")
    };
    let held = attacked(SseConnector::new(), comment, async |events| {
        assert_eq!(next(events).await.unwrap().data(), "after 64 MiB");
    });
    println!("a comment of 64 MiB: {} KiB at most", held / KIB);
    assert!(held < READING, "{held}");
}

#[test]
fn a_million_lines_of_data_cost_no_more_than_twice_what_they_say() {
    let lines = |line: &'static str| {
        move |tcp: &mut TcpStream| {
            for _ in 0..1000 {
                tcp.write_all(line.repeat(1000).as_bytes())?;
            }
            tcp.write_all(b"\ndata: good\n\n")
        }
    };
    let held = attacked(SseConnector::new(), lines("data:\n"), async |events| {
        assert_eq!(next(events).await.unwrap().data().len(), 999_999);
        assert_eq!(next(events).await.unwrap().data(), "good");
    });
    println!("1,000,000 empty lines of data: {} KiB at most", held / KIB);
    assert!(held < 2_000_000 + READING, "{held}");
    let held = attacked(SseConnector::new(), lines("data: 12345\n"), ends_too_large);
    println!("1,000,000 lines of data, over the limit: {} KiB at most", held / KIB);
    assert!(held < 2 * Limits::new().message + READING, "{held}");
}

#[test]
fn a_million_blocks_without_an_event_cost_nothing() {
    let blocks = |tcp: &mut TcpStream| {
        for n in 0..1000 {
            let block = format!("event: e{n}\nid: {n}\nretry: {n}\nwhat: ever\n: ever\n\n");
            tcp.write_all(block.repeat(1000).as_bytes())?;
        }
        tcp.write_all(b"data: good\n\n")
    };
    let held = attacked(SseConnector::new(), blocks, async |events| {
        let event = next(events).await.unwrap();
        assert_eq!((event.data().as_str(), event.event_type(), event.last_event_id()), ("good", "message", "999"));
    });
    println!("1,000,000 blocks without an event: {} KiB at most", held / KIB);
    assert!(held < READING, "{held}");
}

#[test]
fn ids_times_and_marks_that_lie_are_passed_over() {
    let connector = SseConnector::new();
    let lies = |tcp: &mut TcpStream| {
        tcp.write_all(b"\xef\xbb\xbfid: 1\nretry: 10\ndata: a\n\n")?;
        tcp.write_all(b"id: 2\0\nretry: 18446744073709551616\nretry: -1\nretry: 0x10\ndata: b\n\n")?;
        tcp.write_all(b"\xef\xbb\xbfdata: c\ndata: d\n\n\xef\xbb\xbf\n\n")
    };
    attacked(connector.clone(), lies, async |events| {
        for data in ["a", "b", "d"] {
            let event = next(events).await.unwrap();
            assert_eq!((event.data().as_str(), event.last_event_id()), (data, "1"));
        }
        assert!(next(events).await.unwrap_err().is_closed());
    });
    assert_eq!((connector.last_event_id().as_str(), connector.retry()), ("1", Some(Duration::from_millis(10))));
}

#[test]
fn the_longest_time_to_reconnect_overflows_nothing() {
    let connector = SseConnector::new();
    let longest = |tcp: &mut TcpStream| tcp.write_all(b"retry: 18446744073709551615\n\n");
    attacked(connector, longest, async |events| {
        let error = next(events).await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_millis(u64::MAX)));
    });
}
