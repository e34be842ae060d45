//! The answer to a batch, while its calls are in flight. Pure.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::message::JsonRpcError;

/// The answers to a batch that are there, as text: a value in memory is ten times as large.
#[derive(Debug)]
pub(super) struct Batch {
    entries: usize,
    /// How many answers are missing: one more than there are calls, until all entries are taken.
    waiting: usize,
    /// An array of JSON without its end.
    text: String,
    /// The identifiers of the calls that are answered in it.
    ids: Vec<Value>,
}

impl Batch {
    pub(super) const fn new(entries: usize) -> Self {
        Self { entries, waiting: 1, text: String::new(), ids: Vec::new() }
    }

    /// Returns how many entries it has.
    pub(super) const fn entries(&self) -> usize {
        self.entries
    }

    /// Waits for one answer more.
    pub(super) const fn wait(&mut self) {
        self.waiting += 1;
    }

    /// Ends the entries of the batch: no more calls come.
    pub(super) const fn all_taken(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Adds an answer that nobody waited for.
    pub(super) fn add(&mut self, answer: &str) {
        self.text.push(if self.text.is_empty() { '[' } else { ',' });
        self.text.push_str(answer);
    }

    /// Adds the answer to a call.
    pub(super) fn answer(&mut self, id: Value, answer: &str) {
        self.add(answer);
        self.ids.push(id);
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Returns whether no answer is missing.
    pub(super) const fn is_complete(&self) -> bool {
        self.waiting == 0
    }

    /// Takes the text. `None` if there is nothing to answer: a batch of notifications.
    pub(super) fn take_text(&mut self) -> Option<String> {
        let mut text = std::mem::take(&mut self.text);
        text.push(']');
        (text.len() > 1).then_some(text)
    }

    /// Replaces the answers by one error for each, and waits for the last one again. Returns its identifier.
    pub(super) fn reject(&mut self, error: &JsonRpcError) -> Option<Value> {
        let last = self.ids.pop()?;
        self.text.clear();
        for id in std::mem::take(&mut self.ids) {
            self.text.push(if self.text.is_empty() { '[' } else { ',' });
            // Writing to a string does not fail.
            let _ = write!(self.text, "{}", json!({ "jsonrpc": "2.0", "error": error, "id": id }));
        }
        self.waiting = 1;
        Some(last)
    }
}
