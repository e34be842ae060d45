//! Peers that are processes, in Node.js and Python.

use std::path::Path;

use tokio::process::Command;

#[derive(Clone, Copy)]
pub(crate) enum Language {
    Node,
    Python,
}

/// The command that runs a `script` of this folder with a `package`; `None` where the tests against it are to be passed
/// over.
pub(crate) fn command(language: Language, script: &str, package: &str) -> Option<Command> {
    if std::env::var_os("TOWER_TRANSPORT_NO_PEERS").is_some() {
        println!("skipped: TOWER_TRANSPORT_NO_PEERS is set");
        return None;
    }
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers");
    let (program, variable, folder) = match language {
        Language::Node => ("node", "NODE_PATH", "node/node_modules"),
        Language::Python => ("python3", "PYTHONPATH", "python"),
    };
    assert!(
        Path::new(&format!("{root}/{folder}/{package}")).exists(),
        "`{package}` for {program} is missing: run tests/install, or set TOWER_TRANSPORT_NO_PEERS=1"
    );
    let mut command = Command::new(program);
    command.arg(format!("{}/peers/{script}", env!("CARGO_MANIFEST_DIR")));
    command.env(variable, format!("{root}/{folder}")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.kill_on_drop(true);
    Some(command)
}
