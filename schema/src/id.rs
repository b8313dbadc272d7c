//! Identifiers, each with its own type so that they cannot be mixed up.

use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }
    };
}

id!(
    /// A monitor. Random (version 4), because it is the secret in its ping URL.
    MonitorId
);
id!(
    /// A project: the owner of monitors, channels and keys.
    ProjectId
);
id!(
    /// A channel that alerts go to.
    ChannelId
);
id!(
    /// A monitor's public badge.
    BadgeId
);
id!(
    /// An alert or a group of alerts. Time-ordered (version 7), so that it determines the day of
    /// its partition.
    AlertId
);

id!(
    /// A watch.
    WatchId
);
id!(
    /// A request for a signal or a backtest; time-ordered (version 7).
    RequestId
);

impl ProjectId {
    /// The first project of a new installation.
    pub const FIRST: Self = Self(Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_0001));
    /// Where the pipeline's own heartbeat belongs (T3). No other monitor does.
    pub const PIPELINE: Self = Self(Uuid::nil());
}

impl MonitorId {
    /// Parses only the canonical form: lower case, hyphenated, as ping URLs require.
    pub fn parse_canonical(s: &str) -> Option<Self> {
        let id = Self(Uuid::try_parse(s).ok()?);
        (s.len() == 36 && !s.bytes().any(|b| b.is_ascii_uppercase())).then_some(id)
    }

    /// The ID of the monitor that a push token of Uptime Kuma belongs to, once it is imported: a UUID
    /// of version 8 (RFC 9562 §5.8), from a hash of the token. Like the token, it is a secret.
    pub fn of_push_token(token: &str) -> Self {
        let hash = Sha256::digest(format!("push token\0{token}"));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

impl AlertId {
    /// The text that the IDs of alerts created at `at` or later begin with, or that sorts before them.
    pub fn first_of(at: UnixMs) -> String {
        let hex = format!("{:012x}", at.0.max(0));
        format!("{}-{}", &hex[..8], &hex[8..])
    }

    /// When the alert was created, from its time-ordered id; milliseconds since the epoch.
    pub fn created_ms(self) -> i64 {
        timestamp_ms(self.0)
    }

    /// The ID of the group that these alerts form for a channel: as old as the newest of them, and otherwise a hash, so
    /// that a group that is formed twice is one group.
    pub fn of_group(channel: ChannelId, members: &[Self]) -> Self {
        let mut hash = Sha256::new_with_prefix(channel.0.as_bytes());
        for member in members {
            hash.update(member.0.as_bytes());
        }
        let mut tail = [0; 10];
        tail.copy_from_slice(&hash.finalize()[..10]);
        let newest = members.iter().map(|member| member.created_ms()).max();
        let ms = newest.unwrap_or(0).max(0).cast_unsigned();
        Self(uuid::Builder::from_unix_timestamp_millis(ms, &tail).into_uuid())
    }
}

impl RequestId {
    /// When the request was created, from its time-ordered id; milliseconds since the epoch.
    pub fn created_ms(self) -> i64 {
        timestamp_ms(self.0)
    }
}

fn timestamp_ms(id: Uuid) -> i64 {
    let (head, _) = id.as_u64_pair();
    (head >> 16).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{UnixMs, World, world::ManualWorld};

    #[test]
    fn an_alert_id_contains_its_creation_time() {
        let world = ManualWorld::new(UnixMs(1_763_700_000_123), 7);
        let id = AlertId(world.uuid_v7(world.now()));
        assert_eq!(id.created_ms(), 1_763_700_000_123);
    }

    #[test]
    fn the_same_alerts_form_the_same_group() {
        let world = ManualWorld::new(UnixMs(1_763_700_000_123), 7);
        let [a, b] = [0, 50].map(|ms| AlertId(world.uuid_v7(world.now() + ms)));
        let [one, other] = [(); 2].map(|()| ChannelId(world.uuid_v4()));
        let group = AlertId::of_group(one, &[a, b]);
        assert_eq!(group, AlertId::of_group(one, &[a, b]));
        assert_eq!(group.created_ms(), b.created_ms());
        for different in [
            AlertId::of_group(other, &[a, b]),
            AlertId::of_group(one, &[b]),
            AlertId::of_group(one, &[]),
        ] {
            assert_ne!(group, different);
        }
    }

    #[test]
    fn only_canonical_uuids_address_a_monitor() {
        let canonical = "0a1b2c3d-4e5f-4a0b-8c1d-2e3f40516273";
        assert!(MonitorId::parse_canonical(canonical).is_some());
        for other in [
            &canonical.to_uppercase(),
            &canonical.replace('-', ""),
            &format!("{{{canonical}}}"),
            "",
        ] {
            assert!(MonitorId::parse_canonical(other).is_none(), "{other}");
        }
    }
}
