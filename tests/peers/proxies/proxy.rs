//! A proxy as a process.

use std::{net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

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
}

impl Kind {
    /// The configuration of the deployment guide.
    pub(super) fn configuration(self) -> &'static str {
        match self {
            Self::Nginx => include_str!("../../../docs/guide/nginx.conf"),
            Self::Haproxy => include_str!("../../../docs/guide/haproxy.cfg"),
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }
}

pub(super) struct Proxy {
    kind: Kind,
    address: SocketAddr,
    folder: PathBuf,
    process: Child,
}

impl Proxy {
    /// In front of `site`. `None` where the tests do without foreign peers, and where the proxy is not installed, which
    /// fails in CI.
    pub(super) async fn start(kind: Kind, site: &Site) -> Option<Self> {
        if std::env::var_os("TOWER_TRANSPORT_NO_PEERS").is_some() {
            println!("skipped: TOWER_TRANSPORT_NO_PEERS is set");
            return None;
        }
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        if !std::env::split_paths(&path).any(|folder| folder.join(kind.program()).exists()) {
            assert!(std::env::var_os("CI").is_none(), "{} is missing: run tests/install", kind.program());
            println!("skipped: {} is not installed (tests/install)", kind.program());
            return None;
        }
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let folder = std::env::temp_dir().join(format!("tower-transport-proxy-{}", address.port()));
        std::fs::create_dir_all(&folder).unwrap();
        let (certificate, key) = (site.certificate.cert.pem(), site.certificate.signing_key.serialize_pem());
        std::fs::write(folder.join("example.com.crt"), &certificate).unwrap();
        std::fs::write(folder.join("example.com.key"), &key).unwrap();
        std::fs::write(folder.join("example.com.pem"), certificate + &key).unwrap();

        let file = folder.join("configuration");
        std::fs::write(&file, adapt(kind, address, site.address, &folder)).unwrap();
        let mut command = Command::new(kind.program());
        match kind {
            Kind::Nginx => {
                let pid = folder.join("pid");
                let globals = format!("daemon off; pid {}; error_log stderr;", pid.display());
                command.arg("-p").arg(&folder).arg("-g").arg(globals).arg("-c").arg(&file)
            }
            Kind::Haproxy => command.arg("-W").arg("-db").arg("-f").arg(&file),
        };
        let process = command.env("PATH", path).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        within(async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        Some(Self { kind, address, folder, process })
    }

    pub(super) fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.address)
    }

    /// Starts new processes with the same configuration. The old ones end their connections after a time.
    pub(super) fn reload(&self) {
        self.signal(match self.kind {
            Kind::Nginx => "HUP",
            Kind::Haproxy => "USR2",
        });
    }

    fn signal(&self, name: &str) {
        let Some(id) = self.process.id() else { return };
        let sent = std::process::Command::new("kill").arg(format!("-{name}")).arg(id.to_string()).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Ends the worker processes too.
        self.signal("TERM");
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The configuration with the test's addresses, files and times. A text that is no longer there fails the test.
fn adapt(kind: Kind, address: SocketAddr, server: SocketAddr, folder: &std::path::Path) -> String {
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
    };
    changes.into_iter().fold(kind.configuration().to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the configuration does not contain `{from}`");
        text.replace(from, &to)
    })
}
