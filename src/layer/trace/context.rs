use std::{fmt, str::FromStr};

use crate::Error;

/// The position of a message in distributed traces: the content of the `traceparent` of [W3C Trace
/// Context](https://www.w3.org/TR/trace-context/#traceparent-header).
///
/// Neither id is zero. One flag has a meaning: [`is_sampled`](Self::is_sampled).
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

/// The only flag of version 00: the caller may have recorded its span.
const SAMPLED: u8 = 1;

impl TraceContext {
    /// The length of [`to_bytes`](Self::to_bytes).
    pub const LEN: usize = 26;

    /// Creates the context of the span `span_id` in the trace `trace_id`. Returns `None` if one of them is zero, which
    /// W3C forbids.
    #[must_use]
    pub const fn new(trace_id: u128, span_id: u64, sampled: bool) -> Option<Self> {
        if trace_id == 0 || span_id == 0 {
            return None;
        }
        Some(Self { trace_id, span_id, flags: if sampled { SAMPLED } else { 0 } })
    }

    /// Creates a sampled context; neither number is zero.
    pub(super) const fn root(trace_id: u128, span_id: u64) -> Self {
        Self { trace_id, span_id, flags: SAMPLED }
    }

    /// Returns the id of the whole trace.
    #[must_use]
    pub const fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// Returns the id of the sender's span, which is the parent of the receiver's span.
    #[must_use]
    pub const fn span_id(&self) -> u64 {
        self.span_id
    }

    /// Returns whether the sender may have recorded its span.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Returns the binary form: the version (0), the trace id (16 bytes), the span id (8), the flags (1); big endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[1..17].copy_from_slice(&self.trace_id.to_be_bytes());
        bytes[17..25].copy_from_slice(&self.span_id.to_be_bytes());
        bytes[25] = self.flags;
        bytes
    }

    /// Reads the form of [`to_bytes`](Self::to_bytes). Returns `None` for another version and for an id of zero: the
    /// W3C text says to ignore such a context and continue without it.
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

/// Formats the context as a `traceparent` header, version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// Parses a `traceparent` header. For a later version than 00, it reads the fields that 00 defines, as W3C requires.
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
    // Version ff is invalid. Version 00 has no more fields, and a later version continues with a dash.
    let ending = match version {
        0xff => false,
        0 => rest.is_empty(),
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    if dashes && ending { TraceContext::new(trace_id, span_id, sampled) } else { None }
}

/// Lower case only, as the W3C text requires.
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
