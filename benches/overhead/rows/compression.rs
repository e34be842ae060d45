//! Compression, and the bare library beneath it.

use std::hint::black_box;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tower_transport::{
    Message, Text,
    layer::compression::{CompressionLayer, Deflate},
};

use super::{Row, message, through};

/// flate2 alone, as the layer's goal has it: states and buffers that are there already, reset for each message.
pub(crate) const BARE: &str = "bare flate2, 2 KiB JSON";
pub(crate) const LAYER: &str = "+ compression, 2 KiB JSON";
pub(crate) const SMALL: &str = "+ compression, below its size";

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row { name: BARE, run: bare },
        Row { name: LAYER, run: |messages| layer(Deflate::new(), messages) },
        Row { name: "+ compression, context kept", run: |messages| layer(Deflate::new().keep_context(), messages) },
        // Messages are 32 bytes, as in the other rows.
        Row { name: SMALL, run: |messages| through(CompressionLayer::new(Deflate::new()), message(), messages) },
    ]
}

fn layer(deflate: Deflate, messages: usize) {
    through(CompressionLayer::new(deflate), Message::Text(Text::from(chat())), messages);
}

/// Compresses and inflates by hand, at the layer's level, and checks that it is text as a transport must.
fn bare(messages: usize) {
    let text = chat();
    let (mut compress, mut decompress) = (Compress::new(Compression::new(1), false), Decompress::new(false));
    let (mut compressed, mut plain) = (Vec::with_capacity(4096), Vec::with_capacity(4096));
    for _ in 0..messages {
        compressed.clear();
        plain.clear();
        compress.reset();
        let sent = compress.compress_vec(black_box(text.as_bytes()), &mut compressed, FlushCompress::Sync);
        assert!(sent.is_ok());
        decompress.reset(false);
        let received = decompress.decompress_vec(black_box(&compressed), &mut plain, FlushDecompress::Sync);
        assert!(received.is_ok() && plain.len() == text.len());
        assert!(std::str::from_utf8(black_box(&plain)).is_ok());
    }
}

/// 2 KiB that look like the JSON of a chat.
fn chat() -> String {
    let words = ["price", "of", "order", "moves", "again", "server", "thanks", "tomorrow", "queue", "full", "answer"];
    let (mut text, mut seed) = (String::new(), 4_711_usize);
    while text.len() < 2048 {
        let mut word = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            words[(seed >> 33) % words.len()]
        };
        let said = [word(), word(), word(), word(), word(), word(), word(), word()].join(" ");
        let (id, user) = (seed >> 20, (seed >> 40) % 5000);
        text += &format!(r#"{{"id":"{id:016x}","user":"user-{user}","room":"general","text":"{said}"}},"#);
    }
    text.truncate(2048);
    text
}
