//! The link in a message to the page of its alert, where anyone who has the message can acknowledge
//! the alert and snooze its monitor. It is signed, and good for a week.

use crate::alert::Alert;
use crate::id::{AlertId, ProjectId};
use crate::key::{same, signature};
use crate::time::UnixMs;

/// How long a link is good, in milliseconds.
pub const LASTS_MS: i64 = 7 * 86_400_000;
/// How much of the signature is in the link, in hexadecimal digits: 128 bits.
const DIGITS: usize = 32;

/// The path of the link to an alert. `secret` is the project's.
pub fn path(secret: &str, alert: &Alert) -> String {
    let (project, id) = (alert.project, alert.id);
    format!("/a/{project}/{id}/{}", token(secret, project, id))
}

/// Whether `given` is the token of the link to an alert, and still good.
pub fn is_good(
    given: &str,
    secret: &str,
    (project, alert): (ProjectId, AlertId),
    now: UnixMs,
) -> bool {
    !secret.is_empty()
        && same(given, &token(secret, project, alert))
        && now - UnixMs(alert.created_ms()) < LASTS_MS
}

fn token(secret: &str, project: ProjectId, alert: AlertId) -> String {
    let mut token = signature(secret, &format!("alert\0{project}\0{alert}"));
    token.truncate(DIGITS);
    token
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::AlertKind;
    use crate::id::ChannelId;
    use crate::world::{ManualWorld, World};
    use uuid::Uuid;

    #[test]
    fn a_link_is_good_for_one_alert_and_a_week() {
        let world = ManualWorld::new(UnixMs(1_763_700_000_000), 1);
        let now = world.now();
        let id = AlertId(world.uuid_v7(now));
        let (project, channel) = (ProjectId::FIRST, ChannelId(Uuid::from_u128(1)));
        let alert = Alert::of_channel(id, project, AlertKind::Test, channel);
        let path = path("secret", &alert);
        let token = path.rsplit('/').next().unwrap();
        assert!(is_good(token, "secret", (project, id), now));
        assert!(!is_good(token, "other", (project, id), now));
        assert!(!is_good(token, "secret", (project, id), now + LASTS_MS));
        let other = AlertId(world.uuid_v7(now));
        assert!(!is_good(token, "secret", (project, other), now));
        assert!(!is_good(&token[1..], "secret", (project, id), now));
        assert!(!is_good("", "", (project, id), now));
    }
}
