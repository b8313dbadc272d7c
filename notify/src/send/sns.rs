//! SNS: topics, and text messages to a number.

use super::SendError;
use crate::message::Message;
use aws_sdk_sns::Client;
use aws_sdk_sns::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sns::operation::publish::PublishError;
use aws_sdk_sns::types::MessageAttributeValue;
use std::fmt::Debug;
use tokio::sync::OnceCell;

/// Publishes to SNS. The client is made when it is first needed, unless it is given: most installations on one
/// machine never do.
#[derive(Debug, Default)]
pub struct Sns(OnceCell<Client>);

impl Sns {
    /// A publisher that finds its configuration where AWS's tools do.
    pub fn from_environment() -> Self {
        Self::default()
    }

    /// A publisher by `client`.
    pub fn new(client: Client) -> Self {
        Self(OnceCell::new_with(Some(client)))
    }

    async fn client(&self) -> &Client {
        self.0
            .get_or_init(|| async {
                let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
                Client::new(&config)
            })
            .await
    }

    pub(super) async fn publish(
        &self,
        topic_arn: &str,
        message: &Message,
    ) -> Result<Option<String>, SendError> {
        let kind = message.json["type"].as_str().unwrap_or_default();
        let sent = self
            .client()
            .await
            .publish()
            .topic_arn(topic_arn)
            .subject(message.sns_subject())
            .message(&message.text)
            .message_attributes("type", text_attribute(kind)?)
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
            .client()
            .await
            .publish()
            .phone_number(number)
            .message(&message.sms)
            .message_attributes("AWS.SNS.SMS.SMSType", text_attribute("Transactional")?)
            .send()
            .await;
        note(sent.map(|answer| answer.message_id))
    }
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
            },
            None => SendError::passing(
                "SNS could not be reached; AWS_REGION and credentials must be set as for the AWS CLI",
            ),
        })
}
