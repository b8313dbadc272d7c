//! E-mails by SMTP. Without a server, they are printed.

use super::SendError;
use crate::message::Message;
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::Error as SmtpError;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::time::Duration;

/// Timeout of the whole exchange with the server.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Sends e-mails.
pub struct Email {
    from: Mailbox,
    transport: Option<AsyncSmtpTransport<Tokio1Executor>>,
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email")
            .field("smtp", &self.transport.is_some())
            .finish_non_exhaustive()
    }
}

impl Email {
    /// Sends from the mailbox `from` through the server at `smtp_url` (`smtp://`, or `smtps://` and
    /// `smtp://…?tls=required` for TLS; user name and password in the URL). Without a URL, e-mails
    /// are printed.
    ///
    /// # Errors
    /// `from` or `smtp_url` is invalid.
    pub fn new(from: &str, smtp_url: Option<&SecretString>) -> Result<Self, String> {
        let from = from
            .parse()
            .map_err(|error| format!("the sender address of e-mails is invalid: {error}"))?;
        let transport = match smtp_url {
            None => None,
            Some(url) => Some(
                AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose_secret())
                    .map_err(|error| format!("the SMTP URL is invalid: {error}"))?
                    .timeout(Some(TIMEOUT))
                    .build(),
            ),
        };
        Ok(Self { from, transport })
    }

    pub(crate) async fn send(
        &self,
        to: &str,
        key: &str,
        message: &Message,
    ) -> Result<Option<String>, SendError> {
        let Some(transport) = &self.transport else {
            println!(
                "\n┌ e-mail to {to} (printed: no SMTP server is set)\n│ {}\n│\n│ {}\n└",
                message.subject,
                message.text.replace('\n', "\n│ ")
            );
            return Ok(Some(format!(
                "printed, because no SMTP server is set: {}",
                message.subject
            )));
        };
        let address: Address = to
            .parse()
            .map_err(|_| SendError::permanent("the channel's e-mail address is invalid"))?;
        let id = format!("<{key}@{}>", self.from.email.domain());
        let email = lettre::Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, address))
            .subject(&message.subject)
            // The same at every attempt, so that a mailbox can drop duplicates.
            .message_id(Some(id))
            .multipart(MultiPart::alternative_plain_html(
                message.text.clone(),
                message.html(),
            ))
            .map_err(|error| SendError::permanent(error.to_string()))?;
        match tokio::time::timeout(TIMEOUT, transport.send(email)).await {
            Ok(Ok(answer)) => Ok(Some(format!("{}", answer.code()))),
            Ok(Err(error)) => Err(reason(&error)),
            Err(_) => Err(SendError::passing(format!(
                "the mail server did not answer within {} s",
                TIMEOUT.as_secs()
            ))),
        }
    }
}

/// What went wrong, without the server's own text, which may contain addresses.
fn reason(error: &SmtpError) -> SendError {
    match error.status() {
        Some(code) => SendError::passing(format!("the mail server answered {code}")),
        None if error.is_timeout() => SendError::passing("the mail server did not answer in time"),
        None if error.is_tls() => SendError::passing("TLS with the mail server failed"),
        None => SendError::passing("the mail server could not be reached"),
    }
}
