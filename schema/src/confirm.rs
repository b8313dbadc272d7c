//! Proof that a person with access to an e-mail address agreed to get alerts there: a link, which only
//! the mail to that address contains.

use crate::id::{ChannelId, ProjectId};
use crate::key::{hash, same, signature};

/// The path of the link.
pub fn path(secret: &str, project: ProjectId, channel: ChannelId, to: &str) -> String {
    let token = token(secret, project, channel, to);
    format!("/confirm/{project}/{channel}/{token}")
}

/// Whether `given` is the token of the link that was sent to `to`.
pub fn is_token(
    given: &str,
    secret: &str,
    (project, channel): (ProjectId, ChannelId),
    to: &str,
) -> bool {
    same(given, &token(secret, project, channel, to))
}

/// What is stored instead of the address that confirmed.
pub fn address(to: &str) -> String {
    hash(to)
}

fn token(secret: &str, project: ProjectId, channel: ChannelId, to: &str) -> String {
    signature(secret, &format!("confirm\0{project}\0{channel}\0{to}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_link_is_good_for_one_channel_and_one_address() {
        let (project, channel) = (ProjectId::FIRST, ChannelId(Uuid::from_u128(1)));
        let path = path("secret", project, channel, "a@example.org");
        let token = path.rsplit('/').next().unwrap();
        let is = |secret, channel, to| is_token(token, secret, (project, channel), to);
        assert!(is("secret", channel, "a@example.org"));
        assert!(!is("secret", channel, "b@example.org"));
        assert!(!is("other", channel, "a@example.org"));
        assert!(!is(
            "secret",
            ChannelId(Uuid::from_u128(2)),
            "a@example.org"
        ));
    }
}
