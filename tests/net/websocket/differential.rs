//! Random frames, valid and not, and any cut of them: as tungstenite reads them.

use proptest::prelude::*;
use support::against_tungstenite::compare;
use tokio::runtime::Builder;
use tower_transport::Limits;

/// Around the sizes of our buffers.
const LARGE: usize = 64 * 1024;
const FRAME: usize = 3 * LARGE;
const MESSAGE: usize = 4 * LARGE;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const PING: u8 = 9;
const FIN: u8 = 0x80;

/// The form in which a frame is written, valid or not.
#[derive(Clone, Debug)]
struct Frame {
    first: u8,
    size: usize,
    /// Whether the mask contradicts the peer's role.
    is_wrongly_masked: bool,
    /// The position of a byte that is not UTF-8.
    flaw: Option<usize>,
    /// The first bytes of the payload, if it is as long.
    start: [u8; 2],
}

impl Frame {
    fn write(&self, is_from_client: bool, out: &mut Vec<u8>) {
        let masked = is_from_client != self.is_wrongly_masked;
        let flag = if masked { 0x80 } else { 0 };
        out.push(self.first);
        match self.size {
            0..126 => out.push(flag | self.size as u8),
            126..0x1_0000 => {
                out.push(flag | 126);
                out.extend((self.size as u16).to_be_bytes());
            }
            _ => {
                out.push(flag | 127);
                out.extend((self.size as u64).to_be_bytes());
            }
        }
        let mask = if masked { [1, 77, 200, 34] } else { [0; 4] };
        if masked {
            out.extend(mask);
        }
        let start = out.len();
        out.extend((0..self.size).map(|i| b'a' + (i % 23) as u8));
        if self.first & 0x0f == 8 && self.size > 1 {
            out[start..start + 2].copy_from_slice(&self.start);
        }
        if let Some(flaw) = self.flaw.filter(|_| self.size > 0) {
            out[start + flaw % self.size] = 0xff;
        }
        out[start..].iter_mut().enumerate().for_each(|(i, byte)| *byte ^= mask[i % 4]);
    }
}

fn right(first: u8, size: usize) -> Frame {
    Frame { first, size, is_wrongly_masked: false, flaw: None, start: [3, 232] }
}

fn sizes() -> impl Strategy<Value = usize> {
    let (small, middle, large) = (0..300_usize, 1000..5000_usize, LARGE..FRAME);
    prop_oneof![6 => small, 2 => middle, 6 => LARGE - 2..LARGE + 3, 3 => large, 1 => FRAME - 1..FRAME + 2]
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let data = || prop_oneof![Just(TEXT), Just(BINARY)];
    let whole = (data(), sizes()).prop_map(|(kind, size)| vec![right(FIN | kind, size)]);
    let control =
        (prop_oneof![Just(PING), Just(10)], 0..126_usize).prop_map(|(kind, size)| vec![right(FIN | kind, size)]);
    let fragmented = (data(), prop::collection::vec((0..LARGE + 2, any::<bool>()), 2..4)).prop_map(|(kind, parts)| {
        let last = parts.len() - 1;
        let mut frames = Vec::new();
        for (i, (size, is_followed)) in parts.into_iter().enumerate() {
            let fin = if i == last { FIN } else { 0 };
            frames.push(right(fin | if i == 0 { kind } else { 0 }, size));
            frames.extend(is_followed.then(|| right(FIN | PING, 3)));
        }
        frames
    });
    let code = prop_oneof![995..1020_u16, 2990..3010_u16, 4990..5010_u16, any::<u16>()];
    let close =
        (0..126_usize, code).prop_map(|(size, code)| vec![Frame { start: code.to_be_bytes(), ..right(FIN | 8, size) }]);
    let unfinished = (data(), 0..LARGE + 2).prop_map(|(kind, size)| vec![right(kind, size)]);
    // Like a large frame, except for one bit of the first byte, or the mask.
    let odd = (data(), 0..8_u32, any::<bool>(), LARGE..FRAME).prop_map(|(kind, bit, is_wrongly_masked, size)| {
        let first = if is_wrongly_masked { FIN | kind } else { (FIN | kind) ^ (1 << bit) };
        vec![Frame { is_wrongly_masked, ..right(first, size) }]
    });
    let wild = (any::<u8>(), sizes(), any::<bool>(), any::<Option<usize>>()).prop_map(
        |(first, size, is_wrongly_masked, flaw)| vec![Frame { is_wrongly_masked, flaw, ..right(first, size) }],
    );
    let flawed = (data(), sizes(), any::<usize>())
        .prop_map(|(kind, size, flaw)| vec![Frame { flaw: Some(flaw), ..right(FIN | kind, size) }]);
    let rare = prop_oneof![1 => unfinished, 1 => close, 2 => odd, 1 => wild, 1 => flawed];
    let part = prop_oneof![12 => whole, 4 => control, 4 => fragmented, 6 => rare];
    prop::collection::vec(part, 1..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn our_websocket_yields_what_tungstenite_does(
        frames in frames(),
        is_client in any::<bool>(),
        // Occasionally the end comes early, or the following bytes are not a frame.
        lost in prop_oneof![3 => Just(0), 1 => 0..2 * LARGE],
        noise in prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(any::<u8>(), 0..40)],
        message in prop_oneof![3 => Just(MESSAGE), 1 => Just(2 * LARGE)],
        early in prop_oneof![2 => Just(0), 1 => 0..5000_usize, 1 => 0..2 * LARGE],
        mut pieces in prop::collection::vec(prop_oneof![1..20_usize, 4000..4200_usize, 1..FRAME], 0..6),
        waits in any::<bool>(),
    ) {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.write(!is_client, &mut bytes));
        bytes.truncate(bytes.len().saturating_sub(lost));
        bytes.extend(noise);
        // Few pieces of one byte among that number of bytes.
        pieces.push(LARGE);
        let limits = Limits::new().frame(FRAME).message(message);
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(compare(is_client, limits, &bytes, early, &pieces, waits));
    }
}
