//! SNS: topics, and text messages to phone numbers.

use super::lazy::{Lazy, MakeClient, unreachable};
use crate::error::SendError;
use crate::message::Message;
use aws_sdk_sns::Client;
use aws_sdk_sns::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sns::operation::publish::PublishError;
use aws_sdk_sns::types::MessageAttributeValue;
use std::collections::HashMap;
use std::fmt::Debug;

/// Publishes to SNS.
#[derive(Debug)]
pub struct Sns(Lazy<Client>);

impl Sns {
    /// Creates the client when it is first needed.
    pub fn lazy(make: MakeClient<Client>) -> Self {
        Self(Lazy::made_by(make))
    }

    /// Publishes through `client`.
    pub fn new(client: Client) -> Self {
        Self(Lazy::of(client))
    }

    pub(super) async fn publish(
        &self,
        topic_arn: &str,
        message: &Message,
    ) -> Result<Option<String>, SendError> {
        let sent = self
            .0
            .get()
            .await?
            .publish()
            .topic_arn(topic_arn)
            .subject(&message.sns_subject)
            .message(&message.text)
            .set_message_attributes(Some(attributes(message)?))
            .send()
            .await;
        note(sent.map(|answer| answer.message_id))
    }

    pub(super) async fn text(
        &self,
        number: &str,
        message: &Message,
    ) -> Result<Option<String>, SendError> {
        let sent = self
            .0
            .get()
            .await?
            .publish()
            .phone_number(number)
            .message(&message.sms)
            .message_attributes("AWS.SNS.SMS.SMSType", text_attribute("Transactional")?)
            .send()
            .await;
        note(sent.map(|answer| answer.message_id))
    }
}

/// The message attributes that subscribers can filter by.
fn attributes(message: &Message) -> Result<HashMap<String, MessageAttributeValue>, SendError> {
    let kind = message.json["type"].as_str().unwrap_or_default();
    Ok(HashMap::from([("type".to_owned(), text_attribute(kind)?)]))
}

fn text_attribute(value: &str) -> Result<MessageAttributeValue, SendError> {
    MessageAttributeValue::builder()
        .data_type("String")
        .string_value(value)
        .build()
        .map_err(|error| SendError::permanent(error.to_string()))
}

fn note<R: Debug + 'static>(
    sent: Result<Option<String>, SdkError<PublishError, R>>,
) -> Result<Option<String>, SendError> {
    sent.map(|id| id.map(|id| format!("SNS message {id}")))
        .map_err(|error| match error.code() {
            Some(code) => SendError {
                reason: format!("SNS answered {code}"),
                permanent: matches!(code, "InvalidParameter" | "NotFound"),
                wait_ms: 0,
            },
            None => unreachable("SNS"),
        })
}
