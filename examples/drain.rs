//! A deploy that nobody notices: an axum server under 50,000 messages a second gets SIGTERM, and a second process takes
//! its clients. Every message of either direction is counted, and when each client came back.
//!
//! ```text
//! cargo run --release --example drain --features axum,optimized
//! ```
//!
//! The program starts both servers itself. They share the listening socket, as under systemd or Kubernetes: what a
//! load balancer does for several machines.

#[cfg(unix)]
mod unix {
    use std::{
        collections::HashMap,
        net::TcpListener,
        os::fd::{AsFd, OwnedFd},
        process::Stdio,
        sync::{
            Arc, Mutex, PoisonError,
            atomic::{AtomicU64, Ordering::Relaxed},
        },
        time::Duration,
    };

    use axum::Router;
    use futures_util::StreamExt;
    use tokio::{
        io::{AsyncBufReadExt, BufReader},
        process::{Child, Command},
        signal::unix::{SignalKind, signal},
        task::JoinSet,
        time::{Instant, MissedTickBehavior, interval, sleep, timeout},
    };
    use tower_transport::{
        BoxError, CloseCode, CloseFrame, Message, Sender,
        layer::reconnect::State,
        stack::{OptimizedHandle, OptimizedTransport},
        transport::Drain,
    };

    const CLIENTS: u32 = 200;
    /// Messages a second, both directions together. A build without optimizations takes fewer.
    const RATE: u64 = if cfg!(debug_assertions) { 10_000 } else { 50_000 };
    const TICK: Duration = Duration::from_millis(40);
    /// The number of messages that one end of one session sends at each tick.
    const BURST: u64 = RATE * TICK.as_millis() as u64 / 1000 / CLIENTS as u64 / 2;
    /// The window over which clients return.
    const WINDOW: Duration = Duration::from_secs(4);

    /// A message: the number of its sender (a client, or a server process), and its place among the messages of it.
    fn numbered(sender: u32, number: u64) -> Message {
        Message::binary([&sender.to_be_bytes()[..], &number.to_be_bytes()].concat())
    }

    fn read(message: &Message) -> Option<(u32, u64)> {
        let (sender, number) = message.as_bytes().split_first_chunk()?;
        Some((u32::from_be_bytes(*sender), u64::from_be_bytes(number.try_into().ok()?)))
    }

    /// Sends bursts until the session closes or `stop` resolves. Returns how many messages were accepted.
    async fn send_bursts(sender: &Sender<Message>, own: u32, stop: impl Future<Output = ()>) -> u64 {
        let accepted = AtomicU64::new(0);
        let sending = async {
            let mut ticks = interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            loop {
                ticks.tick().await;
                for _ in 0..BURST {
                    if sender.send(numbered(own, accepted.load(Relaxed))).await.is_err() {
                        return;
                    }
                    accepted.fetch_add(1, Relaxed);
                }
            }
        };
        tokio::pin!(sending);
        tokio::pin!(stop);
        tokio::select! {
            () = &mut sending => {}
            () = &mut stop => {}
        }
        accepted.load(Relaxed)
    }

    // ---------------------------------------------------------------------------------------------- the server

    /// A server's account of one session at its end.
    struct Session {
        client: u32,
        /// The numbers of the client's first message here, and of the one after the last.
        received: (u64, u64),
        /// The number of messages that the session has accepted for the client.
        accepted: u64,
    }

    async fn session(session: OptimizedTransport, process: u32, ended: Arc<Mutex<Vec<Session>>>) {
        let (sender, mut receiver) = session.split();
        let mut from = None;
        let reading = async {
            // To the end: messages of the client still come after the server's own are refused.
            while let Some(Ok(message)) = receiver.receive().await {
                let Some((client, number)) = read(&message) else { continue };
                let (_, (_, next)) = from.get_or_insert((client, (number, number)));
                assert_eq!(*next, number, "client {client}: a message was lost, doubled or moved");
                *next += 1;
            }
        };
        let (accepted, ()) = tokio::join!(send_bursts(&sender, process, std::future::pending()), reading);
        let (client, received) = from.unwrap_or((u32::MAX, (0, 0)));
        ended.lock().unwrap_or_else(PoisonError::into_inner).push(Session { client, received, accepted });
    }

    /// The server process. Its standard input is the listening socket.
    pub(crate) async fn serve(process: u32) -> Result<(), BoxError> {
        let listener = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut terminated = signal(SignalKind::terminate())?;

        let drain = Drain::new().spread_returns(WINDOW);
        let acceptor = OptimizedTransport::builder().named("drain").acceptor().with_drain(&drain);
        let ended = Arc::default();
        let sessions = Arc::clone(&ended);
        let upgrade = acceptor.upgrade(move |transport, _| session(transport, process, sessions));
        let app = Router::new().route_service("/ws", upgrade).route_service("/ready", drain.readiness());
        println!("ready");

        // SIGTERM starts the drain, and axum accepts no more connections.
        let restart = CloseFrame::new(CloseCode::RESTART, "new version");
        let stop = drain.start_on(async move { terminated.recv().await }, restart);
        axum::serve(listener, app).with_graceful_shutdown(stop).await?;
        let drained = drain.drain(Duration::from_secs(60)).await;

        for Session { client, received: (first, next), accepted } in
            ended.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            println!("session {client} {first} {next} {accepted}");
        }
        println!("drained {drained}");
        Ok(())
    }

    // ---------------------------------------------------------------------------------------------- the clients

    /// A client's counts.
    #[derive(Default)]
    struct Counts {
        accepted: AtomicU64,
        /// The number of messages of each server process.
        received: [AtomicU64; 2],
        /// When the client was connected to the second process, in milliseconds since SIGTERM.
        returned: AtomicU64,
        /// When it learned that the first one closes.
        told: AtomicU64,
    }

    struct Client {
        counts: Arc<Counts>,
        handle: OptimizedHandle,
        /// Keeps the session open after the last message is sent.
        sender: Sender<Message>,
    }

    async fn client(number: u32, url: String, stop: tokio::sync::watch::Receiver<bool>) -> Result<Client, BoxError> {
        let transport = OptimizedTransport::builder().connect(&url).await?;
        let handle = transport.handle();
        let (sender, mut receiver) = transport.split();
        let counts = Arc::<Counts>::default();
        let counting = counts.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = receiver.receive().await {
                let Some((process, number)) = read(&message) else { continue };
                let due = counting.received[process as usize].fetch_add(1, Relaxed);
                assert_eq!(due, number, "process {process}: a message was lost, doubled or moved");
            }
        });
        let (counting, sending, mut stop) = (counts.clone(), sender.clone(), stop);
        tokio::spawn(async move {
            let stopped = async { drop(stop.wait_for(|stopped| *stopped).await) };
            let accepted = send_bursts(&sending, number, stopped).await;
            counting.accepted.store(accepted, Relaxed);
        });
        Ok(Client { counts, handle, sender })
    }

    /// Notes when the client is connected again.
    async fn watch_return(client: &Client, since: Instant) {
        let Some(reconnect) = client.handle.reconnect() else { return };
        let mut states = reconnect.states();
        let mut has_left = false;
        while let Some(state) = states.next().await {
            match state {
                State::Connected if has_left => {
                    client.counts.returned.store(since.elapsed().as_millis() as u64, Relaxed);
                    return;
                }
                State::Connected => {}
                _ if !has_left => {
                    has_left = true;
                    client.counts.told.store(since.elapsed().as_millis() as u64, Relaxed);
                }
                _ => {}
            }
        }
    }

    // ---------------------------------------------------------------------------------------------- the deploy

    /// A server process, and what it has printed.
    struct Server {
        process: Child,
        lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    }

    impl Server {
        async fn start(number: u32, listener: &TcpListener) -> Result<Self, BoxError> {
            let socket: OwnedFd = listener.as_fd().try_clone_to_owned()?;
            let mut process = Command::new(std::env::current_exe()?)
                .args(["serve", &number.to_string()])
                .stdin(Stdio::from(socket))
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            let stdout = process.stdout.take().ok_or("no standard output")?;
            let mut lines = BufReader::new(stdout).lines();
            lines.next_line().await?.filter(|line| line == "ready").ok_or("the server does not start")?;
            Ok(Self { process, lines })
        }

        async fn terminate(&self) -> Result<(), BoxError> {
            let id = self.process.id().ok_or("the server has ended")?;
            Command::new("kill").args(["-TERM", &id.to_string()]).status().await?;
            Ok(())
        }

        /// Reads the report: per client, what was received from it and accepted for it; and the outcome of the drain.
        async fn report(mut self) -> Result<(HashMap<u32, [u64; 3]>, String), BoxError> {
            let mut sessions = HashMap::new();
            let mut drained = String::new();
            while let Some(line) = self.lines.next_line().await? {
                if let Some(numbers) = line.strip_prefix("session ") {
                    let numbers: Vec<u64> = numbers.split(' ').map(str::parse).collect::<Result<_, _>>()?;
                    let [client, first, next, accepted] = numbers[..] else { return Err("an odd report".into()) };
                    sessions.insert(client as u32, [first, next, accepted]);
                } else if let Some(outcome) = line.strip_prefix("drained ") {
                    outcome.clone_into(&mut drained);
                }
            }
            self.process.wait().await?;
            Ok((sessions, drained))
        }
    }

    pub(crate) async fn deploy() -> Result<(), BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("ws://{}/ws", listener.local_addr()?);
        let first = Server::start(0, &listener).await?;
        let (stopping, stop) = tokio::sync::watch::channel(false);
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            clients.push(Arc::new(client(number, url.clone(), stop.clone()).await?));
        }
        println!("{CLIENTS} clients are connected to the first process");
        let received =
            |process: usize| clients.iter().map(|client| client.counts.received[process].load(Relaxed)).sum::<u64>();
        let (before, since) = (received(0), Instant::now());
        sleep(Duration::from_secs(3)).await;
        let rate = (received(0) - before) as f64 / since.elapsed().as_secs_f64();
        println!("{:.0} messages a second each way, {:.0} together", rate, 2.0 * rate);

        println!("SIGTERM to the first process, and the second one starts");
        let signalled = Instant::now();
        let mut returns = JoinSet::new();
        for client in &clients {
            let client = client.clone();
            returns.spawn(async move { watch_return(&client, signalled).await });
        }
        // Every client is watched before the signal.
        tokio::task::yield_now().await;
        first.terminate().await?;
        let second = Server::start(1, &listener).await?;
        let (old, drained) = first.report().await?;
        println!("the first process: {drained}");
        timeout(Duration::from_secs(90), returns.join_all()).await?;
        sleep(Duration::from_secs(2)).await;

        // The end: the clients send no more, everything arrives, and the second process drains.
        stopping.send_replace(true);
        let all_acknowledged = async {
            for client in &clients {
                client.sender.clone().flush().await?;
                while client.handle.resume().is_some_and(|session| session.unacknowledged() > 0) {
                    sleep(Duration::from_millis(10)).await;
                }
            }
            Ok::<(), BoxError>(())
        };
        timeout(Duration::from_secs(30), all_acknowledged).await??;
        second.terminate().await?;
        let (new, drained) = second.report().await?;
        println!("the second process: {drained}");
        sleep(Duration::from_millis(200)).await;
        println!();
        histogram(&clients);
        count(&clients, &old, &new)
    }

    fn histogram(clients: &[Arc<Client>]) {
        const BINS: usize = 10;

        let width = WINDOW.as_millis() as u64 / BINS as u64;
        let mut bins = [0_usize; BINS + 1];
        for client in clients {
            bins[((client.counts.returned.load(Relaxed) / width) as usize).min(BINS)] += 1;
        }
        let told = clients.iter().map(|client| client.counts.told.load(Relaxed));
        println!("the last client was told {} ms after SIGTERM", told.max().unwrap_or_default());
        println!("returns after SIGTERM (each # is one client):");
        for (bin, clients) in bins.iter().enumerate() {
            let from = bin as f64 * width as f64 / 1000.0;
            println!("  {from:4.1} s {clients:4} {}", "#".repeat(*clients));
        }
    }

    /// Compares what was accepted with what arrived.
    fn count(
        clients: &[Arc<Client>],
        old: &HashMap<u32, [u64; 3]>,
        new: &HashMap<u32, [u64; 3]>,
    ) -> Result<(), BoxError> {
        let (mut up, mut lost_up, mut down, mut lost_down, mut doubled) = (0, 0, 0, 0, 0);
        for (number, client) in (0..).zip(clients) {
            let counts = &client.counts;
            let [first, middle, sent_old] = old.get(&number).copied().unwrap_or_default();
            let [again, last, sent_new] = new.get(&number).copied().unwrap_or_default();
            let accepted = counts.accepted.load(Relaxed);
            up += accepted;
            // Each process has checked that its own range has no gap.
            lost_up += first + again.saturating_sub(middle) + accepted.saturating_sub(last);
            doubled += middle.saturating_sub(again);
            for (sent, received) in [sent_old, sent_new].iter().zip(&counts.received) {
                let received = received.load(Relaxed);
                down += sent;
                lost_down += sent.saturating_sub(received);
                doubled += received.saturating_sub(*sent);
            }
        }
        println!("\n{up} messages accepted from the clients, {lost_up} lost");
        println!("{down} messages accepted for the clients, {lost_down} lost");
        println!("{doubled} doubled; {} of {} clients are with the second process", new.len(), clients.len());
        if lost_up + lost_down + doubled > 0 || new.len() != clients.len() {
            return Err("the deploy was noticed".into());
        }
        Ok(())
    }
}

#[cfg(unix)]
#[tokio::main]
async fn main() -> Result<(), tower_transport::BoxError> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("serve"), Some(process)) => unix::serve(process.parse()?).await,
        _ => unix::deploy().await,
    }
}

#[cfg(not(unix))]
fn main() {
    println!("this example needs SIGTERM");
}
