//! Traces: which request, or which run of the schedule, caused something. Replies, log lines, flips and alerts
//! carry its ID, and so does AWS X-Ray.

use crate::time::UnixMs;
use crate::world::World;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Bits of a trace ID that are random.
const RANDOM_BITS: u32 = 96;
/// How far from now a trace that comes with a request may have started, in milliseconds.
const MAX_OFF_MS: i64 = 300_000;

/// The ID of a trace, in the form of X-Ray: `1-`, the time of its start in seconds as 8 hex digits, `-`, and
/// 24 random hex digits.
/// <https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html#xray-api-traceids>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

impl TraceId {
    /// The ID of a trace that starts now.
    pub fn new(world: &dyn World) -> Self {
        let seconds = world.now().secs().clamp(0, u32::MAX.into());
        let random = world.random() & ((1 << RANDOM_BITS) - 1);
        Self(u128::from(seconds.unsigned_abs()) << RANDOM_BITS | random)
    }

    /// The ID in a field of AWS's tracing header. A client may have chosen it, but not one of a trace that started
    /// long before `now`.
    pub fn of_header(header: &str, field: &str, now: UnixMs) -> Option<Self> {
        let id: Self = header_field(header, field)?.parse().ok()?;
        let seconds = i64::try_from(id.0 >> RANDOM_BITS).ok()?;
        let off_ms = now - UnixMs::from_secs(seconds);
        (-MAX_OFF_MS..=MAX_OFF_MS).contains(&off_ms).then_some(id)
    }
}

/// A field of AWS's tracing header.
/// <https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader>
pub fn header_field<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = header.split(';');
    fields.find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let random = self.0 & ((1 << RANDOM_BITS) - 1);
        write!(f, "1-{:08x}-{random:024x}", self.0 >> RANDOM_BITS)
    }
}

/// A text is not a trace ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a trace ID has the form 1-<8 hex digits>-<24 hex digits>")]
pub struct NotATraceId;

impl FromStr for TraceId {
    type Err = NotATraceId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (seconds, random) = text
            .strip_prefix("1-")
            .and_then(|rest| rest.split_once('-'))
            .filter(|(seconds, random)| (seconds.len(), random.len()) == (8, 24))
            .ok_or(NotATraceId)?;
        // `from_str_radix` also takes a sign.
        let is_hex = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex(seconds) || !is_hex(random) {
            return Err(NotATraceId);
        }
        u128::from_str_radix(&format!("{seconds}{random}"), 16)
            .map(Self)
            .map_err(|_| NotATraceId)
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::ManualWorld;

    #[test]
    fn its_text_is_that_of_x_ray_and_reads_back() {
        let world = ManualWorld::new(UnixMs(1_763_700_000_123), 7);
        let id = TraceId::new(&*world);
        let text = id.to_string();
        assert!(text.starts_with("1-691fed20-"), "{text}");
        assert_eq!(text.len(), 35);
        assert_eq!(text.parse(), Ok(id));
        assert_ne!(TraceId::new(&*world), id);
    }

    #[test]
    fn it_is_found_in_the_header_of_aws() {
        let now = UnixMs(0x6789_1233 * 1000);
        let id = "1-67891233-abcdef012345678912345678";
        for header in [
            format!("Root={id}"),
            format!("Self=1-67891234-12456789abcdef0123456789;Root={id}"),
            format!("Root={id}; Parent=53995c3f42cd8ad8; Sampled=1"),
        ] {
            let found = |at| TraceId::of_header(&header, "Root", at).map(|id| id.to_string());
            assert_eq!(found(now).as_deref(), Some(id), "{header}");
            assert_eq!(found(now + 300_000).as_deref(), Some(id));
            assert_eq!(found(now + 301_000), None, "long ago");
            assert_eq!(found(now - 301_000), None, "in the future");
        }
        assert_eq!(
            TraceId::of_header("Parent=53995c3f42cd8ad8", "Root", now),
            None
        );
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "1-691ff120",
            "1-691ff120-00000000000000000000000",
            "2-691ff120-000000000000000000000000",
            "1-+91ff120-000000000000000000000000",
            "1-691ff120-00000000000000000000000g",
            "1-691ff120-000000000000000000000000-",
        ] {
            assert_eq!(text.parse::<TraceId>(), Err(NotATraceId), "{text}");
        }
    }
}
