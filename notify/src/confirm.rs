//! E-mail channels whose mail goes through a mail server: asks each address to confirm, and sends it
//! nothing else before it has.

use crate::message::Message;
use crate::send::{Email, Mail, SendError};
use crate::{Notify, NotifyError};
use secrecy::{ExposeSecret, SecretString};
use thrum_schema::channel::{Channel, ChannelKind, Subscription, SubscriptionState};
use thrum_schema::confirm::{address, path};
use thrum_schema::delivery::MAX_ERROR;
use thrum_schema::id::{ChannelId, ProjectId};
use thrum_schema::notice::Notice;
use thrum_store::{Claim, StoreError};

/// How many such mails a project may cause per day, and how many of them to one address.
const PER_PROJECT: u32 = 20;
const PER_ADDRESS: u32 = 3;

/// How the link in the mail is made.
#[derive(Debug, Clone)]
pub struct Confirm {
    /// The URL of this site, without a trailing slash.
    pub site: String,
    /// Signs the link.
    pub secret: SecretString,
}

impl Notify {
    /// Sends a message, unless it is an e-mail to an address that was asked to confirm and has not. An
    /// address that was never asked is one of an installation that does not ask.
    pub(crate) async fn send(
        &self,
        channel: &Channel,
        message: &Message,
        claim: &Claim,
    ) -> Result<Result<Option<String>, SendError>, NotifyError> {
        self.may_send().await?;
        if let (Mail::Smtp(_), ChannelKind::Email { to }, true) = (
            &self.sender.mail,
            &channel.via,
            self.config.confirm.is_some(),
        ) {
            let asked = self.store.subscription(channel.project, channel.id).await?;
            if asked.is_some_and(|asked| !asked.is_confirmed_by(to)) {
                return Ok(Err(SendError::passing(
                    "the address has not confirmed yet: open the link in the mail from Thrum",
                )));
            }
        }
        #[cfg(feature = "aws")]
        if let (Mail::Topics(topics), ChannelKind::Email { to }) = (&self.sender.mail, &channel.via)
        {
            let arn = topics.arn(channel.id, to);
            if !topics.knows(&arn) {
                let stored = self.store.subscription(channel.project, channel.id).await?;
                let now = self.store.world().now();
                topics.believe(&arn, stored.as_ref(), now);
            }
        }
        Ok(self.sender.send(channel, message, claim).await)
    }

    /// Asks the address of an e-mail channel to confirm, if that was requested.
    pub(crate) async fn ask_to_confirm(
        &self,
        email: &Email,
        project: ProjectId,
        id: ChannelId,
    ) -> Result<(), NotifyError> {
        // In this order: an edit in between is asked for again.
        let known = self.store.subscription(project, id).await?;
        let channel = self.store.channel(project, id).await?;
        let (Some(confirm), Some(known)) = (&self.config.confirm, known) else {
            return Ok(());
        };
        let to = channel.and_then(|channel| match channel.via {
            ChannelKind::Email { to } => Some(to),
            _ => None,
        });
        let Some(to) = to else {
            return Ok(self.store.delete_subscription(project, id).await?);
        };
        if !known.asks() {
            return Ok(());
        }
        let now = self.store.world().now();
        let begun = Some(now.max(known.wanted.unwrap_or(now)));
        let mut asked = Subscription {
            begun,
            checked: Some(now),
            next: None,
            error: None,
            failures: 0,
            ..known.clone()
        };
        if !known.is_confirmed_by(&to) {
            asked.state = Some(SubscriptionState::Pending);
            asked.address = Some(address(&to));
            if let Err(error) = self.mail_link(email, confirm, (project, id), &to).await? {
                asked.begun = known.begun;
                asked.error = Some(error.reason.chars().take(MAX_ERROR).collect());
                asked.failures = known.failures.saturating_add(1);
                asked.next = Some(asked.look_after(now));
            }
        }
        match self.store.put_subscription(project, id, &asked).await {
            // Requested again in the meantime: that has its own timer.
            Ok(()) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends the mail with the link, within the limits. It contains nothing that a user wrote.
    async fn mail_link(
        &self,
        email: &Email,
        confirm: &Confirm,
        (project, id): (ProjectId, ChannelId),
        to: &str,
    ) -> Result<Result<(), SendError>, NotifyError> {
        let now = self.store.world().now();
        let to_address = format!("confirmations#{}", address(to));
        // The address's limit holds across projects.
        let limits = [
            (ProjectId::PIPELINE, to_address.as_str(), PER_ADDRESS),
            (project, "confirmations", PER_PROJECT),
        ];
        for (of, meter, limit) in limits {
            if !self.store.take(of, meter, now, Some(limit)).await? {
                return Ok(Err(SendError::passing(
                    "too many such mails were sent today; Thrum tries again tomorrow",
                )));
            }
        }
        let site = &confirm.site;
        let link = path(confirm.secret.expose_secret(), project, id, to);
        let message = Message::of_notice(Notice {
            title: "Confirm this address for alerts".to_owned(),
            text: format!(
                "Someone asked Thrum at {site} to send alerts to this address.\n\n\
                 To get them, open this page and confirm:\n\n{site}{link}\n\n\
                 If you don't know what this is about, ignore this mail: Thrum sends nothing without \
                 your confirmation."
            ),
            ..Notice::default()
        });
        let key = format!("confirm.{}.{id}", now.0);
        Ok(email.send(to, &key, &message).await.map(drop))
    }
}
