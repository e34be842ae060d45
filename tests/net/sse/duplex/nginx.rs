//! Behind a real nginx with the defaults of `proxy_pass`: 1 MiB for a request's body, responses buffered, HTTP/1.0 to
//! the server.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};
use tower_transport::{Limits, Message, TransportExt, transport::sse::SseDuplexConnector};

use super::{connect, sessions, within};

struct Nginx {
    address: SocketAddr,
    folder: std::path::PathBuf,
    _process: Child,
}

impl Nginx {
    /// In front of `server`; `None` where the tests do without foreign peers.
    async fn start(server: SocketAddr) -> Option<Self> {
        if std::env::var_os("TOWER_TRANSPORT_NO_PEERS").is_some() {
            println!("skipped: TOWER_TRANSPORT_NO_PEERS is set");
            return None;
        }
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let folder = std::env::temp_dir().join(format!("tower-transport-nginx-{}", address.port()));
        std::fs::create_dir_all(&folder).unwrap();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {}/{name};\n", folder.display()))
            .concat();
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n\
             {temporary}server {{ listen {address}; location / {{ proxy_pass http://{server}; }} }}\n}}\n",
            folder = folder.display()
        );
        std::fs::write(folder.join("nginx.conf"), configuration).unwrap();
        let process = Command::new("nginx")
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()))
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("nginx is missing: run tests/install, or set TOWER_TRANSPORT_NO_PEERS=1");
        within(async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        Some(Self { address, folder, _process: process })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn messages_of_any_size_get_through_nginx_with_its_defaults() {
    let (server, mut sessions) = sessions(Limits::default()).await;
    let Some(nginx) = Nginx::start(server).await else { return };
    let mut client = connect(SseDuplexConnector::new(), nginx.address).await;
    let mut server = sessions.recv().await.unwrap();
    for length in [10, 983_040, 2_000_000, 4 << 20] {
        let message = Message::binary((0..length).map(|i| (i % 251) as u8).collect::<Vec<_>>());
        let (sent, received) = within(futures_util::future::join(client.send(message.clone()), server.next())).await;
        sent.unwrap();
        assert!(received.unwrap().unwrap() == message, "{length} bytes up");
        let (sent, received) = within(futures_util::future::join(server.send(message.clone()), client.next())).await;
        sent.unwrap();
        assert!(received.unwrap().unwrap() == message, "{length} bytes down");
    }
}

#[tokio::test]
async fn nginx_refuses_a_larger_post_and_the_client_says_so_at_once() {
    let (server, mut sessions) = sessions(Limits::default()).await;
    let Some(nginx) = Nginx::start(server).await else { return };
    let mut client = connect(SseDuplexConnector::new().max_post(2 << 20), nginx.address).await;
    let _server = sessions.recv().await.unwrap();
    // POSTs grow: 64, 128, 256, 512 KiB, 1 MiB, and the rest.
    let error = within(client.send_message(Message::binary(vec![7; 4_000_000]))).await.unwrap_err();
    assert!(error.is_too_large() && error.status().unwrap() == 413, "{error:?}");
    let error = tokio::time::timeout(Duration::from_secs(5), client.next()).await.unwrap().unwrap().unwrap_err();
    assert!(error.is_too_large() && error.status().unwrap() == 413, "{error:?}");
}
