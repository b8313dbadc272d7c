//! Where messages go: the forms of addresses.

use crate::error::Invalid;
use crate::network::Networks;
use std::net::IpAddr;

/// Maximum length of a webhook URL, in bytes.
pub const MAX_URL: usize = 2_000;

/// Checks the form of an e-mail address: a local part, `@` and a domain, no spaces or control
/// characters, at most 254 bytes.
pub fn check_email(field: &str, to: &str) -> Result<(), Invalid> {
    let fits = to.len() <= 254
        && to.split_once('@').is_some_and(|(user, domain)| {
            !user.is_empty() && !domain.is_empty() && !domain.contains('@')
        })
        && !to
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || "<>(),;:\"\\[]".contains(c));
    if fits {
        Ok(())
    } else {
        Err(Invalid::new(
            field,
            "must be an e-mail address, such as ops@example.org",
        ))
    }
}

/// Checks a phone number: E.164, `+` and 7 to 15 digits.
pub fn check_phone(field: &str, to: &str) -> Result<(), Invalid> {
    let fits = to.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0')
    });
    if fits {
        Ok(())
    } else {
        Err(Invalid::new(
            field,
            "must be a phone number in E.164 format, such as +491701234567",
        ))
    }
}

/// Checks the form of an SNS topic's ARN.
pub fn check_topic_arn(field: &str, arn: &str) -> Result<(), Invalid> {
    let parts: Vec<&str> = arn.split(':').collect();
    let fits = arn.len() <= 512
        && matches!(*parts, ["arn", partition, "sns", region, account, topic]
            if partition.starts_with("aws")
                && !region.is_empty()
                && account.len() == 12
                && account.bytes().all(|b| b.is_ascii_digit())
                && !topic.is_empty()
                && topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
    if fits {
        Ok(())
    } else {
        Err(Invalid::new(
            field,
            "must be the ARN of an SNS topic, such as arn:aws:sns:eu-central-1:123456789012:alerts",
        ))
    }
}

/// Checks a webhook URL: http or https, with a host, without credentials, at most [`MAX_URL`]
/// bytes. A literal IP address must be public or in `networks`; host names are checked when they
/// are resolved.
pub fn check_webhook_url(field: &str, url: &str, networks: &Networks) -> Result<(), Invalid> {
    let invalid = |problem: &str| Err(Invalid::new(field, problem));
    if url.len() > MAX_URL {
        return invalid(&format!(
            "must be at most {MAX_URL} bytes (got {})",
            url.len()
        ));
    }
    let Ok(url) = url::Url::parse(url) else {
        return invalid("must be a URL, such as https://example.org/hook");
    };
    if !matches!(url.scheme(), "http" | "https") {
        return invalid("must be an http or https URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return invalid("must not contain a user name or password");
    }
    if literal_address(&url).is_some_and(|address| !networks.admit(address)) {
        return invalid(
            "must not be a private address, unless the operator allows its network with `thrum serve --allow-networks`",
        );
    }
    match url.host() {
        Some(_) => Ok(()),
        None => invalid("must have a host"),
    }
}

/// The IP address in a URL, if it has one in place of a host name.
fn literal_address(url: &url::Url) -> Option<IpAddr> {
    match url.host()? {
        url::Host::Ipv4(address) => Some(address.into()),
        url::Host::Ipv6(address) => Some(address.into()),
        url::Host::Domain(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhook_urls_are_checked() {
        let check =
            |url: &str| check_webhook_url("url", url, &Networks::default()).map_err(|e| e.problem);
        assert!(check("https://example.org/hook?x=1").is_ok());
        for bad in [
            "",
            "example.org",
            "ftp://example.org",
            "https://",
            "file:///etc/passwd",
            "https://user:pw@example.org",
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            &format!("https://e.org/{}", "x".repeat(2_000)),
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check_webhook_url("url", "http://127.0.0.1:9/", &Networks::all()).is_ok());
    }

    #[test]
    fn recipient_addresses_are_checked() {
        assert!(check_email("to", "ops@example.org").is_ok());
        for bad in [
            "",
            "ops",
            "@example.org",
            "a@b@c",
            "a b@c.d",
            "ops@example.org\r\nBcc: x@y.z",
        ] {
            assert!(check_email("to", bad).is_err(), "{bad}");
        }
        assert!(check_phone("to", "+491701234567").is_ok());
        for bad in [
            "",
            "491701234567",
            "+0491701234567",
            "+12345",
            "+1234567890123456",
            "+49 170",
        ] {
            assert!(check_phone("to", bad).is_err(), "{bad}");
        }
        assert!(check_topic_arn("t", "arn:aws:sns:eu-central-1:123456789012:alerts").is_ok());
        for bad in [
            "",
            "arn:aws:sqs:eu-central-1:123456789012:x",
            "arn:aws:sns::123456789012:x",
            "arn:aws:sns:eu-central-1:12:x",
        ] {
            assert!(check_topic_arn("t", bad).is_err(), "{bad}");
        }
    }
}
