use std::fmt::{self, Write};

/// Prints text from a peer so that it cannot control a terminal, break a log line or change the text direction.
pub(super) struct Escaped<D>(pub(super) D);

impl<D: fmt::Display> fmt::Display for Escaped<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| match c {
            // Part of ordinary sentences, and harmless.
            '"' | '\'' | '\\' => self.0.write_char(c),
            c => c.escape_debug().try_for_each(|c| self.0.write_char(c)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_printed_and_not_obeyed() {
        let printed = Escaped("\u{1b}[2J\r\nINFO \"all is well\" \u{202e}é").to_string();
        assert_eq!(printed, r#"\u{1b}[2J\r\nINFO "all is well" \u{202e}é"#);
    }
}
