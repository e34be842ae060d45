//! Instructions, counted by callgrind: this program runs itself again within valgrind.

use std::{env, fs, process::Command};

/// How a child is told what to run: this word, the row's name and a number of messages.
pub(crate) const RUN: &str = "--run";

/// Instructions per message of the row, without what it costs to start; `None` where valgrind does not run.
pub(crate) fn instructions(row: &str) -> Option<f64> {
    const FEW: usize = 200;
    const MANY: usize = 2200;
    let (few, many) = (total(row, FEW)?, total(row, MANY)?);
    Some((many as f64 - few as f64) / (MANY - FEW) as f64)
}

fn total(row: &str, messages: usize) -> Option<u64> {
    // Rows that do not pump are counted whole.
    match count(row, messages, &["--toggle-collect=*rows::pump*"])? {
        0 => count(row, messages, &[]),
        total => Some(total),
    }
}

fn count(row: &str, messages: usize, options: &[&str]) -> Option<u64> {
    let file = env::temp_dir().join(format!("overhead.{}.callgrind", std::process::id()));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .args(options)
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(env::current_exe().ok()?)
        .args([RUN, row, &messages.to_string()])
        .output()
        .ok()?;
    let counts = fs::read_to_string(&file);
    // A file that is left over is not worth failing for.
    let _ = fs::remove_file(&file);
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    counts.ok()?.lines().find_map(|line| line.strip_prefix("summary: ")?.trim().parse().ok())
}
