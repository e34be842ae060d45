//! The network in which packets are lost.

use std::process::Command;

const INSIDE: &str = "--inside";

/// Loses 2 of 100 packets that come in over loopback, of both directions. Where packets go out, the sender would be
/// told.
const RULES: &str = "table inet loss {
    chain inward {
        type filter hook input priority 0;
        iif lo numgen random mod 100 < 2 drop
    }
}";

/// Whether this is the run inside.
pub(crate) fn is_inside() -> bool {
    std::env::args().any(|word| word == INSIDE)
}

/// Runs this very benchmark in a new network namespace; says why it cannot be.
pub(crate) fn run_inside() -> Result<(), String> {
    let me = std::env::current_exe().map_err(|error| format!("its own program is not found: {error}"))?;
    // A path of a loopback device takes 64 KiB at once; the internet takes 1,500 bytes.
    let setup = "ip link set lo up mtu 1500 && printf '%s' \"$0\" | nft -f - || exit 77; exec \"$@\"";
    let status = Command::new("unshare")
        .args(["--net", "sh", "-c", setup, RULES])
        .arg(me)
        .args(std::env::args().skip(1).filter(|word| word.starts_with('-')))
        .arg(INSIDE)
        .status()
        .map_err(|error| format!("`unshare` does not run: {error}"))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(77) | Some(1) => Err("it needs root, and the programs ip and nft (Debian: iproute2, nftables)".to_owned()),
        _ => panic!("the run inside the namespace failed: {status}"),
    }
}
