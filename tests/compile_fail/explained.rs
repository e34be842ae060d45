//! The compiler's messages for a newcomer's likeliest mistakes.

/// The messages are those of this compiler; others word them differently.
const RUSTC: &str = "rustc 1.95.";

#[test]
fn mistakes_are_explained() {
    let version = std::process::Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()))
        .arg("--version")
        .output()
        .expect("rustc runs");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if !version.starts_with(RUSTC) {
        println!("skipped: the messages are pinned for {RUSTC}*, this is {version}");
        assert!(std::env::var_os("CI").is_none(), "CI runs on the compiler that the messages are pinned for");
        return;
    }
    trybuild::TestCases::new().compile_fail("cases/*.rs");
}
