use std::{fmt, str::FromStr};

use crate::Error;

/// Where a message belongs among distributed traces: what the `traceparent` of
/// [W3C Trace Context](https://www.w3.org/TR/trace-context/#traceparent-header) says.
///
/// Neither id is zero. Of the flags, one has a meaning: [`is_sampled`](Self::is_sampled).
///
/// ```
/// use tower_transport::layer::trace::TraceContext;
///
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context: TraceContext = text.parse()?;
/// assert_eq!(context.trace_id(), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
/// assert_eq!(context.span_id(), 0x00f0_67aa_0ba9_02b7);
/// assert!(context.is_sampled());
/// assert_eq!(context.to_string(), text);
/// # Ok::<(), tower_transport::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

/// The one flag of version 00: the caller may have recorded this.
const SAMPLED: u8 = 1;

impl TraceContext {
    /// How long [`to_bytes`](Self::to_bytes) is.
    pub const LEN: usize = 26;

    /// The context of the span `span_id` in the trace `trace_id`; `None` where one of them is zero, which W3C forbids.
    #[must_use]
    pub const fn new(trace_id: u128, span_id: u64, sampled: bool) -> Option<Self> {
        if trace_id == 0 || span_id == 0 {
            return None;
        }
        Some(Self { trace_id, span_id, flags: if sampled { SAMPLED } else { 0 } })
    }

    /// A sampled one; neither number is zero.
    pub(super) const fn root(trace_id: u128, span_id: u64) -> Self {
        Self { trace_id, span_id, flags: SAMPLED }
    }

    /// The whole trace.
    #[must_use]
    pub const fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// The span that this context speaks of: the sender's, that is the parent of what the receiver does.
    #[must_use]
    pub const fn span_id(&self) -> u64 {
        self.span_id
    }

    /// Whether the sender may have recorded its span.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// In binary: the version (0), the trace id (16 bytes), the span id (8), the flags (1); big endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[1..17].copy_from_slice(&self.trace_id.to_be_bytes());
        bytes[17..25].copy_from_slice(&self.span_id.to_be_bytes());
        bytes[25] = self.flags;
        bytes
    }

    /// Reads [`to_bytes`](Self::to_bytes). `None` for another version, and for an id of zero: the text of W3C says to ignore
    /// such a context, and go on without.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (trace_id, rest) = rest.split_first_chunk()?;
        let (span_id, rest) = rest.split_first_chunk()?;
        let sampled = rest.first()? & SAMPLED != 0;
        if *version != 0 {
            return None;
        }
        Self::new(u128::from_be_bytes(*trace_id), u64::from_be_bytes(*span_id), sampled)
    }
}

/// The text of a `traceparent` header, version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// Reads a `traceparent` header. Of a later version than 00, it reads what 00 defines, as W3C wants it.
impl FromStr for TraceContext {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text.as_bytes()).ok_or_else(|| Error::protocol("not a traceparent of W3C Trace Context"))
    }
}

fn parse(text: &[u8]) -> Option<TraceContext> {
    let field = |from, to| text.get(from..to);
    let dashes = [2, 35, 52].iter().all(|place| text.get(*place) == Some(&b'-'));
    let version = hex(field(0, 2)?)?;
    let trace_id = hex(field(3, 35)?)?;
    let span_id = u64::try_from(hex(field(36, 52)?)?).ok()?;
    let sampled = hex(field(53, 55)?)? & u128::from(SAMPLED) != 0;
    let rest = text.get(55..)?;
    // Version ff is invalid; 00 has nothing more, and a later one goes on with a dash.
    let ending = match version {
        0xff => false,
        0 => rest.is_empty(),
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    if dashes && ending { TraceContext::new(trace_id, span_id, sampled) } else { None }
}

/// Lower case only, as the text of W3C has it.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}
