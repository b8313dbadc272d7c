//! Pings by e-mail. docs/compatibility.md §1.6.

use super::record::{By, Incoming, RecordError};
use super::{Monitors, Recorded};
use mail_parser::MessageParser;
use std::net::IpAddr;
use thrum_schema::monitor::KeywordFilter;
use thrum_schema::ping::{MAX_USER_AGENT, Ping, first_part};
use thrum_schema::{MonitorId, PingKind};
use thrum_store::{Rules, StoreError};

/// Longest address, in bytes. RFC 5321, 4.5.3.1.3.
const MAX_ADDRESS: usize = 254;
/// How much of an e-mail is searched for keywords, in bytes.
const MAX_SEARCHED: usize = 128_000;
/// For the thread that parses an e-mail, in bytes. The parser nests messages without a limit, and frees
/// them recursively: some 4,000 levels fit into [`MAX_SEARCHED`].
const STACK: usize = 128 << 20;

/// An e-mail that was received.
#[derive(Debug, Clone, Copy)]
pub struct Mail<'a> {
    /// The sender in its envelope.
    pub from: &'a str,
    /// Where it came from.
    pub peer: Option<IpAddr>,
    /// All of it: headers and body.
    pub raw: &'a [u8],
}

impl Monitors {
    /// The monitor to which an address belongs: `<uuid>@…` or `<ping key>+<slug>@…`. 1 to 3 RU.
    ///
    /// # Errors
    /// Several monitors have the slug, or the table failed.
    pub async fn mailbox(&self, address: &str) -> Result<Option<MonitorId>, RecordError> {
        let Some((local, _)) = address.rsplit_once('@') else {
            return Ok(None);
        };
        if address.len() > MAX_ADDRESS {
            return Ok(None);
        }
        if let Some((key, slug)) = local.split_once('+') {
            let Some(project) = self.accounts.project_of_ping_key(key).await? else {
                return Ok(None);
            };
            return self.named(project, By::Slug, slug).await;
        }
        let Some(id) = MonitorId::parse_canonical(&local.to_ascii_lowercase()) else {
            return Ok(None);
        };
        Ok(self.store.locate(id).await?.map(|_| id))
    }

    /// Records an e-mail to a monitor. Without a filter it is a success; otherwise the keywords in its
    /// subject and its texts decide.
    ///
    /// # Errors
    /// [`RecordError`].
    pub async fn record_mail(
        &self,
        to: MonitorId,
        mail: Mail<'_>,
    ) -> Result<Recorded, RecordError> {
        let found = self.store.snapshot(to).await?;
        let filter = &found.ok_or(RecordError::NotFound)?.monitor.filter;
        let (kind, text) = understood(filter, mail.raw)?;
        let (body, truncated) = first_part(mail.raw.to_vec(), self.config.body_limit);
        let sender: String = mail.from.chars().filter(|c| !c.is_control()).collect();
        let ua = format!("Email from {sender}");
        let ping = Ping {
            scheme: "email".to_owned(),
            remote_addr: mail.peer.map(|peer| peer.to_string()),
            ua: ua.chars().take(MAX_USER_AGENT).collect(),
            body,
            truncated,
            ..Ping::new(self.store.world().now(), kind)
        };
        let incoming = Incoming {
            kind,
            ping,
            rules: Rules::default(),
            text: Some(text),
        };
        self.record(to, incoming).await
    }
}

/// The kind of ping that a monitor's filter finds in an e-mail, and the e-mail's text for alerts.
fn understood(filter: &KeywordFilter, raw: &[u8]) -> Result<(PingKind, String), StoreError> {
    let raw = &raw[..raw.len().min(MAX_SEARCHED)];
    let parsed = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let thread = thread.spawn_scoped(scope, || parsed(filter, raw))?;
        Ok(thread.join().ok().flatten())
    });
    // The sender tries again.
    let parsed = parsed.map_err(|error: std::io::Error| {
        StoreError::Unavailable(format!("no thread to parse an e-mail: {error}"))
    })?;
    Ok(parsed.unwrap_or_else(|| (classified(filter, b""), String::new())))
}

fn classified(filter: &KeywordFilter, text: &[u8]) -> PingKind {
    if filter.subject || filter.body {
        filter.classify(text)
    } else {
        PingKind::Success
    }
}

fn parsed(filter: &KeywordFilter, raw: &[u8]) -> Option<(PingKind, String)> {
    // `Message::subject` panics on an empty message.
    let message = MessageParser::default().parse(raw)?;
    let subject = message.subject().unwrap_or_default();
    let texts = (0..message.text_body_count()).filter_map(|n| message.body_text(n));
    let text: Vec<String> = texts.map(Into::into).collect();
    let mut searched = Vec::new();
    if filter.subject {
        searched.push(subject.to_owned());
    }
    if filter.body {
        searched.extend(text.iter().cloned());
        let html = (0..message.html_body_count()).filter_map(|n| message.body_html(n));
        searched.extend(html.map(Into::into));
    }
    let kind = classified(filter, searched.join("\n").as_bytes());
    Some((kind, format!("{subject}\n{}", text.join("\n"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_found_in_subjects_and_texts_however_they_are_encoded() {
        let filter = |subject: bool, body: bool| KeywordFilter {
            failure: "FEHLER,größer".into(),
            success: "done".into(),
            subject,
            body,
            ..KeywordFilter::default()
        };
        let mail = "Subject: =?UTF-8?B?QmFja3VwOiBGRUhMRVI=?=\r\n\
                    MIME-Version: 1.0\r\n\
                    Content-Type: text/html; charset=utf-8\r\n\
                    Content-Transfer-Encoding: quoted-printable\r\n\r\n\
                    <p>all is do=\r\nne</p>";
        for (subject, body, kind) in [
            (true, false, PingKind::Fail),
            (false, true, PingKind::Success),
            (true, true, PingKind::Fail),
            (false, false, PingKind::Success),
        ] {
            let (found, text) = understood(&filter(subject, body), mail.as_bytes()).unwrap();
            assert_eq!(found, kind, "{subject} {body}");
            assert!(
                text.starts_with("Backup: FEHLER\n") && text.contains("all is done"),
                "{text}"
            );
        }
        // Messages in messages, deeper than the stack.
        for nested in [
            "Content-Type:message/rfc822\n\n",
            "Content-Type: Message (x) /rfc822\n\n",
        ] {
            let deep = format!("Subject: done\n{}", nested.repeat(34_000));
            assert_eq!(
                understood(&filter(true, true), deep.as_bytes()).unwrap().0,
                PingKind::Success
            );
        }
        // The same, where a search of the raw text doesn't see it.
        let deep = "Content-Type:message/rfc822\n\n".repeat(3_400);
        let deep = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, deep);
        let hidden = format!(
            "Subject: done\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n{deep}"
        );
        let digest = "Content-Type:multipart/digest;boundary=a\n\n--a\n\n".repeat(2_500);
        for deep in [hidden, format!("Subject: done\n{digest}")] {
            let found = understood(&filter(true, true), deep.as_bytes()).unwrap();
            assert_eq!(found.0, PingKind::Success);
        }
        // Latin-1, and no mail at all.
        let latin = b"Subject: gr\xf6\xdfer\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\ngr\xf6\xdfer";
        assert_eq!(
            understood(&filter(false, true), latin).unwrap().0,
            PingKind::Fail
        );
        for junk in [&b""[..], b"\xff\xfe", b"\r\n\r\n", b":::"] {
            assert_eq!(
                understood(&filter(true, true), junk).unwrap().0,
                PingKind::Ign
            );
        }
    }
}
