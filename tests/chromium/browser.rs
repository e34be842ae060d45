//! Chromium as a process: it opens a page and runs a script of `pages/` there.

use std::{path::Path, process::Stdio, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use tokio::{process::Command, sync::Mutex};

/// The output of run.mjs.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    /// The script's result.
    #[serde(default)]
    pub(crate) value: Value,
    /// The script's exception.
    pub(crate) error: Option<String>,
    /// Chromium's log: it has the reason of a failed connection, which the page does not learn.
    pub(crate) log: Vec<String>,
}

/// Opens `page`, an address of a page that a test serves, and calls the function in `pages/SCRIPT` with `argument`.
/// `None`, and a printed line, where Chromium is not to be had.
pub(crate) async fn run(page: &str, script: &str, argument: Value) -> Option<Report> {
    run_with(&[], page, script, argument).await
}

/// Like [`run`], with more flags of Chromium.
pub(crate) async fn run_with(flags: &[&str], page: &str, script: &str, argument: Value) -> Option<Report> {
    /// One browser at a time: each is a dozen processes.
    static TURN: Mutex<()> = Mutex::const_new(());

    let chromium = chromium()?;
    let _turn = TURN.lock().await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/chromium");
    let mut command = Command::new("node");
    command.arg(format!("{folder}/run.mjs")).args([&chromium, env!("CARGO_TARGET_TMPDIR"), page]);
    command.arg(format!("{folder}/pages/{script}")).arg(argument.to_string()).args(flags);
    // Chromium ends when node, the other end of its pipe, is gone.
    let output = command.stderr(Stdio::inherit()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(120), output).await.expect("the page hangs").unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let report: Report = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed:?}"));
    assert!(output.status.success() && report.error.is_none(), "{script} failed: {report:?}");
    Some(report)
}

/// The program: `$CHROMIUM`, or the first that there is of the names it goes by.
fn chromium() -> Option<String> {
    if std::env::var_os("TOWER_TRANSPORT_NO_PEERS").is_some() {
        println!("skipped: TOWER_TRANSPORT_NO_PEERS is set");
        return None;
    }
    if let Ok(program) = std::env::var("CHROMIUM") {
        return Some(program);
    }
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| Path::new(program).is_file());
    if found.is_none() {
        println!("skipped: there is no Chromium; tests/install brings it where apt-get does");
        assert!(std::env::var_os("CI").is_none(), "CI has a Chromium, or sets TOWER_TRANSPORT_NO_PEERS");
    }
    Some(found?.to_str()?.to_owned())
}
