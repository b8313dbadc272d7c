//! Verifies the messages that Amazon SNS posts, and confirms subscriptions.
//!
//! AWS, Amazon SNS Developer Guide, "Verifying the signatures of Amazon SNS messages": SNS signs certain
//! fields, and publishes the certificate at an HTTPS address of its own, which vouches for it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::future::BoxFuture;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;
use thrum_schema::UnixMs;
use tokio::sync::Semaphore;
use url::Url;
use webpki::EndEntityCert;
use webpki::ring::RSA_PKCS1_2048_8192_SHA256;

/// Most certificates that are kept: SNS has one for each region.
const MAX_CERTIFICATES: usize = 32;
/// Most pages that are fetched at a time.
const MAX_FETCHES: usize = 4;
/// Longest URL, in bytes.
const MAX_URL: usize = 2_000;
/// SNS gives up on a message long before it is this old, in milliseconds: a day.
const MAX_AGE_MS: i64 = 86_400_000;

/// Fetches a page over HTTPS, without following redirects: at most 64 kB, within five seconds.
pub trait Fetch: Debug + Send + Sync {
    /// The body of a successful response.
    ///
    /// # Errors
    /// Why there is none, for the log.
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>>;
}

/// An SNS message. <https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html>
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

/// What an SNS message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Kind {
    /// Something was published.
    Notification,
    /// The topic asks whether it may send to this address.
    SubscriptionConfirmation,
    /// The topic sends no more.
    UnsubscribeConfirmation,
}

/// Why an SNS message is refused.
#[derive(Debug, Error)]
pub enum SnsError {
    /// It is not from SNS, or was changed.
    #[error("the message is not from SNS: {0}")]
    Forged(&'static str),
    /// The operator does not allow the topic.
    #[error(
        "this installation does not accept messages from this topic; the operator can add it to \
         SnsTopicArns (AWS) or --sns-topics (thrum serve)"
    )]
    Topic,
    /// SNS could not be reached.
    #[error("Thrum could not reach SNS; send the message again")]
    Unreachable,
}

/// Checks SNS messages.
#[derive(Debug)]
pub struct SnsMessages {
    fetch: Option<Arc<dyn Fetch>>,
    topics: Option<Vec<String>>,
    /// Certificates that have verified a message, by their URLs.
    certificates: Mutex<HashMap<Url, Arc<Vec<u8>>>>,
    /// Anyone with a ping key can cause a fetch.
    fetches: Semaphore,
}

impl SnsMessages {
    /// Accepts messages of these topics, or of any.
    pub fn new(fetch: Option<Arc<dyn Fetch>>, topics: Option<Vec<String>>) -> Self {
        Self {
            fetch,
            topics,
            certificates: Mutex::default(),
            fetches: Semaphore::new(MAX_FETCHES),
        }
    }

    /// Checks that SNS signed a message and that its topic is allowed. Fetches the certificate unless it
    /// is cached.
    ///
    /// # Errors
    /// [`SnsError`].
    pub async fn verify(&self, message: &Envelope, now: UnixMs) -> Result<(), SnsError> {
        let topics = self.topics.as_ref();
        if topics.is_some_and(|topics| !topics.contains(&message.topic_arn)) {
            return Err(SnsError::Topic);
        }
        let sent = UnixMs::parse("Timestamp", &message.timestamp)
            .map_err(|_| SnsError::Forged("its Timestamp is not a time"))?;
        if now - sent > MAX_AGE_MS {
            return Err(SnsError::Forged("its Timestamp is more than a day old"));
        }
        let url = certificate_url(&message.signing_cert_url)
            .ok_or(SnsError::Forged("SigningCertURL is not an SNS address"))?;
        let known = self.known().get(&url).cloned();
        if let Some(known) = known {
            return message.check_signature(&known);
        }
        let pem = self.fetched(&url).await?;
        let certificate = CertificateDer::from_pem_slice(&pem)
            .map_err(|_| SnsError::Forged("its certificate can't be read"))?
            .to_vec();
        message.check_signature(&certificate)?;
        let mut known = self.known();
        if known.len() >= MAX_CERTIFICATES {
            known.clear();
        }
        known.insert(url, Arc::new(certificate));
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Url, Arc<Vec<u8>>>> {
        self.certificates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Confirms that a topic may send to Thrum.
    ///
    /// # Errors
    /// [`SnsError`].
    pub async fn confirm(&self, message: &Envelope) -> Result<(), SnsError> {
        let url = message.subscribe_url.as_deref().and_then(sns_url);
        let url = url.ok_or(SnsError::Forged("SubscribeURL is not an SNS address"))?;
        self.fetched(&url).await.map(drop)
    }

    async fn fetched(&self, url: &Url) -> Result<Vec<u8>, SnsError> {
        let fetch = self.fetch.as_ref().ok_or(SnsError::Unreachable)?;
        let permit = self.fetches.try_acquire();
        let _permit = permit.map_err(|_| SnsError::Unreachable)?;
        fetch.get(url.as_str()).await.map_err(|error| {
            tracing::warn!(host = url.host_str(), error, "can't fetch an SNS page");
            SnsError::Unreachable
        })
    }
}

/// A URL, if it is an HTTPS address of SNS: `sns.<region>.amazonaws.com`. Other names of that form are
/// buckets of S3.
fn sns_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?.strip_prefix("sns.")?;
    let region = host
        .strip_suffix(".amazonaws.com")
        .or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let is_plain = url.scheme() == "https"
        && url.port().is_none()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
        && text.len() <= MAX_URL;
    (is_region(region) && is_plain).then_some(url)
}

/// Whether it is a region such as `eu-central-1` or `us-gov-west-1`.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [first, middle @ .., last] = &parts[..] else {
        return false;
    };
    let is_word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    first.len() == 2
        && is_word(first)
        && !middle.is_empty()
        && middle.iter().all(|part| is_word(part))
        && !last.is_empty()
        && last.bytes().all(|b| b.is_ascii_digit())
}

/// The URL of a certificate of SNS.
fn certificate_url(text: &str) -> Option<Url> {
    let url = sns_url(text).filter(|url| url.query().is_none())?;
    let name = url
        .path()
        .strip_prefix("/SimpleNotificationService-")?
        .strip_suffix(".pem")?;
    let is_hex = !name.is_empty() && name.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then_some(url)
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
        let pem = "SimpleNotificationService-9c6465fa.pem";
        for (host, path, is_certificate) in [
            ("sns.eu-central-1.amazonaws.com", pem, true),
            ("sns.cn-north-1.amazonaws.com.cn", pem, true),
            ("sns.us-gov-west-1.amazonaws.com", pem, true),
            ("sns.eu-central-1.amazonaws.com:444", pem, false),
            ("a@sns.eu-central-1.amazonaws.com", pem, false),
            ("sns.eu-central-1.amazonaws.com.evil.org", pem, false),
            ("sns.s3.amazonaws.com", pem, false),
            ("sns.s3-us-west-2.amazonaws.com", pem, false),
            ("sns..amazonaws.com", pem, false),
            ("sns.eu-central-1.amazonaws.com", "x.pem", false),
            (
                "sns.eu-central-1.amazonaws.com",
                &format!("{pem}?Action=x"),
                false,
            ),
            ("sns.eu-central-1.amazonaws.com", &format!("{pem}#x"), false),
            ("sns.eu-central-1.amazonaws.com", &format!("x/{pem}"), false),
        ] {
            let url = format!("https://{host}/{path}");
            assert_eq!(certificate_url(&url).is_some(), is_certificate, "{url}");
            assert!(certificate_url(&url.replace("https", "http")).is_none());
        }
    }
}
