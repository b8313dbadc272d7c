//! Messages that Amazon SNS posts: whether they are genuine, and what to fetch for them.
//!
//! AWS, Amazon SNS Developer Guide, "Verifying the signatures of Amazon SNS messages": SNS signs certain
//! fields, and publishes the certificate at an HTTPS address of its own, which vouches for it.

use super::cache::Cache;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::future::BoxFuture;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};
use serde::Deserialize;
use std::fmt::Debug;
use std::sync::Arc;
use thiserror::Error;
use thrum_schema::UnixMs;
use url::Url;
use webpki::EndEntityCert;
use webpki::ring::RSA_PKCS1_2048_8192_SHA256;

/// Fetches a page over HTTPS, without following redirects: at most 64 kB, within five seconds.
pub trait Fetch: Debug + Send + Sync {
    /// The body of a successful response.
    ///
    /// # Errors
    /// Why there is none, for the log.
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>>;
}

/// A message of SNS. <https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html>
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Envelope {
    /// What it is.
    #[serde(rename = "Type")]
    pub kind: Kind,
    /// The topic.
    pub topic_arn: String,
    /// What was published.
    pub message: String,
    message_id: String,
    timestamp: String,
    subject: Option<String>,
    token: Option<String>,
    #[serde(rename = "SubscribeURL")]
    subscribe_url: Option<String>,
    signature_version: String,
    signature: String,
    #[serde(rename = "SigningCertURL")]
    signing_cert_url: String,
}

/// What a message of SNS is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Kind {
    /// Something was published.
    Notification,
    /// The topic asks whether it may send to this address.
    SubscriptionConfirmation,
    /// The topic sends no more.
    UnsubscribeConfirmation,
}

/// Why a message of SNS is refused.
#[derive(Debug, Error)]
pub enum SnsError {
    /// It is not from SNS, or was changed.
    #[error("the message is not from SNS: {0}")]
    Forged(&'static str),
    /// The operator does not allow the topic.
    #[error(
        "this installation accepts no messages of this topic; the operator can add it to --sns-topics"
    )]
    Topic,
    /// SNS could not be reached.
    #[error("SNS could not be reached; send it again")]
    Unreachable,
}

/// Checks messages of SNS.
#[derive(Debug)]
pub struct SnsMessages {
    fetch: Option<Arc<dyn Fetch>>,
    topics: Option<Vec<String>>,
    certificates: Cache<String, Arc<Vec<u8>>>,
}

impl SnsMessages {
    /// Accepts messages of these topics, or of any.
    pub fn new(fetch: Option<Arc<dyn Fetch>>, topics: Option<Vec<String>>) -> Self {
        Self {
            fetch,
            topics,
            certificates: Cache::default(),
        }
    }

    /// Checks that a message is signed by SNS, and about an allowed topic. Fetches the certificate, if
    /// it did not lately.
    ///
    /// # Errors
    /// [`SnsError`].
    pub async fn verify(&self, message: &Envelope, now: UnixMs) -> Result<(), SnsError> {
        let topics = self.topics.as_ref();
        if topics.is_some_and(|topics| !topics.contains(&message.topic_arn)) {
            return Err(SnsError::Topic);
        }
        let url = sns_url(&message.signing_cert_url)
            .filter(|url| url.path().ends_with(".pem"))
            .ok_or(SnsError::Forged("SigningCertURL does not lead to SNS"))?;
        let certificate = match self.certificates.get(&url.to_string(), now) {
            Some(known) => known,
            None => {
                let pem = self.fetched(&url).await?;
                let der = CertificateDer::from_pem_slice(&pem)
                    .map_err(|_| SnsError::Forged("its certificate can't be read"))?;
                let der = Arc::new(der.to_vec());
                self.certificates.put(url.into(), Arc::clone(&der), now);
                der
            }
        };
        message.check_signature(&certificate)
    }

    /// Confirms that a topic may send to Thrum.
    ///
    /// # Errors
    /// [`SnsError`].
    pub async fn confirm(&self, message: &Envelope) -> Result<(), SnsError> {
        let url = message.subscribe_url.as_deref().and_then(sns_url);
        let url = url.ok_or(SnsError::Forged("SubscribeURL does not lead to SNS"))?;
        self.fetched(&url).await.map(drop)
    }

    async fn fetched(&self, url: &Url) -> Result<Vec<u8>, SnsError> {
        let fetch = self.fetch.as_ref().ok_or(SnsError::Unreachable)?;
        fetch.get(url.as_str()).await.map_err(|error| {
            tracing::warn!(host = url.host_str(), error, "can't fetch a page of SNS");
            SnsError::Unreachable
        })
    }
}

/// A URL, if it is an HTTPS address of SNS.
fn sns_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?;
    let region = host.strip_prefix("sns.").and_then(|rest| {
        rest.strip_suffix(".amazonaws.com")
            .or_else(|| rest.strip_suffix(".amazonaws.com.cn"))
    })?;
    let is_region = !region.is_empty()
        && region
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let is_plain = url.scheme() == "https"
        && url.port().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    (is_region && is_plain).then_some(url)
}

impl Envelope {
    /// What SNS signs: the names and values of certain fields, one per line.
    fn signed(&self) -> String {
        let subject = self.subject.as_ref();
        let fields: [(&str, Option<&String>); 8] = match self.kind {
            Kind::Notification => [
                ("Message", Some(&self.message)),
                ("MessageId", Some(&self.message_id)),
                ("Subject", subject),
                ("Timestamp", Some(&self.timestamp)),
                ("TopicArn", Some(&self.topic_arn)),
                ("", None),
                ("", None),
                ("", None),
            ],
            _ => [
                ("Message", Some(&self.message)),
                ("MessageId", Some(&self.message_id)),
                ("SubscribeURL", self.subscribe_url.as_ref()),
                ("Timestamp", Some(&self.timestamp)),
                ("Token", self.token.as_ref()),
                ("TopicArn", Some(&self.topic_arn)),
                ("", None),
                ("", None),
            ],
        };
        let kind = format!("{:?}", self.kind);
        let lines = fields
            .iter()
            .filter_map(|(name, value)| Some((*name, (*value)?)));
        lines
            .chain([("Type", &kind)])
            .map(|(name, value)| format!("{name}\n{value}\n"))
            .collect()
    }

    fn check_signature(&self, certificate: &[u8]) -> Result<(), SnsError> {
        let signature = BASE64_STANDARD
            .decode(&self.signature)
            .map_err(|_| SnsError::Forged("its signature is not base64"))?;
        let algorithm: &dyn SignatureVerificationAlgorithm = match &*self.signature_version {
            "1" => &RsaSha1,
            "2" => RSA_PKCS1_2048_8192_SHA256,
            _ => return Err(SnsError::Forged("its SignatureVersion is not 1 or 2")),
        };
        let certificate = CertificateDer::from(certificate);
        let certificate = EndEntityCert::try_from(&certificate)
            .map_err(|_| SnsError::Forged("its certificate can't be read"))?;
        certificate
            .verify_signature(algorithm, self.signed().as_bytes(), &signature)
            .map_err(|_| SnsError::Forged("its signature is wrong"))
    }
}

/// RSA with SHA-1, which SNS uses unless a topic says otherwise (`SignatureVersion` 1).
#[derive(Debug)]
struct RsaSha1;

impl SignatureVerificationAlgorithm for RsaSha1 {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let algorithm = &ring::signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY;
        ring::signature::UnparsedPublicKey::new(algorithm, public_key)
            .verify(message, signature)
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::RSA_ENCRYPTION
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        // sha1WithRSAEncryption, RFC 3279.
        AlgorithmIdentifier::from_slice(&[
            0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05, 0x05, 0x00,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_sns_are_fetched() {
        for (url, is_sns) in [
            (
                "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem",
                true,
            ),
            ("https://sns.cn-north-1.amazonaws.com.cn/x.pem", true),
            ("http://sns.eu-central-1.amazonaws.com/x.pem", false),
            ("https://sns.eu-central-1.amazonaws.com:444/x.pem", false),
            ("https://a@sns.eu-central-1.amazonaws.com/x.pem", false),
            (
                "https://sns.eu-central-1.amazonaws.com.evil.org/x.pem",
                false,
            ),
            ("https://sns.evil.org/.amazonaws.com/x.pem", false),
            ("https://sns.a.b.amazonaws.com/x.pem", false),
            ("https://bucket.s3.amazonaws.com/x.pem", false),
            ("https://sns..amazonaws.com/x.pem", false),
        ] {
            assert_eq!(sns_url(url).is_some(), is_sns, "{url}");
        }
    }
}
