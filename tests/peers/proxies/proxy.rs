//! A proxy as a process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Mutex,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

use super::{IDLE_TIMEOUT, Site};
use crate::within;

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Nginx,
    Haproxy,
    Envoy,
}

impl Kind {
    /// The configuration of the deployment guide.
    pub(super) fn configuration(self) -> &'static str {
        match self {
            Self::Nginx => include_str!("../../../docs/guide/nginx.conf"),
            Self::Haproxy => include_str!("../../../docs/guide/haproxy.cfg"),
            Self::Envoy => include_str!("../../../docs/guide/envoy.yaml"),
        }
    }

    /// The program, or `None` if it is not installed. Debian has no Envoy, so `tests/install` takes it from PyPI.
    fn program(self) -> Option<PathBuf> {
        let name = match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
        };
        let peers = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers/python/envoy/_bin");
        let path = format!("{peers}:{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.exists())
    }
}

pub(super) struct Proxy {
    kind: Kind,
    address: SocketAddr,
    folder: PathBuf,
    program: PathBuf,
    /// The newest is the last. Only Envoy has another one for each reload.
    processes: Mutex<Vec<Child>>,
}

impl Proxy {
    /// In front of `site`, with the configuration of the deployment guide.
    pub(super) async fn start(kind: Kind, site: &Site) -> Option<Self> {
        Self::start_with(kind, |address, folder| {
            let (certificate, key) = (site.certificate.cert.pem(), site.certificate.signing_key.serialize_pem());
            std::fs::write(folder.join("example.com.crt"), &certificate).unwrap();
            std::fs::write(folder.join("example.com.key"), &key).unwrap();
            std::fs::write(folder.join("example.com.pem"), certificate + &key).unwrap();
            adapt(kind, address, site.address, folder)
        })
        .await
    }

    /// With the configuration for this address and this folder. `None` where the tests do without foreign peers, and where
    /// the proxy is not installed, which fails in CI.
    pub(super) async fn start_with(kind: Kind, configure: impl FnOnce(SocketAddr, &Path) -> String) -> Option<Self> {
        if std::env::var_os("TOWER_TRANSPORT_NO_PEERS").is_some() {
            println!("skipped: TOWER_TRANSPORT_NO_PEERS is set");
            return None;
        }
        let Some(program) = kind.program() else {
            assert!(std::env::var_os("CI").is_none(), "{kind:?} is missing: run tests/install");
            println!("skipped: {kind:?} is not installed (tests/install)");
            return None;
        };
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let folder = std::env::temp_dir().join(format!("tower-transport-proxy-{}", address.port()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("configuration.yaml"), configure(address, &folder)).unwrap();
        let proxy = Self { kind, address, folder, program, processes: Mutex::default() };
        proxy.spawn();
        within(async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        Some(proxy)
    }

    /// Starts a process. A later one of Envoy takes the listening socket over from the one before.
    fn spawn(&self) {
        let mut processes = self.processes.lock().unwrap();
        // Envoy chooses the parser by the ending; the others do not mind.
        let file = self.folder.join("configuration.yaml");
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Nginx => {
                let pid = self.folder.join("pid");
                let globals = format!("daemon off; pid {}; error_log stderr;", pid.display());
                command.arg("-p").arg(&self.folder).arg("-g").arg(globals).arg("-c").arg(&file)
            }
            Kind::Haproxy => command.arg("-W").arg("-db").arg("-f").arg(&file),
            Kind::Envoy => {
                let (base, epoch) = (self.address.port().to_string(), processes.len().to_string());
                command
                    .arg("-c")
                    .arg(&file)
                    .args(["--concurrency", "1", "--base-id", &base, "--restart-epoch", &epoch])
                    .args(["--drain-time-s", "1", "--parent-shutdown-time-s", "2"])
            }
        };
        processes.push(command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.address)
    }

    /// Starts new processes with the same configuration. The old ones end their connections after a time.
    pub(super) fn reload(&self) {
        match self.kind {
            Kind::Nginx => self.signal("HUP"),
            Kind::Haproxy => self.signal("USR2"),
            Kind::Envoy => self.spawn(),
        }
    }

    fn signal(&self, name: &str) {
        for id in self.processes.lock().unwrap().iter_mut().filter_map(running) {
            let sent = std::process::Command::new("kill").arg(format!("-{name}")).arg(id.to_string()).status();
            assert!(sent.unwrap().success());
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Ends the worker processes too.
        self.signal("TERM");
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The id of a process that has not ended.
fn running(process: &mut Child) -> Option<u32> {
    matches!(process.try_wait(), Ok(None)).then(|| process.id())?
}

/// The configuration with the test's addresses, files and times. A text that is no longer there fails the test.
fn adapt(kind: Kind, address: SocketAddr, server: SocketAddr, folder: &Path) -> String {
    let (idle, files, server) = (IDLE_TIMEOUT.as_secs(), format!("{}/", folder.display()), server.to_string());
    let changes = match kind {
        Kind::Nginx => {
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|name| format!("    {name}_temp_path {files}{name};\n"))
                .concat();
            vec![
                ("worker_processes auto", "worker_processes 1".to_owned()),
                ("worker_rlimit_nofile 65536;", String::new()),
                ("worker_connections 32768", "worker_connections 512".to_owned()),
                ("worker_shutdown_timeout 60s", "worker_shutdown_timeout 1s".to_owned()),
                ("http {\n", format!("http {{\n    access_log off;\n{temporary}")),
                ("listen 443 ssl", format!("listen {address} ssl")),
                ("proxy_read_timeout 60s", format!("proxy_read_timeout {idle}s")),
                ("proxy_send_timeout 60s", format!("proxy_send_timeout {idle}s")),
                ("/etc/ssl/", files),
                ("127.0.0.1:3000", server),
            ]
        }
        Kind::Haproxy => vec![
            ("maxconn 32768", "maxconn 512".to_owned()),
            ("hard-stop-after 60s", "hard-stop-after 1s".to_owned()),
            ("timeout client 60s", format!("timeout client {idle}s")),
            ("timeout server 60s", format!("timeout server {idle}s")),
            ("timeout tunnel 60s", format!("timeout tunnel {idle}s")),
            ("bind :443", format!("bind {address}")),
            ("/etc/ssl/", files),
            ("127.0.0.1:3000", server),
        ],
        Kind::Envoy => vec![
            ("address: 0.0.0.0, port_value: 443", format!("address: {}, port_value: {}", address.ip(), address.port())),
            ("stream_idle_timeout: 60s", format!("stream_idle_timeout: {idle}s")),
            ("/etc/ssl/", files),
            ("port_value: 3000", server.replace("127.0.0.1:", "port_value: ")),
        ],
    };
    changes.into_iter().fold(kind.configuration().to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the configuration does not contain `{from}`");
        text.replace(from, &to)
    })
}
